"""Every format that weights and prompts lie in: detected by what is there, never asked.

A model: T5X, Orbax, Hugging Face, GGUF, Mesh TensorFlow. A prompt: safetensors, numpy, the
original's `numpy_checkpoints/`, a PEFT adapter, or a model checkpoint that holds one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import (
  gguf_files,
  huggingface,
  huggingface_folder,
  huggingface_llama,
  method_files,
  orbax,
  peft,
  prompt_files,
  t5x,
)
from prompt_tuning.checkpoints.checkpoint import Checkpoint, first_line, unreadable
from prompt_tuning.checkpoints.method_files import MethodFile
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.prompts import bank

_TENSORFLOW = b"model_checkpoint_path"  # how its text file `checkpoint` begins
_KINDS_OF_MODEL = "a T5X, Orbax, Hugging Face, GGUF or Mesh TensorFlow checkpoint"
_KINDS_OF_PROMPT = (
  "a prompt in safetensors, in np.save bytes, in numpy_checkpoints or in a PEFT adapter"
)
_SHOWN = 12  # names of a folder that a message lists


class Format(NamedTuple):
  """A format.

  Attributes:
    find: What of a path it would open, or None where it is not of this format.
    read: Opens that.
  """

  find: Callable[[epath.Path], epath.Path | None]
  read: Callable[[epath.Path], Any]


def load(path: str) -> Checkpoint:
  """Opens a model checkpoint of any format.

  Args:
    path: A folder, a file, or a folder of steps (the latest); local or gs://.

  Raises:
    InputError: There is none, or it is damaged.
  """
  place = files.path(path)
  opened = _open(_MODELS, place)
  if opened is None:
    is_prompt = any(format.find(place) is not None for format in _PROMPTS)
    raise _nothing(place, "model checkpoint", _KINDS_OF_MODEL, is_prompt)
  return opened


def read_prompt(path: str) -> PromptFile:
  """Opens a prompt of any format.

  Args:
    path: A file, an adapter folder, a MODEL_DIR, the original's `numpy_checkpoints` or a
      step of it, or a model checkpoint with a prompt inside.

  Raises:
    InputError: There is none, or it is damaged.
  """
  place = files.path(path)
  prompt = _open(_PROMPTS, place)
  if prompt is not None:
    return prompt
  model = _open(_MODELS, place)
  if model is None:
    raise _nothing(place, "prompt", _KINDS_OF_PROMPT)
  if bank.PATH not in model:
    raise checks.InputError(
      f"the checkpoint {model.path} holds a model without a prompt, expected {bank.PATH} "
      "in it; name the prompt's own file"
    )
  array = prompt_files.checked(model[bank.PATH], model.path)
  return PromptFile(array, {"step": model.step}, model.path, model.format)


def find_method(path: str) -> MethodFile | None:
  """Opens what another method than prompts learned, None where a path is something else.

  Raises:
    InputError: It is damaged.
  """
  found = method_files.find(files.path(path))
  return None if found is None else method_files.read(found)


def load_prompt(path: str) -> np.ndarray:
  """The array of a prompt: [prompt_len, d_model] float32, or with num_prompts in front.

  See `read_prompt`.
  """
  return read_prompt(path).prompt


def open_any(path: str) -> Checkpoint | PromptFile:
  """Opens a model checkpoint or, where there is none, a prompt.

  Raises:
    InputError: There is neither, or it is damaged.
  """
  place = files.path(path)
  opened = _open(_MODELS, place) or _open(_PROMPTS, place)
  if opened is None:
    kinds = f"{_KINDS_OF_MODEL}, or {_KINDS_OF_PROMPT}"
    raise _nothing(place, "checkpoint or prompt", kinds)
  return opened


def _open(formats: tuple[Format, ...], place: epath.Path) -> Any:
  try:
    for format in formats:
      found = format.find(place)
      if found is not None:
        return format.read(found)
  except checks.InputError:
    raise
  except Exception as error:  # a bucket's client has errors of its own
    if isinstance(error, OSError) or files.is_remote(place):
      raise unreadable(place, first_line(error)) from error
    raise
  return None


def _find_t5x(place: epath.Path) -> epath.Path | None:
  """The index of a T5X checkpoint: so named, and not TensorFlow's, or a msgpack map."""
  found = t5x.find(t5x.latest(place))
  if found is None:
    return None
  with found.open("rb") as opened:
    head = opened.read(len(_TENSORFLOW))
  is_map = bool(head) and (0x80 < head[0] < 0x90 or head[0] in (0xDE, 0xDF))
  is_map = is_map and prompt_files.find(found) is None  # safetensors may begin alike
  is_index = found.name == t5x.INDEX and head != _TENSORFLOW
  return found if is_map or is_index else None


def _find_mesh_tensorflow(place: epath.Path) -> epath.Path | None:
  from prompt_tuning.data import mesh_tensorflow

  return mesh_tensorflow.find(place)


def _read_mesh_tensorflow(prefix: epath.Path) -> Checkpoint:
  from prompt_tuning.data import mesh_tensorflow

  try:
    found = mesh_tensorflow.read(prefix)
  except ValueError as error:
    raise unreadable(prefix, first_line(error)) from error
  if found.unknown or not found.leaves:
    names = ", ".join(sorted(found.unknown)[:_SHOWN]) or "none"
    raise unreadable(prefix, f"it has variables that no T5 has ({names})")
  return Checkpoint(prefix, "Mesh TensorFlow", found.leaves, step=found.step)


def _nothing(
  place: epath.Path, what: str, kinds: str, is_prompt: bool = False
) -> checks.InputError:
  found = "nothing"
  if is_prompt:
    found = "a prompt or other tensors"
  elif place.is_file():
    found = "a file of another format"
  elif place.is_dir():
    names = sorted(child.name for child in place.iterdir())
    more = ", ..." if len(names) > _SHOWN else ""
    found = f"a folder with {', '.join(names[:_SHOWN]) or 'nothing'}{more}"
  return checks.InputError(
    f"there is no {what} at {place} (found {found}), expected {kinds}; correct the path"
  )


_MODELS = (
  Format(huggingface_llama.find, huggingface_llama.read),
  Format(huggingface_folder.find, huggingface.read),
  Format(gguf_files.find, gguf_files.read),
  Format(lambda place: orbax.find(orbax.latest(place)), orbax.read),
  Format(_find_t5x, t5x.read),
  Format(_find_mesh_tensorflow, _read_mesh_tensorflow),
)
_PROMPTS = (
  Format(peft.find, peft.read),
  Format(prompt_files.find, prompt_files.read),
)
