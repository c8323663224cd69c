"""A checkpoint onto a model: every name accounted for, or no model at all."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.checkpoints.t5x import Checkpoint
from prompt_tuning.types import Array, Shape

_REMEDY = (
  "choose the model config that the checkpoint was made with, or name what may be "
  "drawn at random in utils.RestoreCheckpointConfig.initialise"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreCheckpointConfig:
  """Where the frozen weights come from.

  Attributes:
    path: A T5X checkpoint: a step folder, its file, or a folder of steps (latest).
    dtype: "float32" or "bfloat16" to cast on the way in; None keeps what is stored.
    ignore: Regular expressions of names that the file may have beyond the model's.
    initialise: Regular expressions of names that the file may lack; those weights are
      drawn at random. Without it no weight ever is.
  """

  path: str
  dtype: str | None = None
  ignore: Sequence[str] = (".*prompt.*",)
  initialise: Sequence[str] = ()


def restore(
  checkpoint: Checkpoint,
  expected: dict[str, Shape],
  *,
  ignore: Sequence[str] = (),
  initialise: Sequence[str] = (),
  dtype: str | None = None,
) -> dict[str, Array]:
  """Reads exactly the parameters that a model has.

  Args:
    checkpoint: Where they are.
    expected: {path: shape} of the model.
    ignore: Regular expressions (full match) of names in the checkpoint that the model
      does not have and need not have, e.g. an old prompt.
    initialise: Regular expressions of names in the model that the checkpoint may lack.
    dtype: Cast on the way in; None keeps what is stored.

  Returns:
    {path: array} in the order of `expected`, without the names to initialise.

  Raises:
    InputError: Names are missing (-) or unexpected (+), or shapes differ; all are listed.
  """
  checks.names(
    f"the checkpoint {checkpoint.path}",
    _unmatched(expected.keys() - checkpoint.keys(), initialise),
    _unmatched(checkpoint.keys() - expected.keys(), ignore),
    _REMEDY,
  )
  expected = {name: shape for name, shape in expected.items() if name in checkpoint}
  wrong = [
    f"  {name}: {list(checkpoint.shapes[name])}, the model has {list(shape)}"
    for name, shape in expected.items()
    if checkpoint.shapes[name] != tuple(shape)
  ]
  if wrong:
    raise checks.InputError(
      f"the checkpoint {checkpoint.path} is of another size than the model; {_REMEDY}\n"
      + "\n".join(wrong)
    )
  return {
    name: jnp.asarray(checkpoint[name], dtype=dtype and jnp.dtype(dtype))
    for name in expected
  }


def _unmatched(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
  return [n for n in names if not any(re.fullmatch(p, n) for p in patterns)]
