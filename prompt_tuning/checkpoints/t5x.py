"""T5X native checkpoints: a msgpack index and, for most parameters, a zarr array each.

  checkpoint_<step>/
    checkpoint                        msgpack {"version": 3, "optimizer": tree}
    target.encoder.layers_0. ... /    one zarr v2 array; in the tree stands its spec

Any leaf may be inline or a spec, and specs of 2021 and of today differ, so a leaf is read
by what it is. Contract: T5X checkpoints, versions 2 and 3; written: version 3.
"""

import functools
import re
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorstore as ts
from etils import epath
from flax import serialization

from prompt_tuning import checks, files, trees
from prompt_tuning.checkpoints import msgpack_trees, scanned, zarr_arrays, zarr_metadata
from prompt_tuning.checkpoints.checkpoint import Checkpoint, unreadable
from prompt_tuning.checkpoints.leaves import Leaf, as_stored, shape_of
from prompt_tuning.progress import Progress
from prompt_tuning.types import FlatParams, Shape

INDEX = "checkpoint"
SAVE_DTYPES = ("float32", "bfloat16", "float16")
_VERSIONS = (0, 2, 3)  # 0 has no version and no wrapper; 1 is read by nobody
_STEP = re.compile(r"checkpoint_(\d+)")
_SPEC_KEYS = {"driver", "metadata"}
_STORES = ("file", "gfile", "gcs")  # gfile is Google's own name for a file
_CHUNK_BYTES = 64 << 20
_TARGET = "target/"


def find(path: epath.Path) -> epath.Path | None:
  """The msgpack file that a path means, or None where there is none.

  A path is the file itself, the folder of a step, or one with a `state` folder inside.
  """
  if path.is_file():
    return path
  for place in (path / INDEX, path / "state" / INDEX):
    if place.is_file():
      return place
  return None


def load(path: str) -> Checkpoint:
  """Opens a T5X checkpoint: its folder, its file, or a folder of steps (the latest).

  Raises:
    InputError: There is none, or it is damaged.
  """
  place = files.path(path)
  index = find(latest(place))
  if index is None:
    raise checks.InputError(
      f"there is no T5X checkpoint at {place}, expected a folder with the file {INDEX!r}, "
      "or checkpoint_<step> folders; correct the path"
    )
  return read(index)


def read(index: epath.Path) -> Checkpoint:
  """Opens the checkpoint whose msgpack file is `index`.

  Raises:
    InputError: It is damaged.
  """
  path = index.parent if index.name == INDEX else index
  tree = msgpack_trees.decode(index.read_bytes(), path)
  version = tree.get("version", 0)
  if type(version) is not int or version not in _VERSIONS:
    raise unreadable(path, f"its version is {str(version)[:40]}, not one of {_VERSIONS}")
  resolve = functools.partial(_elsewhere, index.parent, path)
  found = msgpack_trees.leaves(tree.get("optimizer", tree), path, resolve)
  return of_leaves(path, "T5X", found)


def of_leaves(path: epath.Path, format: str, found: Mapping[str, Leaf]) -> Checkpoint:
  """A checkpoint of the leaves of a T5X train state, `target/...` and `state/...`.

  Raises:
    InputError: It has no parameters.
  """
  target = {
    name.removeprefix(_TARGET): as_stored(leaf)
    for name, leaf in found.items()
    if name.startswith(_TARGET)
  }
  others = {name: leaf for name, leaf in found.items() if not name.startswith(_TARGET)}
  if not target:
    raise unreadable(path, f"it has no parameters ({len(found)} other variables)")
  step = others.pop("state/step", None)
  return Checkpoint(
    path,
    format,
    scanned.unstacked(target, path),
    step=0 if step is None else _scalar(step, path),
    others=others,
  )


def saved_steps(path: epath.Path) -> list[int]:
  """Steps of the `checkpoint_<step>` folders in `path`, in order."""
  if not path.is_dir():
    return []
  found = (step_of(child) for child in path.iterdir())
  return sorted(step for step in found if step is not None)


def step_of(path: epath.Path) -> int | None:
  """The step that a folder is named for; None where it is no `checkpoint_<step>`."""
  match = _STEP.fullmatch(path.name)
  return int(match[1]) if match else None


def latest(path: epath.Path) -> epath.Path:
  """The newest `checkpoint_<step>` in a folder of them, or the path itself."""
  if find(path) is not None:
    return path
  return newest(path, _STEP) or path


def newest(path: epath.Path, named: re.Pattern[str]) -> epath.Path | None:
  """The child of a folder whose name matches with the largest number in group 1."""
  if not path.is_dir():
    return None
  found = [
    (match, child) for child in path.iterdir() if (match := named.fullmatch(child.name))
  ]
  return max(found, key=lambda pair: int(pair[0][1]))[1] if found else None


def save(
  folder: epath.Path,
  params: FlatParams,
  step: int,
  dtype: str | None = "float32",
  slots: Mapping[str, np.ndarray] | None = None,
) -> epath.Path:
  """Writes `folder/checkpoint_<step>`, complete or not at all; an existing one stays.

  Args:
    folder: Where the step folder goes.
    params: {path: array}; each is asked for when its turn comes.
    step: Training step.
    dtype: Stored dtype of every parameter, one of `SAVE_DTYPES`; None keeps its own.
    slots: {path below state/param_states: array} of an optimizer, stored inline.

  Returns:
    The step folder.
  """
  if dtype is not None:
    checks.choice("save dtype", dtype, SAVE_DTYPES)
  final = folder / f"checkpoint_{step}"
  if final.exists():
    return final
  temporary = folder / f"checkpoint_{step}.tmp-{secrets.randbelow(1 << 31)}"
  temporary.mkdir(parents=True)
  try:
    target = _write_arrays(temporary, params, dtype)
    state: dict[str, Any] = {"step": np.asarray(step, np.int32)}
    if slots:
      state["param_states"] = trees.unflatten(slots)
    tree = {"version": 3, "optimizer": {"target": trees.unflatten(target), "state": state}}
    content = serialization.msgpack_serialize(tree, in_place=True)  # "version" stays first
    files.write_atomically(temporary / INDEX, content)
    temporary.rename(final)
  except BaseException:
    temporary.rmtree(missing_ok=True)
    raise
  return final


def _write_arrays(
  folder: epath.Path, params: FlatParams, dtype: str | None
) -> dict[str, dict[str, Any]]:
  """Writes every array and returns the specs that stand for them, by name."""
  target, bar = {}, Progress("write", len(params))
  for name in params:
    array = np.asarray(params[name])
    dotted = f"target.{name.replace('/', '.')}"
    target[name] = _write(folder, dotted, array, dtype or array.dtype.name)
    bar.advance()
  bar.close()
  return target


def _write(folder: epath.Path, name: str, array: np.ndarray, dtype: str) -> dict[str, Any]:
  """Writes one zarr array and returns the spec that stands for it in the index."""
  metadata = {
    "chunks": list(chunk_shape(array.shape, array.dtype.itemsize)),
    "compressor": {"id": "gzip", "level": 1},
    "shape": list(array.shape),
  }
  spec = {"driver": "zarr", "dtype": dtype, "metadata": metadata}
  here = {
    **spec,
    "kvstore": zarr_arrays.location(folder, name),
    "store_data_equal_to_fill_value": True,
  }
  ts.open(here, create=True).result().write(array.astype(dtype, copy=False)).result()
  driver = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
  if not files.is_remote(folder):
    driver = {"driver": "file"}
  return {**spec, "kvstore": {**driver, "path": f"{name}/"}}


def chunk_shape(shape: Shape, itemsize: int) -> Shape:
  """T5X's chunks: the largest dimension falls to its next divisor until one fits 64 MiB."""
  divisors = [[d for d in range(1, size + 1) if size % d == 0] or [1] for size in shape]
  while np.prod([d[-1] for d in divisors], dtype=float) * itemsize > _CHUNK_BYTES:
    divisors[int(np.argmax([d[-1] for d in divisors]))].pop()
  return tuple(d[-1] for d in divisors)


def _elsewhere(folder: epath.Path, owner: epath.Path, path: str, node: Any) -> Leaf | None:
  """The zarr leaf of a spec; None for what is no spec.

  Raises:
    ValueError: The spec cannot be used.
  """
  if not isinstance(node, dict) or not node.keys() >= _SPEC_KEYS:
    return None
  kvstore, metadata = node.get("kvstore", {}), node["metadata"]
  if not isinstance(kvstore, dict) or not isinstance(metadata, dict):
    raise ValueError("its spec is damaged")
  drivers = str(node["driver"])[:40], str(kvstore.get("driver", "file"))[:40]
  if drivers[0] != "zarr" or drivers[1] not in _STORES:
    raise ValueError(f"its driver is {drivers[0]!r} in {drivers[1]!r}, which is unknown")
  inside = kvstore.get("path", node.get("path", ""))
  if not isinstance(inside, str):
    raise ValueError("its path is no text")
  location = zarr_arrays.location(folder, inside)
  return zarr_arrays.Zarr(
    shape_of(metadata.get("shape")),
    zarr_metadata.dtype(node.get("dtype", metadata.get("dtype"))),
    location,
    owner,
    path.removeprefix(_TARGET),
    lambda: zarr_arrays.files_below(folder / inside),
  )


def _scalar(step: Leaf, path: epath.Path) -> int:
  if step.shape not in ((), (1,)) or step.dtype.kind not in "iu":
    raise unreadable(path, f"its step is {step.dtype} of shape {list(step.shape)}")
  return int(step.read().reshape(()))
