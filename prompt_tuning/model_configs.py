"""The config of a model from its checkpoint, which says it or shows it by its shapes."""

from typing import Any

from prompt_tuning import checks, formats
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.models.llama_config import LlamaConfig


def of(found: Checkpoint, **changes: Any) -> ModelConfig:
  """The config of the model in a checkpoint.

  Args:
    found: The checkpoint.
    **changes: Fields that no checkpoint has, such as the dtype of activations.

  Raises:
    InputError: It is of no family that is known.
  """
  if found.family == "llama":
    return LlamaConfig(**{**found.facts, **changes})
  return T5Config.of_shapes(found.shapes, **{**found.facts, **changes})


def t5_of(found: Checkpoint) -> T5Config:
  """The config of the T5 in a checkpoint.

  Raises:
    InputError: It holds another model.
  """
  config = of(found)
  if not isinstance(config, T5Config):
    raise checks.InputError(
      f"the checkpoint {found.path} holds a model of the family {found.family}, expected a "
      "T5; choose one"
    )
  return config


def of_checkpoint(
  path: str,
  dropout_rate: float = 0.0,
  dtype: str = "float32",
  remat: str = "none",
  family: str | None = None,
) -> ModelConfig:
  """The config of the model at a path, as gin asks for it.

  Args:
    path: A checkpoint of any format; only what it says of itself is read.
    dropout_rate: See `T5Config`.
    dtype: See `T5Config`.
    remat: See `T5Config`.
    family: That it must be of; None takes any.

  Raises:
    InputError: There is none, or it is of another family or of none that is known.
  """
  found = formats.load(path)
  if family not in (None, found.family):
    raise checks.InputError(
      f"the checkpoint {found.path} holds a model of the family {found.family}, expected "
      f"{family}; choose the model file of its family"
    )
  return of(found, dropout_rate=dropout_rate, dtype=dtype, remat=remat)
