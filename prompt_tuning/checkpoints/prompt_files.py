"""Trained prompts as files: safetensors with their story, and plain numpy.

MODEL_DIR/prompt.safetensors                                                 the best one
MODEL_DIR/numpy_checkpoints/checkpoint_<step>/encoder.prompt.prompt.prompt   np.save bytes

What another method learned lies in the same places, and is no prompt:

MODEL_DIR/method.safetensors
MODEL_DIR/numpy_checkpoints/checkpoint_<step>/encoder.layers_0.prompt.prompt.prompt
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import safetensors_files, t5x
from prompt_tuning.checkpoints.leaves import Cast, Inline
from prompt_tuning.types import ArrayLike

_TENSOR = "prompt"
_BEST = "prompt.safetensors"
METHOD = "method.safetensors"
_STEPS = "numpy_checkpoints"
# Names in the folder of a step: of all that learns, and of prompts alone.
_LEARNED = re.compile(r"(encoder|decoder)\.(layers_\d+|prompt)\..+|prefix\.\w+")
_PROMPTS = ("encoder.prompt.prompt.prompt", "decoder.prompt.prompt.prompt")
_REMEDY = "`train`, `eval` and `infer` on a task's split take"
_HEAD_BYTES = 16


@dataclasses.dataclass(frozen=True)
class PromptFile:
  """A prompt and what is known of it.

  Attributes:
    prompt: [prompt_len, d_model], or [num_prompts, prompt_len, d_model], float32.
    metadata: As far as the writer knew them: base_fingerprint, base_model, d_model,
      prompt_length, vocabulary, task, labels (the words that it chooses from), visibility
      (who saw whom in training), step, score, metrics, library_version.
    path: Where it was read.
    format: Of its file, in words.
  """

  prompt: np.ndarray
  metadata: dict[str, Any]
  path: epath.Path
  format: str


def save_prompt(
  path: str,
  prompt: ArrayLike,
  metadata: Mapping[str, Any] | None = None,
  dtype: str = "float32",
) -> None:
  """Writes a prompt: safetensors where the name ends so, numpy bytes otherwise.

  Args:
    path: The file.
    prompt: [prompt_len, d_model] or [num_prompts, prompt_len, d_model].
    metadata: JSON values; length and width of the prompt are added. Numpy has none.
    dtype: Stored dtype, one that safetensors or numpy has.

  Raises:
    InputError: numpy has no such dtype.
  """
  target = files.path(path)
  array = Cast(Inline(np.asarray(prompt)), np.dtype(dtype)).read()
  if target.suffix != safetensors_files.SUFFIX:
    if array.dtype.kind == "V":
      raise checks.InputError(
        f"numpy files have no {dtype}, expected float32 or float16; "
        "name a .safetensors file"
      )
    files.write_numpy(target, array)
    return
  prompt_length, d_model = array.shape[-2:]
  known = {**(metadata or {}), "prompt_length": prompt_length, "d_model": d_model}
  parts = safetensors_files.encoded({_TENSOR: Inline(array)}, metadata_text(known))
  target.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(target, b"".join(parts))


def find(path: epath.Path) -> epath.Path | None:
  """The prompt file that a path means, or None where there is none.

  A path is the file itself, a MODEL_DIR with its best prompt, the folder of one step of
  the original, or a folder of steps (the latest). In the MODEL_DIR of another method it is
  that method's file, which `read` refuses.

  Raises:
    InputError: The folder of a step holds several prompts, or what a method learned.
  """
  if path.is_file():
    return path if _format(path) is not None else None
  for name in (METHOD, _BEST):
    if (path / name).is_file():
      return path / name
  if (path / _STEPS).is_dir():
    path = path / _STEPS
  steps = t5x.saved_steps(path)
  folder = path / f"checkpoint_{steps[-1]}" if steps else path
  if not folder.is_dir():
    return None
  return _in_step(folder)


def _in_step(folder: epath.Path) -> epath.Path | None:
  """The prompt in the folder of a step, or None where there is none."""
  names = sorted(child.name for child in folder.iterdir() if child.is_file())
  foreign = [n for n in names if _LEARNED.fullmatch(n) and n not in _PROMPTS]
  if foreign:
    raise checks.InputError(
      f"{folder} has {', '.join(foreign[:3])}, which another method than prompts learned, "
      f"expected a prompt; {_REMEDY} the MODEL_DIR of one that was evaluated"
    )
  found = [name for name in names if name.split(".")[-1] == "prompt"]
  if len(found) > 1:
    raise checks.InputError(
      f"{folder} holds {len(found)} prompts ({', '.join(found)}), expected one; name its "
      "file"
    )
  return folder / found[0] if found else None


def saved(model_dir: epath.Path) -> dict[int, epath.Path]:
  """The prompts of a run by step, {step: folder}, in order.

  Raises:
    InputError: There is none.
  """
  folder = model_dir / _STEPS
  steps = t5x.saved_steps(folder)
  if not steps:
    raise checks.InputError(
      f"{model_dir} has no prompts by step, expected {_STEPS}/checkpoint_<step>; name the "
      "MODEL_DIR of a run"
    )
  return {step: folder / f"checkpoint_{step}" for step in steps}


def read(source: epath.Path) -> PromptFile:
  """Reads a prompt file; nothing in it is ever executed.

  Raises:
    InputError: The file is damaged, pickled or no prompt.
  """
  format = _format(source)
  if format is None:
    raise _unusable(source, "it is neither safetensors nor the bytes of np.save")
  if format == "numpy":
    try:
      array, metadata = files.parse_numpy(source.read_bytes()), {}
    except (ValueError, EOFError, OSError) as error:
      raise _unusable(source, str(error)) from error
  else:
    opened = safetensors_files.read(source)
    if "method" in opened.metadata:
      raise checks.InputError(
        f"{source} holds what the method {opened.metadata['method']} learned, expected a "
        f"prompt; {_REMEDY} it"
      )
    if _TENSOR not in opened.leaves and len(opened.leaves) != 1:
      raise _unusable(source, f"it has no tensor {_TENSOR!r} among {len(opened.leaves)}")
    leaf = opened.leaves.get(_TENSOR) or next(iter(opened.leaves.values()))
    array, metadata = leaf.read(), metadata_from(opened.metadata)
  return PromptFile(checked(array, source), metadata, source, format)


def save_step(model_dir: epath.Path, step: int, path: str, prompt: ArrayLike) -> None:
  """Writes `numpy_checkpoints/checkpoint_<step>/<dotted path>` as the original did."""
  folder = model_dir / _STEPS / f"checkpoint_{step}"
  save_prompt(str(folder / path.replace("/", ".")), prompt)


def checked(array: np.ndarray, source: epath.Path) -> np.ndarray:
  """The array in float32.

  Raises:
    InputError: It is no prompt.
  """
  kind = array.dtype
  is_float = kind.kind == "f" or kind.name == "bfloat16"
  if array.ndim not in (2, 3) or 0 in array.shape or not is_float:
    raise _unusable(source, f"it holds {list(array.shape)} of {kind}")
  return array.astype(np.float32)


def single(file: PromptFile) -> np.ndarray:
  """The prompt [prompt_len, d_model] of a file that holds exactly one.

  Raises:
    InputError: It holds a bank of several.
  """
  if file.prompt.ndim == 3 and file.prompt.shape[0] > 1:
    raise _unusable(
      file.path, f"it holds a bank of {file.prompt.shape[0]} prompts, not one"
    )
  return file.prompt.reshape(file.prompt.shape[-2:])


def metadata_text(metadata: Mapping[str, Any]) -> dict[str, str]:
  """Metadata as safetensors stores it: text by key."""
  return {key: json.dumps(value) for key, value in metadata.items()}


def metadata_from(text: Mapping[str, str]) -> dict[str, Any]:
  """Metadata from a file of anybody; what is no JSON stays the text it is."""
  found: dict[str, Any] = {}
  for key, value in text.items():
    try:
      found[key] = json.loads(value)
    except (ValueError, RecursionError):
      found[key] = value
  return found


def _format(source: epath.Path) -> str | None:
  """The format of a file by its first bytes; None for one that holds no prompt."""
  with source.open("rb") as opened:
    head = opened.read(_HEAD_BYTES)
  if head.startswith(files.NUMPY_MAGIC):
    return "numpy"
  is_one = safetensors_files.is_one(head, source.stat().length)
  return "safetensors" if is_one or source.suffix == safetensors_files.SUFFIX else None


def _unusable(source: Any, why: str) -> checks.InputError:
  return checks.InputError(
    f"the prompt file {source} cannot be read: {why}; expected one float array "
    "[prompt_len, d_model] as safetensors or np.save bytes without pickled objects, so "
    "export it again"
  )
