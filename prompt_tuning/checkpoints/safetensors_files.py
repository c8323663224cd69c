"""safetensors files: the header checked in full, tensors read and written one at a time.

8 bytes  size of the header, little endian
header   JSON {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__"}
data     tensors in C order, from offset 0, without gaps and without overlaps
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from etils import epath

from prompt_tuning import files
from prompt_tuning.checkpoints import leaves
from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Index, Leaf
from prompt_tuning.types import Shape

SUFFIX = ".safetensors"
_MOST_HEADER = 100 << 20
_METADATA = "__metadata__"
_DTYPES = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": ml_dtypes.bfloat16,
  "I64": np.int64,
  "I32": np.int32,
  "I16": np.int16,
  "I8": np.int8,
  "U64": np.uint64,
  "U32": np.uint32,
  "U16": np.uint16,
  "U8": np.uint8,
  "BOOL": np.bool_,
}
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError)
_CODES = {np.dtype(kind): code for code, kind in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class File:
  """An opened file.

  Attributes:
    leaves: {name: leaf}.
    metadata: Text by key, as the writer put it there.
  """

  leaves: dict[str, Leaf]
  metadata: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a file.

  Attributes:
    shape: Its shape.
    dtype: Its dtype.
    path: The file.
    name: In the file, for messages.
    offset: Of its first byte in the file.
  """

  shape: Shape
  dtype: np.dtype
  path: epath.Path
  name: str
  offset: int

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`; reads the rows that the box touches, of a matrix only its columns."""
    if not self.shape:
      return leaves.cast(self._array((), [0]), dtype)
    first, *rest = leaves.bounded(index or leaves.whole(self.shape), self.shape)
    count, row = max(first.stop - first.start, 0), math.prod(self.shape[1:])
    if len(rest) != 1 or rest[0] == slice(0, row) or files.is_remote(self.path):
      rows = self._array((count, *self.shape[1:]), [first.start * row])
      return leaves.cast(rows[(slice(None), *rest)], dtype)
    width = max(rest[0].stop - rest[0].start, 0)
    begins = [(first.start + i) * row + rest[0].start for i in range(count)]
    return leaves.cast(self._array((count, width), begins), dtype)

  def _opened(self, runs: int) -> BinaryIO:
    """The file; for many runs without a buffer, which would read too much."""
    if runs > 1:
      return open(self.path, "rb", buffering=0)
    return self.path.open("rb")

  def _array(self, shape: Shape, begins: Sequence[int]) -> np.ndarray:
    """Elements that lie in runs of equal length, given where in the tensor each begins."""
    nbytes = math.prod(shape) * self.dtype.itemsize
    run, pieces = nbytes // max(len(begins), 1), []
    try:
      with self._opened(len(begins)) as source:
        for begin in begins:
          source.seek(self.offset + begin * self.dtype.itemsize)
          pieces.append(source.read(run))
    except OSError as error:
      raise unreadable(self.path, f"{self.name} ({first_line(error)})") from error
    content = b"".join(pieces)
    if len(content) != nbytes:
      raise unreadable(self.path, f"{self.name} (the file ends in the middle of it)")
    return np.frombuffer(content, self.dtype).reshape(shape)


def read(path: epath.Path) -> File:
  """Opens a file; its header is checked, no tensor is read.

  Raises:
    InputError: The header is damaged or does not describe the bytes that follow.
  """
  try:
    size = path.stat().length
    with path.open("rb") as source:
      header, begin = _header(source, size)
    return File(*_parsed(header, path, begin, size - begin))
  except _DAMAGE as error:
    raise unreadable(path, f"its header is damaged ({first_line(error)})") from error


def is_one(content: bytes, size: int) -> bool:
  """Whether the first bytes of a file of `size` bytes look like safetensors."""
  length = int.from_bytes(content[:8], "little")
  return len(content) > 8 and 2 <= length <= size - 8 and content[8:9] == b"{"


def write(
  path: epath.Path,
  tensors: Mapping[str, Leaf],
  metadata: Mapping[str, str] | None = None,
  written: Callable[[], None] = lambda: None,
) -> None:
  """Writes a file; each tensor is read when its turn comes.

  Args:
    path: The file. It is not written atomically: put it into a folder that is.
    tensors: {name: leaf}.
    metadata: Text by key.
    written: Called after every tensor.
  """
  parts = encoded(tensors, metadata)
  with path.open("wb") as sink:
    sink.write(next(parts))
    for part in parts:
      sink.write(bytes(part) if files.is_remote(path) else part)
      written()
    if not files.is_remote(path):
      sink.flush()
      os.fsync(sink.fileno())


def encoded(
  tensors: Mapping[str, Leaf], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
  """The bytes of a file, part by part: the header, then each tensor."""
  header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
  end = 0
  for name, leaf in tensors.items():
    begin, end = end, end + leaves.nbytes(leaf)
    header[name] = {
      "dtype": _CODES[leaf.dtype],
      "shape": list(leaf.shape),
      "data_offsets": [begin, end],
    }
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
  yield len(text).to_bytes(8, "little") + text
  for leaf in tensors.values():
    array = np.ascontiguousarray(leaf.read())
    yield array.reshape(-1).view(np.uint8).data


def _header(source: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
  length = int.from_bytes(source.read(8), "little")
  if length > min(_MOST_HEADER, size - 8):
    raise ValueError(f"it promises {length} bytes, the file has {size}")
  header = json.loads(source.read(length), object_pairs_hook=_unique)
  if not isinstance(header, dict):
    raise ValueError("it is no map")
  return header, 8 + length


def _parsed(
  header: dict[str, Any], path: epath.Path, begin: int, size: int
) -> tuple[dict[str, Leaf], dict[str, str]]:
  metadata = header.pop(_METADATA, None) or {}
  if not all(isinstance(value, str) for value in metadata.values()):
    raise ValueError(f"{_METADATA} is no map of texts")
  found: dict[str, Leaf] = {}
  end = 0
  for name, row in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
    if row["dtype"] not in _DTYPES:
      raise ValueError(f"{name} has the dtype {row['dtype']!r}, which is not supported")
    kind = np.dtype(_DTYPES[row["dtype"]])
    shape = leaves.shape_of(row["shape"])
    start, stop = row["data_offsets"]
    if type(start) is not int or type(stop) is not int:
      raise ValueError(f"{name} has offsets that are no integers")
    if start != end:
      raise ValueError(f"{name} begins at {start}, the tensor before it ends at {end}")
    if stop - start != math.prod(shape) * kind.itemsize:
      raise ValueError(f"{name} has {stop - start} bytes, its shape needs others")
    end = stop
    found[name] = Tensor(shape, kind, path, name, begin + start)
  if end != size:
    raise ValueError(f"its tensors have {end} bytes, the file has {size} for them")
  return found, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError("a name stands in it twice")
  return found
