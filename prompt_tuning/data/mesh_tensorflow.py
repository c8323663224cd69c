"""Mesh TensorFlow's T5 checkpoints: TensorFlow variables under T5X's names.

  model.ckpt-<step>.index, model.ckpt-<step>.data-00000-of-00002, ...
  checkpoint                    text that names the latest of them

Kernels lie as T5X's do, so nothing is transposed. Adafactor's slots are left aside.
"""

import dataclasses
import re
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks
from prompt_tuning.data import quiet
from prompt_tuning.types import Shape

_INDEX = ".index"
_STEP = re.compile(r".*-(\d+)\.index")
_LATEST = re.compile(r'model_checkpoint_path: "(?:(?:gs:/)?/[^"]*/)?([^"/]+)"')
_SLOT = re.compile(r".*_slot_\w+")
_STEP_VARIABLE = "global_step"
_KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out"}
_NORMS = {
  "encoder": ("pre_attention", "pre_mlp"),
  "decoder": ("pre_self_attention", "pre_cross_attention", "pre_mlp"),
  "transformer": ("pre_self_attention", "pre_mlp"),
}
_TOWERS = {"encoder": "encoder", "decoder": "decoder", "transformer": "decoder"}
_BLOCK = re.compile(r"(\w+)/block_(\d+)/layer_(\d+)/(.+)")
_ATTENTION = re.compile(r"(SelfAttention|EncDecAttention)/([qkvo])")
_MLP = re.compile(r"(?:\w+/)?(wi|wi_0|wi_1|wo)/kernel")
_NORM = re.compile(r"(?:layer|rms)_norm/scale")
_POSITIONS = "SelfAttention/relative_attention_bias"


@dataclasses.dataclass(frozen=True)
class Variable:
  """One variable, read whole; see `checkpoints.leaves.Leaf`."""

  shape: Shape
  dtype: np.dtype
  reader: Any
  name: str
  prefix: epath.Path

  def read(
    self, index: tuple[slice, ...] | None = None, dtype: np.dtype | None = None
  ) -> np.ndarray:
    """See `checkpoints.leaves.Leaf`."""
    try:
      array = np.asarray(self.reader.get_tensor(self.name))
    except Exception as error:  # TensorFlow has many kinds
      raise checks.InputError(
        f"the variable {self.name} of the checkpoint {self.prefix} cannot be read "
        f"({str(error).splitlines()[0][:200]}), expected index and data files that belong "
        "together; copy them again"
      ) from error
    array = array if index is None else array[index]
    return array if dtype is None else array.astype(dtype)


@dataclasses.dataclass(frozen=True)
class Found:
  """What a checkpoint holds.

  Attributes:
    step: Training step.
    leaves: {T5X path: variable}.
    unknown: Names of variables that T5X has no name for.
  """

  step: int
  leaves: dict[str, Variable]
  unknown: list[str]


def find(path: epath.Path) -> epath.Path | None:
  """The prefix (`model.ckpt-<step>`) that a path means, or None where there is none.

  A path is a prefix, its index file, or a folder of them (the one that the file
  `checkpoint` names, else the latest).
  """
  if path.name.endswith(_INDEX) and path.is_file():
    return path.parent / path.name.removesuffix(_INDEX)
  if (path.parent / (path.name + _INDEX)).is_file():
    return path
  if not path.is_dir():
    return None
  found = [child for child in path.iterdir() if child.name.endswith(_INDEX)]
  if not found:
    return None
  named = _named(path / "checkpoint")
  if any(child.name == f"{named}{_INDEX}" for child in found):
    return path / str(named)
  return path / max(found, key=_order).name.removesuffix(_INDEX)


def read(prefix: epath.Path) -> Found:
  """Opens the checkpoint of a prefix.

  Raises:
    ValueError: It is damaged.
  """
  tf = quiet.import_tensorflow()
  try:
    reader = tf.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    kinds = reader.get_variable_to_dtype_map()
    step = int(reader.get_tensor(_STEP_VARIABLE)) if _STEP_VARIABLE in shapes else 0
  except Exception as error:  # TensorFlow has many kinds
    raise ValueError(str(error)) from error
  found, unknown = {}, []
  for name, shape in shapes.items():
    if name == _STEP_VARIABLE or _SLOT.fullmatch(name):
      continue
    path = t5x_path(name)
    if path is None:
      unknown.append(name)
      continue
    dtype = np.dtype(kinds[name].as_numpy_dtype)
    found[path] = Variable(tuple(shape), dtype, reader, name, prefix)
  return Found(step, _with_shared_positions(found), unknown)


def t5x_path(name: str) -> str | None:
  """T5X's name of a variable; None for one that T5X does not have."""
  if name == "shared/embedding":
    return "token_embedder/embedding"
  tower, _, rest = name.partition("/")
  if tower not in _TOWERS:
    return None
  ours = _TOWERS[tower]
  if rest == "embedding":
    return f"{ours}/token_embedder/embedding"
  if rest in ("final_layer_norm/scale", "rms_norm/scale"):
    return f"{ours}/{ours}_norm/scale"
  if rest == "logits/kernel" and ours == "decoder":
    return "decoder/logits_dense/kernel"
  block = _BLOCK.fullmatch(name)
  inside = block and _inside(tower, int(block[3]), block[4])
  return f"{ours}/layers_{int(block[2])}/{inside}" if block and inside else None


def _inside(tower: str, position: int, rest: str) -> str | None:
  """The part of a name behind its layer."""
  if rest == _POSITIONS:
    return "relpos_bias/rel_embedding"
  if (match := _ATTENTION.fullmatch(rest)) is not None:
    alone = "attention" if tower == "encoder" else "self_attention"
    kind = alone if match[1] == "SelfAttention" else "encoder_decoder_attention"
    return f"{kind}/{_KERNELS[match[2]]}/kernel"
  if (match := _MLP.fullmatch(rest)) is not None:
    return f"mlp/{match[1]}/kernel"
  if _NORM.fullmatch(rest) and position < len(_NORMS[tower]):
    return f"{_NORMS[tower][position]}_layer_norm/scale"
  return None


def _with_shared_positions(found: dict[str, Variable]) -> dict[str, Variable]:
  """A position table that only the first layer has is shared by the tower."""
  for tower in ("encoder", "decoder"):
    where = [n for n in found if re.fullmatch(rf"{tower}/layers_\d+/relpos_bias/.*", n)]
    if len(where) == 1 and where[0].startswith(f"{tower}/layers_0/"):
      found[f"{tower}/relpos_bias/rel_embedding"] = found.pop(where[0])
  return found


def _order(index: epath.Path) -> tuple[int, str]:
  match = _STEP.fullmatch(index.name)
  return (int(match[1]) if match else -1, index.name)


def _named(text: epath.Path) -> str | None:
  """The prefix that TensorFlow's file `checkpoint` names, within its own folder."""
  if not text.is_file():
    return None
  match = _LATEST.search(text.read_bytes()[:4096].decode(errors="replace"))
  return match and match[1]
