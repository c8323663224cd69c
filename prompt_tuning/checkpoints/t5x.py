"""T5X native checkpoints: a msgpack index and, for most parameters, a zarr array each.

  checkpoint_<step>/
    checkpoint                        msgpack {"version": 3, "optimizer": tree}
    target.encoder.layers_0. ... /    one zarr v2 array; in the tree stands its spec

Any leaf may be inline or a spec, and specs of 2021 and of today differ, so a leaf is read
by what it is. Contract: T5X checkpoints, versions 2 and 3; written: version 3.
"""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from etils import epath
from flax import serialization

from prompt_tuning import checks, files, trees
from prompt_tuning.types import ArrayLike, FlatParams, Shape

INDEX = "checkpoint"
SAVE_DTYPES = ("float32", "bfloat16")
_STEP = re.compile(r"checkpoint_(\d+)")
_SPEC_KEYS = {"driver", "metadata"}
_CHUNK_BYTES = 64 << 20
_TF_INDEX = b"model_checkpoint_path"


class Checkpoint(Mapping[str, np.ndarray]):
  """Parameters of a checkpoint by T5X path; an array is read when it is asked for.

  Attributes:
    path: The folder (or single file) that was opened.
    step: Training step stored with the parameters.
    shapes: {path: shape}, known without reading any array.
  """

  def __init__(self, path: epath.Path, step: int, leaves: dict[str, Any], version: int):
    self.path, self.step = path, step
    self._folder = path if path.is_dir() else path.parent
    self._leaves = leaves
    self._version = version
    self.shapes: dict[str, Shape] = {
      name: tuple(leaf["metadata"]["shape"] if _is_spec(leaf) else np.shape(leaf))
      for name, leaf in leaves.items()
    }

  def __iter__(self) -> Iterator[str]:
    return iter(self._leaves)

  def __len__(self) -> int:
    return len(self._leaves)

  def __contains__(self, name: object) -> bool:
    return name in self._leaves  # without reading the array

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._leaves:
      raise KeyError(str(checks.unknown("parameter", name, list(self._leaves))))
    leaf = self._leaves[name]
    array = self._read(name, leaf) if _is_spec(leaf) else np.asarray(leaf)
    if self._version == 2 and array.dtype == np.uint16:
      array = array.view(ml_dtypes.bfloat16)
    return array

  def _read(self, name: str, spec: dict[str, Any]) -> np.ndarray:
    location = _location(spec, self._folder)
    try:
      # A chunk that is not there is damage; tensorstore would fill in zeros.
      strict = {"driver": "zarr", "kvstore": location, "fill_missing_data_reads": False}
      store = ts.open(strict, open=True).result()
      if tuple(store.shape) != self.shapes[name]:  # before any memory is taken
        raise ValueError(f"shape {store.shape}, its index says {self.shapes[name]}")
      return np.asarray(store.read().result())
    except ValueError as error:
      raise _unreadable(self.path, f"{name} ({str(error).splitlines()[0]})") from error


def load(path: str) -> Checkpoint:
  """Opens a checkpoint: a step folder, its msgpack file, or a folder of steps (latest).

  Raises:
    InputError: There is none, or it is damaged or of another format.
  """
  index = find(files.path(path))
  content = index.read_bytes()
  if content.startswith(_TF_INDEX):
    raise _unreadable(index, "it is a TensorFlow checkpoint")
  try:
    tree = serialization.msgpack_restore(content)
    version = int(tree.get("version", 0))
    tree = tree.get("optimizer", tree)
    target, step = tree["target"], tree.get("state", {}).get("step", 0)
  except Exception as error:  # msgpack raises whatever it meets in damaged bytes
    detail = f"{type(error).__name__}: {error}"
    raise _unreadable(index, f"its index is damaged ({detail[:120]})") from error
  if version == 1:
    raise _unreadable(index, "it has version 1, which T5X no longer reads")
  folder = index.parent if index.name == INDEX else index
  return Checkpoint(folder, _scalar(step, folder), _leaves(target), version)


def find(path: epath.Path) -> epath.Path:
  """The msgpack file that a path means.

  Raises:
    InputError: Nothing there is a checkpoint.
  """
  if path.is_file():
    return path
  if (path / INDEX).is_file():
    return path / INDEX
  steps = saved_steps(path)
  if steps and (path / f"checkpoint_{steps[-1]}" / INDEX).is_file():
    return path / f"checkpoint_{steps[-1]}" / INDEX
  found = "nothing" if not path.exists() else "a folder without one"
  if (path / "_CHECKPOINT_METADATA").exists():
    found = "an Orbax checkpoint, which is not read yet"
  raise checks.InputError(
    f"there is no T5X checkpoint at {path} (found {found}), expected a folder with the "
    f"file {INDEX!r}, or checkpoint_<step> folders; correct the path"
  )


def saved_steps(path: epath.Path) -> list[int]:
  """Steps of the `checkpoint_<step>` folders in `path`, in order."""
  if not path.is_dir():
    return []
  found = (_STEP.fullmatch(child.name) for child in path.iterdir())
  return sorted(int(match[1]) for match in found if match)


def save(folder: epath.Path, params: FlatParams, step: int, dtype: str = "float32"):
  """Writes `folder/checkpoint_<step>`, complete or not at all.

  Args:
    folder: Where the step folder goes.
    params: {path: array}.
    step: Training step.
    dtype: Stored dtype of every parameter, "float32" or "bfloat16".
  """
  checks.choice("save dtype", dtype, SAVE_DTYPES)
  final = folder / f"checkpoint_{step}"
  if final.exists():
    return
  temporary = folder / f"checkpoint_{step}.tmp-{int(time.time())}"
  temporary.mkdir(parents=True)
  target = {
    name: _write(temporary, f"target.{name.replace('/', '.')}", array, dtype)
    for name, array in params.items()
  }
  tree = {
    "version": 3,
    "optimizer": {
      "target": trees.unflatten(target),
      "state": {"step": np.asarray(step, np.int32)},
    },
  }
  (temporary / INDEX).write_bytes(serialization.msgpack_serialize(tree))
  temporary.rename(final)


def _write(folder: epath.Path, name: str, array: ArrayLike, dtype: str) -> dict:
  """Writes one zarr array and returns the spec that stands for it in the index."""
  metadata = {
    "shape": list(array.shape),
    "chunks": _chunks(array.shape, np.dtype(dtype).itemsize),
    "compressor": {"id": "gzip", "level": 1},
  }
  spec = {"driver": "zarr", "dtype": dtype, "metadata": metadata}
  here = {
    **spec,
    "kvstore": _location({"path": name}, folder),
    "store_data_equal_to_fill_value": True,
  }
  store = ts.open(here, create=True).result()
  store.write(np.asarray(array).astype(dtype)).result()
  driver = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
  if not files.is_remote(folder):
    driver = {"driver": "file"}
  return {**spec, "kvstore": {**driver, "path": f"{name}/"}}


def _chunks(shape: Shape, itemsize: int) -> list[int]:
  """The whole array, halved along its longest side until a chunk is small enough."""
  chunks = list(shape)
  while int(np.prod(chunks)) * itemsize > _CHUNK_BYTES:
    longest = int(np.argmax(chunks))
    chunks[longest] = -(-chunks[longest] // 2)
  return chunks


def _is_spec(leaf: Any) -> bool:
  return isinstance(leaf, dict) and leaf.keys() >= _SPEC_KEYS


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
  """Leaves by path; a spec is a leaf, nil and empty dicts are not."""
  if isinstance(tree, dict) and not _is_spec(tree):
    found: dict[str, Any] = {}
    for name, child in tree.items():
      found |= _leaves(child, f"{prefix}/{name}" if prefix else str(name))
    return found
  return {} if tree is None else {prefix: tree}


def _location(spec: dict[str, Any], folder: epath.Path) -> dict[str, str]:
  """The tensorstore key-value store of a spec, wherever the checkpoint lies now."""
  inside = spec.get("kvstore", spec).get("path", spec.get("path", ""))
  parts = inside.strip("/").split("/")
  if inside.startswith("/") or ".." in parts or not parts[0]:
    raise _unreadable(folder, f"its index points outside the checkpoint, to {inside!r}")
  text = str(folder)
  if text.startswith("gs://"):
    bucket, _, prefix = text.removeprefix("gs://").partition("/")
    return {"driver": "gcs", "bucket": bucket, "path": f"{prefix}/{'/'.join(parts)}/"}
  return {"driver": "file", "path": str((folder / "/".join(parts)).resolve()) + "/"}


def _scalar(step: Any, folder: epath.Path) -> int:
  if not _is_spec(step):
    return int(step)
  store = ts.open({"driver": "zarr", "kvstore": _location(step, folder)}, open=True)
  return int(store.result().read().result())


def _unreadable(path: epath.Path, why: str) -> checks.InputError:
  return checks.InputError(
    f"the checkpoint {path} cannot be read: {why}; expected a complete T5X checkpoint, "
    "so copy it again (dotfiles included) or choose another"
  )
