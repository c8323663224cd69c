"""A Hugging Face folder, whatever the model: its config and its tensors by their names.

config.json
model.safetensors, or model.safetensors.index.json and the shards that it names
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Leaf

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_PICKLE = re.compile(r"pytorch_model.*\.bin(\.index\.json)?")
_MOST_LAYERS = 4096
_ARCHITECTURES = ("t5", "mt5", "llama", "qwen2", "mistral")


def find(path: epath.Path) -> epath.Path | None:
  """The folder that a path means: itself, or that of a file of weights in it."""
  is_weights = path.name.startswith("model") and path.suffix == ".safetensors"
  if path.is_file() and (is_weights or path.name == CONFIG):
    path = path.parent
  if not (path / CONFIG).is_file():
    return None
  if (path / WEIGHTS).is_file() or (path / INDEX).is_file():
    return path
  if any(_PICKLE.fullmatch(child.name) for child in path.iterdir()):
    raise unreadable(
      path,
      "its weights are pickled, which can run code and is never read; save it once with "
      "transformers' save_pretrained, which writes model.safetensors",
    )
  return None


def config_of(folder: epath.Path) -> dict[str, Any]:
  """The content of config.json.

  Raises:
    InputError: It is damaged.
  """
  return _json(folder / CONFIG)


def unsupported(
  folder: epath.Path, field: str, value: Any, known: Iterable[Any], families: str
) -> checks.InputError:
  """The error for a field of config.json whose value no model here has."""
  return checks.InputError(
    f"the checkpoint {folder} is of a model that is not supported: {field} in its {CONFIG} "
    f"is {str(value)[:40]!r}, expected one of {', '.join(map(str, known))}; choose a "
    f"{families}"
  )


def unknown_architecture(folder: epath.Path, value: Any) -> checks.InputError:
  """The error for a model of another architecture."""
  families = "T5, mT5, ByT5, Llama, Mistral or Qwen2"
  return unsupported(folder, "model_type", value, _ARCHITECTURES, families)


def size_of(
  config: Mapping[str, Any], name: str, folder: epath.Path, default: Any = None
) -> int:
  """A size in config.json, or `default` where it is not there.

  Raises:
    InputError: It is no size.
  """
  value = config.get(name)
  value = default if value is None else value
  if type(value) is not int or not 0 < value <= 1 << 20:
    raise unreadable(folder, f"{name} in its {CONFIG} is {str(value)[:40]!r}")
  if name.endswith("layers") and value > _MOST_LAYERS:
    raise unreadable(folder, f"{name} in its {CONFIG} is {value}")
  return value


def tensors_of(folder: epath.Path) -> dict[str, Leaf]:
  """{name: leaf} of all that is in the files of weights.

  Raises:
    InputError: A file is damaged or not there.
  """
  if (folder / WEIGHTS).is_file():  # as transformers does where both are there
    return safetensors_files.read(folder / WEIGHTS).leaves
  places = _json(folder / INDEX).get("weight_map")
  if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
    raise unreadable(folder / INDEX, "it has no weight_map")
  for place in places.values():
    if "/" in place or "\\" in place or "\0" in place or place in ("", ".", ".."):
      raise unreadable(folder / INDEX, f"it points outside the checkpoint, to {place!r}")
  shards = {p: safetensors_files.read(folder / p).leaves for p in set(places.values())}
  absent = [name for name, place in places.items() if name not in shards[place]]
  if absent:
    raise unreadable(folder / places[absent[0]], f"{absent[0]} is not in it")
  return {name: shards[place][name] for name, place in places.items()}


def _json(path: epath.Path) -> dict[str, Any]:
  try:
    found = json.loads(path.read_bytes())
  except (ValueError, OSError, RecursionError) as error:
    raise unreadable(path, first_line(error)) from error
  if not isinstance(found, dict):
    raise unreadable(path, "it is no map")
  return found
