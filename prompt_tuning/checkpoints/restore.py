"""A checkpoint onto a model: every name accounted for, or no model at all."""

import dataclasses
import re
from collections.abc import Sequence

import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.checkpoints.t5x import Checkpoint
from prompt_tuning.types import Array, Shape

_REMEDY = (
  "choose the model config that the checkpoint was made with, or name what may be "
  "initialised"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreCheckpointConfig:
  """Where the frozen weights come from.

  Attributes:
    path: A T5X checkpoint: a step folder, its file, or a folder of steps (latest).
    dtype: "float32" or "bfloat16" to cast on the way in; None keeps what is stored.
    ignore: Regular expressions of names that the file may have beyond the model's.
  """

  path: str
  dtype: str | None = None
  ignore: Sequence[str] = (".*prompt.*",)


def restore(
  checkpoint: Checkpoint,
  expected: dict[str, Shape],
  *,
  ignore: Sequence[str] = (),
  dtype: str | None = None,
) -> dict[str, Array]:
  """Reads exactly the parameters that a model has.

  Args:
    checkpoint: Where they are.
    expected: {path: shape} of the model.
    ignore: Regular expressions (full match) of names in the checkpoint that the model
      does not have and need not have, e.g. an old prompt.
    dtype: Cast on the way in; None keeps what is stored.

  Returns:
    {path: array} in the order of `expected`.

  Raises:
    InputError: Names are missing (-) or unexpected (+), or shapes differ; all are listed.
  """
  unexpected = [
    name
    for name in checkpoint.keys() - expected.keys()
    if not any(re.fullmatch(pattern, name) for pattern in ignore)
  ]
  checks.names(
    f"the checkpoint {checkpoint.path}",
    expected.keys() - checkpoint.keys(),
    unexpected,
    _REMEDY,
  )
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
