"""What a zarr array says of itself, checked before anything is allocated for it.

tensorstore allocates what the metadata promises and ends the process when it cannot.
"""

import dataclasses
import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts

from prompt_tuning.checkpoints.leaves import shape_of
from prompt_tuning.types import Shape

_FILES = (".zarray", "zarr.json")  # of versions 2 and 3
_BESIDE = (*_FILES, ".zattrs", ".zgroup")
Location = dict[str, Any]  # a tensorstore key-value store, its path ending in "/"

_COMPRESSORS = (None, "blosc", "gzip", "zlib", "zstd")  # of T5X, Orbax and tensorstore
# How many bytes one stored byte can become. Weights hardly shrink; constants do, 50,000
# times with zstd, which is allowed up to the size of T5X's chunks.
_RATIO, _CONSTANT_RATIO, _CONSTANT_BYTES = 64, 50_000, 64 << 20
_OVERHEAD = 64 << 10  # a bound for small arrays, where headers outweigh ratios
_PART_BYTES = 16  # of the index of a shard, for each of its parts
_CODECS = ("bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd")
_CODES = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)} | {
  order + code: np.dtype(code) for order in "|<>" for code in _CODES
}


@dataclasses.dataclass(frozen=True)
class Stored:
  """What is there to be read.

  Attributes:
    nbytes: Bytes, at most.
    chunks: Files or keys that are chunks.
  """

  nbytes: int
  chunks: int


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What `.zarray` or `zarr.json` says.

  Attributes:
    driver: tensorstore's name of the format.
    shape: Of the array.
    dtype: Of its elements.
    chunks: Shape of one chunk.
    compressor: Its name, or None.
    parts: Arrays that one chunk consists of; 1 unless chunks are shards.
  """

  driver: str
  shape: Shape
  dtype: np.dtype
  chunks: Shape
  compressor: str | None
  parts: int = 1

  def __post_init__(self):
    if len(self.shape) != len(self.chunks) or 0 in self.chunks:
      raise ValueError(f"its chunks {self.chunks} do not fit its shape {self.shape}")
    if any(c > max(s, 1) for c, s in zip(self.chunks, self.shape, strict=True)):
      raise ValueError(f"its chunks {self.chunks} are larger than its shape {self.shape}")

  @property
  def nbytes(self) -> int:
    """Bytes of the array in memory."""
    return math.prod(self.shape) * self.dtype.itemsize

  def check(self, stored: Stored | None) -> None:
    """Raises `ValueError` where the array cannot be what is promised, or has no room.

    Args:
      stored: What is there; None where that is not known.
    """
    if stored is not None:
      self._check_stored(stored)
    if not _is_room(self.nbytes):
      raise ValueError(f"it needs {self.nbytes} bytes of memory, which are not there")

  def _check_stored(self, stored: Stored) -> None:
    sides = zip(self.shape, self.chunks, strict=True)
    chunks = math.prod(-(-size // chunk) for size, chunk in sides)
    if stored.chunks < chunks:
      raise ValueError(f"{chunks - stored.chunks} of its {chunks} chunks are missing")
    if self.parts * _PART_BYTES > stored.nbytes + _OVERHEAD:
      raise ValueError(
        f"its shards have {self.parts} parts, {stored.nbytes} bytes are there"
      )
    is_small = math.prod(self.chunks) * self.dtype.itemsize <= _CONSTANT_BYTES
    ratio = _CONSTANT_RATIO if is_small else _RATIO
    ratio = 1 if self.compressor is None else ratio
    if self.nbytes > stored.nbytes * ratio + _OVERHEAD:
      raise ValueError(f"it promises {self.nbytes} bytes, only {stored.nbytes} are stored")


def read(location: Location) -> Metadata:
  """Reads the metadata of the array at a location.

  Raises:
    ValueError: There is none, or it is of something that no checkpoint holds.
  """
  store = ts.KvStore.open(location).result()
  for name, parse in zip(_FILES, (_version_2, _version_3), strict=True):
    content = store.read(name).result().value
    if content:
      try:
        return parse(json.loads(content))
      except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {name} is damaged ({error})") from error
  raise ValueError("its .zarray is not there")


def is_chunk(name: str) -> bool:
  """Whether a file or key of an array holds a chunk."""
  return name not in _BESIDE


def _is_room(nbytes: int) -> bool:
  """Whether so much memory can be had, which only Python asks without ending."""
  try:
    np.empty(nbytes, np.uint8)
  except MemoryError:
    return False
  return True


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
  raise ValueError(f"its dtype {str(name)[:40]!r} is not supported")


def _version_2(text: Any) -> Metadata:
  if text["zarr_format"] != 2:
    raise ValueError("its .zarray is not of zarr version 2")
  compressor = text["compressor"]
  code = None if compressor is None else compressor["id"]
  if code not in _COMPRESSORS:
    raise ValueError(f"its compressor {str(code)[:40]!r} is not supported")
  if text.get("filters"):
    raise ValueError("its filters are not supported")
  chunks = shape_of(text["chunks"])
  kind = dtype(text["dtype"])
  return Metadata("zarr", shape_of(text["shape"]), kind, chunks, code)


def _version_3(text: Any) -> Metadata:
  chunks = shape_of(text["chunk_grid"]["configuration"]["chunk_shape"])
  codecs, inner = list(text["codecs"]), chunks
  for codec in codecs:
    if codec["name"] not in _CODECS:
      raise ValueError(f"its codec {str(codec['name'])[:40]!r} is not supported")
    if codec["name"] == "sharding_indexed":
      inner = shape_of(codec["configuration"]["chunk_shape"])
      codecs += [*codec["configuration"]["codecs"], *codec["configuration"]["index_codecs"]]
  if len(inner) != len(chunks) or 0 in inner:
    raise ValueError(f"its parts {inner} do not fit its chunks {chunks}")
  parts = math.prod(-(-c // i) for c, i in zip(chunks, inner, strict=True))
  kind = dtype(text["data_type"])
  return Metadata("zarr3", shape_of(text["shape"]), kind, chunks, "zstd", parts)
