"""Trained prompts as files: safetensors with their story, and plain numpy.

MODEL_DIR/numpy_checkpoints/checkpoint_<step>/encoder.prompt.prompt.prompt   np.save bytes
MODEL_DIR/prompt.safetensors                                                 the best one
"""

import dataclasses
import io
import json
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.types import ArrayLike

_NAME = "prompt"


@dataclasses.dataclass(frozen=True)
class PromptFile:
  """A prompt and what is known of it.

  Attributes:
    prompt: [prompt_len, d_model], or [num_prompts, prompt_len, d_model], float32.
    metadata: Empty for a numpy file. Otherwise base_fingerprint, task, step, score,
      metric, tokenizer, library_version as far as the writer knew them.
  """

  prompt: np.ndarray
  metadata: dict[str, Any]


def save_prompt(
  path: str, prompt: ArrayLike, metadata: dict[str, Any] | None = None
) -> None:
  """Writes a prompt: safetensors where the name ends so, numpy bytes otherwise."""
  target = files.path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  array = np.asarray(prompt, np.float32)
  if target.suffix == ".safetensors":
    text = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    content = safetensors.numpy.save({_NAME: array}, metadata=text)
  else:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    content = sink.getvalue()
  files.write_atomically(target, content)


def read(path: str) -> PromptFile:
  """Reads a prompt file, whatever its format; nothing in it is ever executed.

  Raises:
    InputError: The file is absent, damaged, pickled or no prompt.
  """
  source = files.path(path)
  if not source.is_file():
    raise checks.InputError(
      f"there is no prompt file {path}, expected .safetensors or the bytes of np.save; "
      "correct PROMPT_FILE"
    )
  content = source.read_bytes()
  try:
    if content.startswith(files.NUMPY_MAGIC):
      found = PromptFile(files.parse_numpy(content), {})
    else:
      found = _from_safetensors(content)
  except (ValueError, KeyError, EOFError, safetensors.SafetensorError) as error:
    raise checks.InputError(
      f"the prompt file {path} cannot be read ({error}), expected one float array "
      "[prompt_len, d_model] as safetensors or np.save bytes without pickled objects; "
      "export it again"
    ) from error
  if found.prompt.ndim not in (2, 3) or found.prompt.dtype.kind not in "fV":
    raise checks.InputError(
      f"the prompt file {path} holds {list(found.prompt.shape)} of "
      f"{found.prompt.dtype}, expected floats [prompt_len, d_model]; export it again"
    )
  return PromptFile(found.prompt.astype(np.float32), found.metadata)


def load_prompt(path: str) -> np.ndarray:
  """The array of a prompt file; see `read`."""
  return read(path).prompt


def save_step(model_dir: epath.Path, step: int, path: str, prompt: ArrayLike) -> None:
  """Writes `numpy_checkpoints/checkpoint_<step>/<dotted path>` as the original did."""
  folder = model_dir / "numpy_checkpoints" / f"checkpoint_{step}"
  save_prompt(str(folder / path.replace("/", ".")), prompt)


def _from_safetensors(content: bytes) -> PromptFile:
  arrays = safetensors.numpy.load(content)
  if _NAME not in arrays:
    raise KeyError(f"no tensor named {_NAME!r} among {sorted(arrays)}")
  size = int.from_bytes(content[:8], "little")
  text = json.loads(content[8 : 8 + size]).get("__metadata__", {})
  return PromptFile(arrays[_NAME], {key: json.loads(v) for key, v in text.items()})
