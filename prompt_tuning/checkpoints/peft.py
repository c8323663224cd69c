"""Adapter folders of Hugging Face peft: PROMPT_TUNING for SEQ_2_SEQ_LM or CAUSAL_LM.

  adapter_config.json
  adapter_model.safetensors   "prompt_embeddings" [num_virtual_tokens * submodules, d_model]

peft puts the first num_virtual_tokens rows in front of the encoder's input, as the paper
does; where it allocates rows for the decoder too (its default), it never uses them.
In front of a decoder-only model (CAUSAL_LM) they see each other from left to right.
"""

import json
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import prompt_files, safetensors_files
from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Cast, Inline
from prompt_tuning.checkpoints.prompt_files import PromptFile

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_TENSOR = "prompt_embeddings"
_METHOD = "PROMPT_TUNING"
_TASKS = {"SEQ_2_SEQ_LM": "t5", "CAUSAL_LM": "llama"}  # task -> family of the model
_CAUSAL = ["input->input", "input->prompt", "prompt->prompt;causal"]


def find(path: epath.Path) -> epath.Path | None:
  """The adapter folder that a path means: itself, or that of its file of weights."""
  if path.is_file() and path.name in (WEIGHTS, CONFIG):
    path = path.parent
  return path if (path / CONFIG).is_file() else None


def read(folder: epath.Path) -> PromptFile:
  """Reads an adapter.

  Raises:
    InputError: It is damaged, pickled, or of another method or task.
  """
  try:
    config = json.loads((folder / CONFIG).read_bytes())
    found = {name: config.get(name) for name in ("peft_type", "task_type")}
    family = _TASKS.get(str(found["task_type"]))
  except (ValueError, AttributeError, OSError, RecursionError) as error:
    raise unreadable(folder, f"its {CONFIG} is damaged ({first_line(error)})") from error
  if found["peft_type"] != _METHOD or family is None:
    known = checks.one_of(list(_TASKS))
    raise unreadable(folder, f"it is an adapter of {found}, expected {_METHOD} for {known}")
  if not (folder / WEIGHTS).is_file() and (folder / _PICKLE).is_file():
    raise unreadable(
      folder,
      "its weights are pickled, which can run code and is never read; save it once with "
      "peft's save_pretrained, which writes adapter_model.safetensors",
    )
  opened = safetensors_files.read(folder / WEIGHTS)
  tokens, width = config.get("num_virtual_tokens"), config.get("token_dim")
  shapes = {name: tuple(leaf.shape) for name, leaf in opened.leaves.items()}
  found_shape = shapes.get(_TENSOR, ())
  rows, found_width = found_shape if len(found_shape) == 2 else (0, 0)
  fits = type(tokens) is int and 0 < tokens <= rows and width in (None, found_width)
  if not fits or len(shapes) > 1:  # more than a prompt was trained
    listed = {name: list(shape) for name, shape in shapes.items()}
    raise unreadable(
      folder,
      f"it has {listed} for {str(tokens)[:40]} virtual tokens (num_virtual_tokens in "
      f"{CONFIG}) of width {str(width)[:40]}; only {_TENSOR} can be used",
    )
  array = prompt_files.checked(opened.leaves[_TENSOR].read()[:tokens], folder)
  metadata = prompt_files.metadata_from(opened.metadata)
  metadata.pop("format", None)  # the framework that wrote it
  base = {"base_model": config.get("base_model_name_or_path"), "prompt_length": tokens}
  if family != "t5":
    base |= {"family": family, "visibility": _CAUSAL}
  return PromptFile(array, {**metadata, **base}, folder, "PEFT adapter")


def save(
  folder: epath.Path,
  prompt: PromptFile,
  base_model: str | None = None,
  dtype: str = "float32",
) -> None:
  """Writes an adapter folder, whole or not at all.

  Args:
    folder: A new folder.
    prompt: One prompt; what is known of it travels in the file of weights.
    base_model: Name or folder of the Hugging Face model it belongs to.
    dtype: Stored dtype.

  Raises:
    InputError: The folder exists.
  """
  array = Cast(Inline(prompt_files.single(prompt)), np.dtype(dtype)).read()
  tasks = {family: task for task, family in _TASKS.items()}
  config: dict[str, Any] = {
    "peft_type": _METHOD,
    "task_type": tasks[prompt.metadata.get("family", "t5")],
    "base_model_name_or_path": base_model or prompt.metadata.get("base_model"),
    "inference_mode": True,
    "num_attention_heads": None,
    "num_layers": None,
    "num_transformer_submodules": 1,
    "num_virtual_tokens": array.shape[0],
    "prompt_tuning_init": "RANDOM",
    "token_dim": array.shape[1],
  }
  metadata = {"format": "pt", **prompt_files.metadata_text(prompt.metadata)}
  with files.new_folder(folder) as place:
    (place / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    safetensors_files.write(place / WEIGHTS, {_TENSOR: Inline(array)}, metadata)
