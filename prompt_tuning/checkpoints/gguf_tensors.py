"""One tensor of a GGUF file, dequantised to float32 when it is read, rows by rows."""

import dataclasses
import math
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, gguf_header
from prompt_tuning.checkpoints import leaves
from prompt_tuning.checkpoints.leaves import Index, Leaf
from prompt_tuning.gguf_header import unreadable
from prompt_tuning.types import Shape

_ROPE_FACTORS = "rope_freqs.weight"
_CHUNK = 1 << 22  # elements that are dequantised at a time


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a file.

  Attributes:
    shape: Its shape, a vector's or a matrix's.
    path: The file.
    name: In the file, for messages.
    kind: GGML's type.
    offset: Of its first byte in the file.
    block: Elements of a row that are quantised together, and the bytes that they take.
  """

  shape: Shape
  path: epath.Path
  name: str
  kind: Any
  offset: int
  block: tuple[int, int]
  dtype = np.dtype(np.float32)

  @property
  def _row(self) -> int:
    """Bytes of a row in the file."""
    return _row(self.shape, self.block)

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`; reads the rows that the box touches."""
    box = leaves.bounded(index or leaves.whole(self.shape), self.shape)
    *first, columns = box
    rows = first[0] if first else slice(0, 1)
    count, width = max(rows.stop - rows.start, 0), self.shape[-1]
    span = max(columns.stop - columns.start, 0)
    values = np.empty((count, span), self.dtype if dtype is None else dtype)
    step = max(1, _CHUNK // max(width, 1))
    with self.path.open("rb") as source:
      source.seek(self.offset + rows.start * self._row)
      for begin in range(0, count, step):
        end = min(begin + step, count)
        content = source.read((end - begin) * self._row)
        values[begin:end] = self._values(content, end - begin)[:, columns]
    return values if first else values[0]

  def _values(self, content: bytes, rows: int) -> np.ndarray:
    """[rows, width] float32 of the bytes of so many rows."""
    import gguf

    if len(content) != rows * self._row:
      raise unreadable(self.path, f"it ends in the middle of {self.name}")
    stored = np.frombuffer(content, np.uint8).reshape(rows, self._row)
    return gguf.dequantize(stored, self.kind)


def tensor(path: epath.Path, name: str, header: gguf_header.Header) -> Leaf:
  """A tensor whose bytes are in the file, all of them.

  Raises:
    InputError: They are not, or are of a type that is not known; or the `gguf` package is
      missing.
  """
  if name == _ROPE_FACTORS:
    raise unsupported(path, "it has a tensor that scales positions,", name, "none")
  shape, number, offset = header.tensors[name]
  kind, block = _kind(path, number)
  try:
    shape = leaves.shape_of(shape)
  except ValueError as error:
    raise unreadable(path, f"{name}: {error}") from error
  if not 1 <= len(shape) <= 2 or 0 in shape or shape[-1] % block[0]:
    raise unreadable(path, f"{name} is {list(shape)} in blocks of {block[0]}")
  if offset + math.prod(shape[:-1]) * _row(shape, block) > header.size:
    raise unreadable(path, f"it ends in the middle of {name}")
  return Tensor(shape, path, name, kind, offset, block)


def _row(shape: Shape, block: tuple[int, int]) -> int:
  """Bytes of a row of that shape in the file."""
  elements, nbytes = block
  return shape[-1] // elements * nbytes


def _kind(path: epath.Path, number: int) -> tuple[Any, tuple[int, int]]:
  """GGML's type of that number, and its blocks."""
  try:
    import gguf
  except ImportError as error:
    raise checks.InputError(
      f"the GGUF file {path} needs the package gguf, which is not installed; "
      "`pip install 'prompt-tuning[llm]'` brings it"
    ) from error
  name = str(number)
  try:
    kind = gguf.GGMLQuantizationType(number)
    name = kind.name
    elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
    gguf.dequantize(np.zeros((1, nbytes), np.uint8), kind)
  except (ValueError, KeyError, NotImplementedError) as error:
    known = "F32, F16, BF16, Q8_0, Q4_1 or another that gguf dequantises"
    raise unsupported(path, "the type of a tensor", name, known) from error
  return kind, (elements, nbytes)


def unsupported(
  path: epath.Path, what: str, found: object, expected: str
) -> checks.InputError:
  """The error for a model that asks for what is not there."""
  return checks.InputError(
    f"the GGUF file {path} is of a model that is not supported: {what} is "
    f"{str(found)[:60]!r}, expected {expected}; choose another, or the model's Hugging "
    "Face folder"
  )
