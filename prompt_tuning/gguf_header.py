"""The header of a GGUF file: metadata and where each tensor lies, nothing taken on trust.

4 bytes    "GGUF"
uint32     version, 2 or 3
uint64     number of tensors, number of metadata
metadata   key, type, value; a text is its length (uint64) and UTF-8
tensors    name, rank, sizes (fastest first), type, offset from the data's beginning
data       at the next multiple of general.alignment

The `gguf` package reads headers too, but follows whatever counts a damaged one promises.
"""

import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from etils import epath

from prompt_tuning import checks
from prompt_tuning.types import Shape

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
  0: "<u1",
  1: "<i1",
  2: "<u2",
  3: "<i2",
  4: "<u4",
  5: "<i4",
  6: "<f4",
  7: "?",
  10: "<u8",
  11: "<i8",
  12: "<f8",
}
_TEXT, _ARRAY = 8, 9
_MOST_RANK = 4
_LEAST_METADATUM, _LEAST_TENSOR = 13, 24  # bytes
_ALIGNMENT, _MOST_ALIGNMENT = 32, 1 << 20


class Tensor(NamedTuple):
  """Where a tensor lies.

  Attributes:
    shape: Its shape, slowest axis first as in numpy.
    kind: GGML's number of its type.
    offset: Of its first byte in the file.
  """

  shape: Shape
  kind: int
  offset: int


class Header(NamedTuple):
  """What a file says of itself.

  Attributes:
    metadata: {key: number, bool, text, list of texts or array}.
    tensors: {name: tensor}; that their bytes are there is not checked.
    size: Bytes of the file.
  """

  metadata: dict[str, Any]
  tensors: dict[str, Tensor]
  size: int


def find(path: epath.Path) -> epath.Path | None:
  """The GGUF file that a path means: itself, or the only one of a folder.

  Raises:
    InputError: The folder has several.
  """
  if path.is_dir():
    inside = sorted(p for p in path.iterdir() if p.suffix == SUFFIX)
    if len(inside) > 1:
      names = ", ".join(p.name for p in inside[:12])
      raise checks.InputError(
        f"the folder {path} has several GGUF files ({names}), expected one; name the file"
      )
    return find(inside[0]) if inside else None
  if not path.is_file():
    return None
  with path.open("rb") as source:
    is_one = source.read(len(_MAGIC)) == _MAGIC
  if path.suffix == SUFFIX and not is_one:
    raise unreadable(path, "it does not begin with GGUF")
  return path if is_one else None


def read(path: epath.Path) -> Header:
  """Reads a header; no tensor is read.

  Raises:
    InputError: It is damaged, or of a version that is not known.
  """
  size = path.stat().length
  try:
    with path.open("rb") as source:
      return Header(*_parsed(_Cursor(source, size)), size)
  except (ValueError, OverflowError, OSError) as error:
    raise unreadable(path, f"its header is damaged ({str(error)[:160]})") from error


def unreadable(path: epath.Path, why: str) -> checks.InputError:
  """The error for a file that cannot be used."""
  return checks.InputError(
    f"the GGUF file {path} cannot be read: {why}; expected a complete one, so copy it "
    "again or choose another"
  )


class _Cursor:
  """A place in a file, which never moves past its end."""

  def __init__(self, source: BinaryIO, size: int):
    self._source, self.place, self.left = source, 0, size

  def take(self, nbytes: int) -> bytes:
    """The next bytes."""
    if nbytes > self.left:
      raise ValueError(f"it promises {nbytes} bytes where the file has {self.left}")
    found = self._source.read(nbytes)
    if len(found) != nbytes:
      raise ValueError("the file ends in the middle of it")
    self.place, self.left = self.place + nbytes, self.left - nbytes
    return found

  def whole(self, format: str = "<Q") -> int:
    """The next whole number."""
    return struct.unpack(format, self.take(struct.calcsize(format)))[0]

  def count(self, least: int) -> int:
    """How many things of at least so many bytes follow."""
    found = self.whole()
    if found * least > self.left:
      raise ValueError(f"it promises {found} entries where the file has {self.left} bytes")
    return found

  def text(self) -> str:
    """The next text."""
    return self.take(self.whole()).decode()

  def value(self) -> Any:
    """The next value, its type in front."""
    kind = self.whole("<I")
    if kind == _TEXT:
      return self.text()
    if kind != _ARRAY:
      return self._scalars(kind, 1)[0].item()
    kind = self.whole("<I")
    if kind == _TEXT:
      return [self.text() for _ in range(self.count(8))]
    return self._scalars(kind, self.count(1))

  def _scalars(self, kind: int, count: int) -> np.ndarray:
    if kind not in _SCALARS:
      raise ValueError(f"a value has the type {kind}, which is not known")
    dtype = np.dtype(_SCALARS[kind])
    return np.frombuffer(self.take(count * dtype.itemsize), dtype)


def _parsed(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, Tensor]]:
  if cursor.take(len(_MAGIC)) != _MAGIC:
    raise ValueError("it does not begin with GGUF")
  version = cursor.whole("<I")
  if version not in _VERSIONS:
    raise ValueError(f"its version is {version}, expected one of {_VERSIONS}")
  tensor_count, count = cursor.count(_LEAST_TENSOR), cursor.count(_LEAST_METADATUM)
  metadata: dict[str, Any] = {}
  for _ in range(count):
    _put(metadata, cursor.text(), cursor.value())
  tensors: dict[str, Tensor] = {}
  for _ in range(tensor_count):
    _put(tensors, cursor.text(), _tensor(cursor))
  alignment = metadata.get("general.alignment", _ALIGNMENT)
  if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT:
    raise ValueError(f"its alignment is {alignment!r}")
  begin = -(-cursor.place // alignment) * alignment
  moved = {n: t._replace(offset=begin + t.offset) for n, t in tensors.items()}
  return metadata, moved


def _tensor(cursor: _Cursor) -> Tensor:
  rank = cursor.whole("<I")
  if rank > _MOST_RANK:
    raise ValueError(f"a tensor has {rank} axes")
  shape = tuple(cursor.whole() for _ in range(rank))[::-1]
  return Tensor(shape, cursor.whole("<I"), cursor.whole())


def _put(entries: dict[str, Any], name: str, value: Any) -> None:
  if name in entries:
    raise ValueError(f"{name[:60]} stands in it twice")
  entries[name] = value
