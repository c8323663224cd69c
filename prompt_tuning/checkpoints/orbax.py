"""Orbax checkpoints of T5X and of Flax trees, read through tensorstore.

checkpoint_<step>/state/           T5X; other programs: <step>/default/, or no folder
  _METADATA                        JSON, the tree; before 2023 msgpack `checkpoint`
  manifest.ocdbt  d/  ...          all arrays in one OCDBT store, or
  target.encoder.layers_0. ... /   one zarr array each (older, or use_ocdbt=False)
"""

import concurrent.futures
import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import msgpack_trees, t5x, zarr_arrays, zarr_metadata
from prompt_tuning.checkpoints.checkpoint import Checkpoint, first_line, unreadable
from prompt_tuning.checkpoints.leaves import Inline, Leaf
from prompt_tuning.checkpoints.zarr_metadata import Location, Stored

_TREE, _MANIFEST, _AGGREGATE = "_METADATA", "manifest.ocdbt", "checkpoint"
_ITEMS = ("", "state", "default", "items", "params")
_STEP = re.compile(r"(?:checkpoint_)?(\d+)")
_PLACEHOLDER = "PLACEHOLDER://"
_NO_ARRAY = ("None", "string", "empty_node", "Dict", "List", "Tuple", "NamedTuple")
_IN_STORE = Inline(np.zeros(0))  # stands for an array that is not in the index
_HEAD_BYTES = 64 << 10
_READERS = 32  # threads that wait for small files


def find(path: epath.Path) -> epath.Path | None:
  """The folder of the tree that a path means, or None where there is none."""
  if not path.is_dir():
    return None
  places = [path / item if item else path for item in _ITEMS]
  return next((place for place in places if _is_tree(place)), None)


def latest(path: epath.Path) -> epath.Path:
  """The newest step below a folder of them, or the path itself."""
  if find(path) is not None or not path.is_dir():
    return path
  return t5x.newest(path, _STEP) or path


def read(folder: epath.Path) -> Checkpoint:
  """Opens the tree that `find` returned.

  Raises:
    InputError: It is damaged or holds no parameters.
  """
  names, inline = _names(folder)
  with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
    is_ocdbt = (folder / _MANIFEST).exists()
    open_one = functools.partial(_leaf_in_ocdbt if is_ocdbt else _leaf, folder)
    opened = pool.map(functools.partial(_wanted, open_one, _parameters(names)), names)
    found = {n: x for n, x in zip(names, opened, strict=True) if x is not None} | inline
  format = "Orbax (OCDBT)" if is_ocdbt else "Orbax (one zarr array per variable)"
  named = next(filter(None, map(_STEP.fullmatch, (folder.name, folder.parent.name))), None)
  step = Inline(np.asarray(int(named[1]) if named else 0))
  return t5x.of_leaves(folder, format, {"state/step": step, **_as_train_state(found)})


def _is_tree(folder: epath.Path) -> bool:
  if (folder / _TREE).is_file() or (folder / _MANIFEST).is_file():
    return True
  aggregate = folder / _AGGREGATE
  if not aggregate.is_file():
    return False
  with aggregate.open("rb") as opened:  # T5X's index has the same name
    return _PLACEHOLDER.encode() in opened.read(_HEAD_BYTES)


def _names(folder: epath.Path) -> tuple[list[str], dict[str, Leaf]]:
  """Paths of the arrays in the store, and the arrays that are in the index itself."""
  if (folder / _TREE).is_file():
    return _of_metadata(folder), {}
  if not (folder / _AGGREGATE).is_file():
    raise unreadable(folder, f"its index {_TREE} is not there")
  tree = msgpack_trees.decode((folder / _AGGREGATE).read_bytes(), folder)
  found = msgpack_trees.leaves(tree, folder, _placeholder)
  names = [path for path, leaf in found.items() if leaf is _IN_STORE]
  return names, {path: leaf for path, leaf in found.items() if leaf is not _IN_STORE}


def _placeholder(path: str, node: Any) -> Leaf | None:
  del path  # the name behind the placeholder is the path with dots
  found = isinstance(node, str) and node.startswith(_PLACEHOLDER)
  return _IN_STORE if found else None


def _of_metadata(folder: epath.Path) -> list[str]:
  try:
    rows = json.loads((folder / _TREE).read_bytes())["tree_metadata"].values()
    return [
      "/".join(str(part["key"]) for part in row["key_metadata"])
      for row in rows
      if row["value_metadata"]["value_type"] not in _NO_ARRAY
    ]
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise unreadable(folder, f"its {_TREE} is damaged ({first_line(error)})") from error


def _leaf(folder: epath.Path, name: str) -> Leaf:
  """The leaf of a variable that lies in a folder of its own."""
  dotted = name.replace("/", ".")
  try:
    location = zarr_arrays.location(folder, dotted)
  except ValueError as error:
    raise unreadable(folder, f"{name} ({first_line(error)})") from error
  return _opened(folder, name, location, lambda: zarr_arrays.files_below(folder / dotted))


def _leaf_in_ocdbt(folder: epath.Path, name: str) -> Leaf:
  """The leaf of a variable that lies in the OCDBT store with all others."""
  base = zarr_arrays.store(folder)
  path = f"{name.replace('/', '.')}/"
  location = {"driver": "ocdbt", "base": base, "path": path}

  def stored() -> Stored | None:
    everything = zarr_arrays.files_below(folder)
    return everything and zarr_arrays.keys_below(location, everything.nbytes)

  return _opened(folder, name, location, stored)


def _parameters(names: list[str]) -> re.Pattern[str]:
  """What matches the names that must be read: parameters and step."""
  for prefix in ("target/", "params/"):
    if any(prefix in name for name in names):
      return re.compile(rf"(_optimizer/)?{prefix}.*|(.*/)?step")
  return re.compile(".*")


def _wanted(
  open_one: Callable[[str], Leaf], needed: re.Pattern[str], name: str
) -> Leaf | None:
  """A leaf; None for one that is not needed and cannot be read, an optimizer's perhaps."""
  try:
    return open_one(name)
  except checks.InputError:
    if needed.fullmatch(name):
      raise
    return None


def _opened(
  folder: epath.Path, name: str, location: Location, stored: Callable[[], Stored | None]
) -> Leaf:
  try:
    found = zarr_metadata.read(location)
  except (ValueError, OSError, RuntimeError, RecursionError) as error:
    raise unreadable(folder, f"{name} ({first_line(error)})") from error
  return zarr_arrays.Zarr(found.shape, found.dtype, location, folder, name, stored)


def _as_train_state(found: dict[str, Leaf]) -> dict[str, Leaf]:
  """T5X's names, whatever the train state was called."""
  found = {name.removeprefix("_optimizer/"): leaf for name, leaf in found.items()}
  if "step" in found:
    found["state/step"] = found.pop("step")
  if _has(found, "target/"):
    return found
  if _has(found, "params/"):
    return {_renamed(name, "params/"): leaf for name, leaf in found.items()}
  return {f"target/{name}": leaf for name, leaf in found.items()}


def _has(names: Iterable[str], prefix: str) -> bool:
  return any(name.startswith(prefix) for name in names)


def _renamed(name: str, prefix: str) -> str:
  return f"target/{name.removeprefix(prefix)}" if name.startswith(prefix) else name
