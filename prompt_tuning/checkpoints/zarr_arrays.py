"""One zarr array as a leaf, read through tensorstore: locally, in a bucket, or in OCDBT.

tensorstore allocates what the metadata promises and ends the process when it cannot, so
the metadata is checked first, against its index and against the bytes that are there.
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from etils import epath

from prompt_tuning import files
from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Index
from prompt_tuning.types import Shape

Location = dict[str, Any]  # a tensorstore key-value store, its path ending in "/"

# How many bytes one stored byte can become, by the compressor that wrote it.
_RATIOS = {None: 1, "gzip": 1032, "zlib": 1032, "blosc": 256, "zstd": 50_000, "bz2": 50_000}
_OVERHEAD = 64 << 10  # a bound for small arrays, where headers outweigh ratios
_MAX_RANK = 32
_CODES = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)} | {
  order + code: np.dtype(code) for order in "|<>" for code in _CODES
}
_FAILURES = (ValueError, OSError, NotImplementedError, RuntimeError, OverflowError)


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What `.zarray` or `zarr.json` says.

  Attributes:
    driver: tensorstore's name of the format.
    shape: Of the array.
    dtype: Of its elements.
    chunks: Shape of one chunk.
    ratio: How many bytes one stored byte can become.
  """

  driver: str
  shape: Shape
  dtype: np.dtype
  chunks: Shape
  ratio: int

  @property
  def allocated(self) -> int:
    """Bytes that reading takes at least: of the array or of one chunk."""
    return max(math.prod(self.shape), math.prod(self.chunks)) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Zarr:
  """A leaf in zarr format.

  Attributes:
    shape: As the checkpoint's index has it.
    dtype: The same.
    location: Where its chunks lie.
    owner: The checkpoint, for messages.
    name: Of the variable, for messages.
    stored: Bytes that are there to be read; None where that is not known.
  """

  shape: Shape
  dtype: np.dtype
  location: Location
  owner: epath.Path
  name: str
  stored: Callable[[], int | None]

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`; damage names the checkpoint and the variable."""
    try:
      found = metadata(self.location)
      self._check(found)
      # A chunk that is not there is damage; tensorstore would fill in zeros.
      spec = {"kvstore": self.location, "fill_missing_data_reads": False}
      store = ts.open({"driver": found.driver, **spec}, open=True).result()
      if dtype not in (None, self.dtype):
        store = ts.cast(store, dtype)  # chunk by chunk
      return np.asarray(store[index or ...].read().result())
    except _FAILURES as error:
      raise unreadable(self.owner, f"{self.name} ({first_line(error)})") from error

  def _check(self, found: Metadata) -> None:
    """Raises `ValueError` for an array that is not the one of the index."""
    if found.shape != self.shape:
      raise ValueError(f"its shape is {found.shape}, its index says {self.shape}")
    if found.dtype != self.dtype:
      raise ValueError(f"it holds {found.dtype}, its index says {self.dtype}")
    check_size(found, self.stored())


def check_size(found: Metadata, stored: int | None) -> None:
  """Raises `ValueError` where `stored` bytes cannot become what is promised."""
  if stored is not None and found.allocated > stored * found.ratio + _OVERHEAD:
    raise ValueError(
      f"it promises {found.allocated} bytes, only {stored} are stored; chunks are missing"
    )


def metadata(location: Location) -> Metadata:
  """Reads what an array says of itself.

  Raises:
    ValueError: It says nothing, or something that no checkpoint holds.
  """
  store = ts.KvStore.open(location).result()
  content = store.read(".zarray").result().value
  if content:
    return _version_2(json.loads(content))
  content = store.read("zarr.json").result().value
  if content:
    return _version_3(json.loads(content))
  raise ValueError("its .zarray is not there")


def location(folder: epath.Path, inside: str) -> Location:
  """The store of the array `inside` a folder, wherever the folder lies now.

  Raises:
    ValueError: The path leaves the folder.
  """
  parts = inside.strip("/").split("/")
  if inside.startswith("/") or ".." in parts or not parts[0] or "\0" in inside:
    raise ValueError(f"it points outside the checkpoint, to {inside!r}")
  base = store(folder)
  return {**base, "path": base["path"] + "/".join(parts) + "/"}


def store(folder: epath.Path) -> Location:
  """The key-value store that is a folder, here or in a bucket."""
  text = str(folder)
  if text.startswith("gs://"):
    bucket, _, prefix = text.removeprefix("gs://").partition("/")
    return {"driver": "gcs", "bucket": bucket, "path": f"{prefix.strip('/')}/".lstrip("/")}
  return {"driver": "file", "path": f"{folder.resolve()}/"}


def bytes_below(folder: epath.Path) -> int | None:
  """Bytes of all files below a local folder; None in a bucket, where asking is slow."""
  if files.is_remote(folder):
    return None
  walk = os.walk(folder)
  paths = (os.path.join(at, name) for at, _, names in walk for name in names)
  return sum(os.stat(path).st_size for path in paths)


def dtype(name: Any) -> np.dtype:
  """The dtype of a zarr code ("<f4") or of a tensorstore name ("float32").

  Raises:
    ValueError: It is none that a checkpoint holds.
  """
  if isinstance(name, str):
    if name in _DTYPES:
      return _DTYPES[name]
    for known in _DTYPES.values():
      if known.name == name:
        return known
  raise ValueError(f"its dtype {name!r} is not supported")


def shape(sizes: Any) -> Shape:
  """A shape in JSON or msgpack.

  Raises:
    ValueError: It is not a list of sizes.
  """
  if not isinstance(sizes, list | tuple) or len(sizes) > _MAX_RANK:
    raise ValueError(f"its shape {str(sizes)[:60]} is no list of sizes")
  if not all(type(size) is int and 0 <= size < 1 << 62 for size in sizes):
    raise ValueError(f"its shape {str(sizes)[:60]} is no list of sizes")
  return tuple(sizes)


def _version_2(text: Any) -> Metadata:
  if not isinstance(text, dict) or text.get("zarr_format") != 2:
    raise ValueError("its .zarray is not of zarr version 2")
  compressor = text.get("compressor")
  code = compressor.get("id") if isinstance(compressor, dict) else compressor
  if code not in _RATIOS:
    raise ValueError(f"its compressor {str(code)[:40]!r} is not supported")
  if text.get("filters"):
    raise ValueError("its filters are not supported")
  sizes, chunks = shape(text.get("shape")), shape(text.get("chunks"))
  if len(sizes) != len(chunks) or 0 in chunks:
    raise ValueError(f"its chunks {list(chunks)} do not fit its shape {list(sizes)}")
  return Metadata("zarr", sizes, dtype(text.get("dtype")), chunks, _RATIOS[code])


def _version_3(text: Any) -> Metadata:
  try:
    sizes, chunks = (
      shape(text["shape"]),
      shape(text["chunk_grid"]["configuration"]["chunk_shape"]),
    )
    kind = dtype(text["data_type"])
  except (KeyError, TypeError) as error:
    raise ValueError(f"its zarr.json lacks {error}") from error
  if len(sizes) != len(chunks) or 0 in chunks:
    raise ValueError(f"its chunks {list(chunks)} do not fit its shape {list(sizes)}")
  return Metadata("zarr3", sizes, kind, chunks, max(_RATIOS.values()))
