"""Trained methods as files: their tensors by path, and what makes a model of them.

MODEL_DIR/method.safetensors

Metadata are those of a prompt file, and "method" (its name) and "settings".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.checkpoints.prompt_files import METHOD as NAME
from prompt_tuning.checkpoints.prompt_files import metadata_from, metadata_text
from prompt_tuning.types import ArrayLike


@dataclasses.dataclass(frozen=True)
class MethodFile:
  """What a method learned.

  Attributes:
    tensors: {path of a variable of the steered model: float32 array}.
    metadata: See above.
    path: Where it was read.
  """

  tensors: dict[str, np.ndarray]
  metadata: dict[str, Any]
  path: epath.Path

  @property
  def method(self) -> str:
    """Its name."""
    return str(self.metadata["method"])

  @property
  def settings(self) -> dict[str, Any]:
    """Of the method.

    Raises:
      InputError: They are none.
    """
    found = self.metadata.get("settings")
    if not isinstance(found, dict):
      raise checks.InputError(
        f"the file {self.path} has the settings {found!r}, expected names and values; "
        "train the method again"
      )
    return found


def save(
  path: epath.Path,
  method: str,
  settings: Mapping[str, Any],
  tensors: Mapping[str, ArrayLike],
  metadata: Mapping[str, Any],
) -> None:
  """Writes a file, in one piece or not at all."""
  known = {**metadata, "method": method, "settings": dict(settings)}
  leaves = {name: Inline(np.asarray(x, np.float32)) for name, x in tensors.items()}
  parts = safetensors_files.encoded(leaves, metadata_text(known))
  files.write_atomically(path, b"".join(parts))


def find(place: epath.Path) -> epath.Path | None:
  """The method's file that a path means, itself or in a MODEL_DIR, or None."""
  if place.is_dir() and (place / NAME).is_file():
    return place / NAME
  if not place.is_file() or place.suffix != safetensors_files.SUFFIX:
    return None
  return place if "method" in safetensors_files.read(place).metadata else None


def read(path: epath.Path) -> MethodFile:
  """Reads a file that `find` found.

  Raises:
    InputError: It is damaged.
  """
  opened = safetensors_files.read(path)
  tensors = {name: leaf.read().astype(np.float32) for name, leaf in opened.leaves.items()}
  return MethodFile(tensors, metadata_from(opened.metadata), path)
