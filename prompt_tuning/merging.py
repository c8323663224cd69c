"""A trained method folded into the weights of its model, which is a plain T5 again."""

import dataclasses

import numpy as np

from prompt_tuning import (
  assembly,
  checks,
  convert,
  files,
  formats,
  inspection,
  model_configs,
)
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Index, Leaf, cast
from prompt_tuning.checkpoints.method_files import MethodFile
from prompt_tuning.methods import method as methods
from prompt_tuning.methods.method import Change, Mergeable, Method
from prompt_tuning.models.t5 import T5
from prompt_tuning.training.state import Split
from prompt_tuning.types import Shape

_AS_IT_IS = convert.Options()


@dataclasses.dataclass(frozen=True)
class Changed:
  """A weight that becomes another one when it is read, in float32 until it is cast."""

  leaf: Leaf
  change: Change

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.leaf.shape

  @property
  def dtype(self) -> np.dtype:
    """See `Leaf`."""
    return self.leaf.dtype

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    values = self.change(self.leaf.read(None, np.dtype(np.float32)))
    return cast(values if index is None else values[index], dtype or self.dtype)


def merge(
  source: str, target: str, model: str, options: convert.Options = _AS_IT_IS
) -> str:
  """Writes a T5X checkpoint that answers like a model with what a method has learned.

  Weights are read, changed and written one after the other.

  Args:
    source: A MODEL_DIR or its `method.safetensors`.
    target: A new folder.
    model: The checkpoint that the method was trained for, of any format.
    options: See `convert.Options`; there is no base.

  Returns:
    The path that was written.

  Raises:
    InputError: The method cannot be merged, or was trained for another model.
  """
  options.check("t5x")
  file = formats.find_method(source)
  if file is None:
    raise checks.InputError(
      f"{source} holds no method, expected the MODEL_DIR of IA3 or LoRA, or its "
      "method.safetensors; correct the path"
    )
  method = methods.of_settings(file.method, file.settings)
  if not isinstance(method, Mergeable):
    known = checks.one_of(_mergeable())
    raise checks.InputError(
      f"{file.path} holds the method {file.method}, expected {known}: the others are no "
      "change of weights; use it as it is, with `prompt-tuning eval` or `infer`"
    )
  base = formats.load(model)
  _check_trained_for(file, method, base)
  changes = method.merged(file.tensors)
  leaves = {
    name: Changed(leaf, changes[name]) if name in changes else leaf
    for name, leaf in base.leaves.items()
  }
  changed = Checkpoint(base.path, base.format, leaves, step=base.step, facts=base.facts)
  return convert.write_t5x(changed, files.path(target), options)


def _mergeable() -> list[str]:
  """The names of the methods that can be merged."""
  return [name for name in methods.METHODS if hasattr(methods.kind(name), "merged")]


def _check_trained_for(file: MethodFile, method: Method, base: Checkpoint) -> None:
  """Raises `InputError` where a method belongs to another model."""
  shapes = methods.shapes(method, T5.abstract(model_configs.t5_of(base)))
  assembly.check_tensors(file, Split.of(shapes))
  trained_on, here = file.metadata.get("base_fingerprint"), inspection.fingerprint(base)
  if trained_on not in (None, here):
    raise checks.InputError(
      f"the method {file.path} was trained on the model {trained_on}, {base.path} is "
      f"{here}; choose the --model it was trained for"
    )
