"""What a checkpoint or prompt holds, and where two of them differ."""

import math
from typing import Any

import numpy as np

from prompt_tuning import checks, files, formats, model_configs, trees
from prompt_tuning.checkpoints import leaves
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Inline, Leaf
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.models.llama_config import LlamaConfig
from prompt_tuning.progress import Progress
from prompt_tuning.types import Shape

_BLOCK = 16 << 20  # elements that are compared at a time
_UNITS = ("B", "KB", "MB", "GB", "TB")


def inspect(path: str) -> str:
  """A description of what a path holds.

  Raises:
    InputError: It holds nothing, or it is damaged.
  """
  found = formats.open_any(path)
  rows = _prompt_rows(found) if isinstance(found, PromptFile) else _model_rows(found)
  width = max(map(len, rows))
  head = [f"{name:<{width}}  {value}" for name, value in rows.items()]
  table = [
    f"{name:<62} {leaf.dtype!s:<9} {_axes(leaf.shape):<16} {_bytes(leaves.nbytes(leaf)):>9}"
    for name, leaf in sorted(_leaves(found).items())
  ]
  return "\n".join([*head, "", *table])


def diff(one: str, other: str) -> list[str]:
  """One line per variable in which two checkpoints differ; none where they are equal.

  Names on one side only have `-` (the first) or `+` (the second) in front.

  Raises:
    InputError: One of them cannot be read.
  """
  first, second = _leaves(formats.open_any(one)), _leaves(formats.open_any(other))
  names = sorted(first.keys() | second.keys())
  lines, bar = [], Progress("compare", len(names))
  for name in names:
    if name not in second:
      lines.append(f"- {name}")
    elif name not in first:
      lines.append(f"+ {name}")
    else:
      found = _difference(first[name], second[name])
      lines += [f"~ {name}: {found}"] if found else []
    bar.advance()
  bar.close()
  return lines


def extract(path: str, variable: str, target: str) -> Shape:
  """Writes one variable of a model checkpoint as .npy; bfloat16 becomes float32.

  Args:
    path: A model checkpoint of any format.
    variable: Its T5X path, "target/" in front or not.
    target: A new file.

  Returns:
    The shape of the variable.

  Raises:
    InputError: It is not there, or the target is.
  """
  place = files.path(target)
  if place.exists():
    raise files.taken(place)
  leaf = formats.load(path).leaf(variable)
  array = leaf.read()
  if array.dtype.kind == "V":
    array = array.astype(np.float32)
  with files.writing(place):
    files.write_numpy(place, array)
  return array.shape


def _model_rows(found: Checkpoint) -> dict[str, Any]:
  count = sum(math.prod(shape) for shape in found.shapes.values())
  size = _bytes(found.nbytes)
  rows = {
    "format": found.format,
    "path": found.path,
    "step": found.step,
    "model": _model(found),
    "parameters": f"{count:,} in {len(found)} arrays, {size}",
  }
  if found.others:
    rows["beside them"] = f"{len(found.others)} arrays of the optimizer, never read"
  return {**rows, "fingerprint": fingerprint(found)}


def fingerprint(found: Checkpoint) -> str:
  """The fingerprint of the model in a checkpoint; a prompt in it does not count."""
  model = {name: leaf for name, leaf in found.leaves.items() if "prompt" not in name}
  bar = Progress("read", len(model))
  digits = trees.fingerprint(Checkpoint(found.path, found.format, model), bar.advance)
  bar.close()
  return digits


def _model(found: Checkpoint) -> str:
  try:
    config = model_configs.of(found)
  except checks.InputError:
    return "not an encoder-decoder T5"
  if isinstance(config, LlamaConfig):
    return (
      f"llama family, {config.num_layers} layers, d_model {config.d_model}, "
      f"{config.num_heads} heads of {config.d_kv} over {config.num_kv_heads} of keys and "
      f"values, d_ff {config.d_ff}, vocabulary {config.vocab_size}"
    )
  kind = "T5 1.0" if config.tied_logits else "T5 1.1"
  return (
    f"{kind}, {config.num_encoder_layers}+{config.num_decoder_layers} layers, "
    f"d_model {config.d_model}, {config.num_heads} heads of {config.d_kv}, "
    f"d_ff {config.d_ff}, vocabulary {config.vocab_size}"
  )


def _prompt_rows(found: PromptFile) -> dict[str, Any]:
  rms = float(np.sqrt(np.mean(np.square(found.prompt, dtype=np.float64))))
  rows = {"format": f"prompt ({found.format})", "path": found.path, "rms": f"{rms:.6g}"}
  known = {name: " ".join(str(value).split()) for name, value in found.metadata.items()}
  return {**rows, **{name: value for name, value in known.items() if name not in rows}}


def _leaves(found: Checkpoint | PromptFile) -> dict[str, Leaf]:
  if isinstance(found, PromptFile):
    return {"prompt": Inline(found.prompt)}
  return found.leaves


def _difference(one: Leaf, other: Leaf) -> str:
  """How two leaves differ, in words; empty where they do not."""
  if one.shape != other.shape:
    return f"{_axes(one.shape)} and {_axes(other.shape)}"
  most = _largest(one.read().reshape(-1), other.read().reshape(-1))
  kinds = "" if one.dtype == other.dtype else f"{one.dtype} and {other.dtype}"
  values = f"largest absolute difference {most:.6g}" if most else ""
  return ", ".join(part for part in (kinds, values) if part)


def _largest(one: np.ndarray, other: np.ndarray) -> float:
  """The largest absolute difference; what is no number equals only its like."""
  most = 0.0
  for start in range(0, one.size, _BLOCK):
    block = slice(start, start + _BLOCK)
    first, second = one[block].astype(np.float64), other[block].astype(np.float64)
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    apart = np.abs(np.subtract(first, second, where=~equal, out=np.zeros_like(first)))
    most = max(most, float(np.max(np.where(np.isnan(apart), np.inf, apart))))
  return most


def _axes(shape: Shape) -> str:
  return f"[{', '.join(map(str, shape))}]"


def _bytes(count: float) -> str:
  for unit in _UNITS:
    if count < 1000 or unit == _UNITS[-1]:
      break
    count /= 1000
  return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
