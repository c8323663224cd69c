"""An array of a checkpoint that is read when it is asked for, whole or in part.

Formats differ in where bytes lie; what the model wants may further be a transpose, one
layer of a stack, or another reading of the bits. Each difference is one small wrapper:

  Transposed(leaf)[i, j]      leaf[j, i]             a PyTorch kernel [out, in]
  Rows(leaf, order)[i, j]     leaf[order[i], j]      our order of tokens
  Layer(leaf, n)[i, j]        leaf[i, n, j]          a scanned stack of layers
  Bits(leaf)                  uint16 -> bfloat16     T5X before 2021
  Scaled(leaf, factor)        leaf * factor          logits that divide by sqrt(d_model)
  Cast(leaf, dtype)           leaf in another dtype
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from prompt_tuning import checks
from prompt_tuning.types import Shape

_MAX_RANK, _MAX_SIZE = 32, 1 << 48
_MOST_RUNS = 16  # of neighbouring rows that are read one by one
_COMPARED = 1 << 16  # elements of two matrices that are compared at a time
Index = tuple[slice, ...]  # one slice per axis, step 1


class Leaf(Protocol):
  """What every stored array answers."""

  @property
  def shape(self) -> Shape:
    """Known without reading."""

  @property
  def dtype(self) -> np.dtype:
    """Of the values that `read` returns, known without reading."""

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """The values; only the bytes that are needed, where the format lets it.

    Args:
      index: A box; None is all of it.
      dtype: Cast on the way; None is the leaf's own.

    Raises:
      InputError: They are damaged or not there.
    """


@dataclasses.dataclass(frozen=True)
class Inline:
  """An array that is in memory already."""

  array: np.ndarray

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.array.shape

  @property
  def dtype(self) -> np.dtype:
    """See `Leaf`."""
    return self.array.dtype

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    return cast(self.array if index is None else self.array[index], dtype)


@dataclasses.dataclass(frozen=True)
class Transposed:
  """A matrix with its axes exchanged."""

  leaf: Leaf

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.leaf.shape[::-1]

  @property
  def dtype(self) -> np.dtype:
    """See `Leaf`."""
    return self.leaf.dtype

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    return self.leaf.read(None if index is None else index[::-1], dtype).T


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
  """An array whose rows are taken in another order.

  Attributes:
    leaf: The array.
    order: [rows]: which of its rows stands where.
  """

  leaf: Leaf
  order: np.ndarray

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.leaf.shape

  @property
  def dtype(self) -> np.dtype:
    """See `Leaf`."""
    return self.leaf.dtype

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`; few runs of rows are read as they are, more as all that lies between."""
    first, *rest = bounded(index or whole(self.shape), self.shape)
    wanted = self.order[first]
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
    if wanted.size and len(runs) > _MOST_RUNS:
      low, high = int(wanted.min()), int(wanted.max()) + 1
      return self.leaf.read((slice(low, high), *rest), dtype)[wanted - low]
    boxes = (slice(int(run[0]), int(run[-1]) + 1) if run.size else slice(0) for run in runs)
    parts = [self.leaf.read((box, *rest), dtype) for box in boxes]
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class Layer:
  """One layer of an array whose axis 1 runs over layers."""

  leaf: Leaf
  number: int

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return (self.leaf.shape[0], *self.leaf.shape[2:])

  @property
  def dtype(self) -> np.dtype:
    """See `Leaf`."""
    return self.leaf.dtype

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    first, *rest = whole(self.shape) if index is None else index
    here = slice(self.number, self.number + 1)
    return self.leaf.read((first, here, *rest), dtype)[:, 0]


@dataclasses.dataclass(frozen=True)
class Bits:
  """bfloat16 values that were stored as 16-bit integers."""

  leaf: Leaf
  dtype = np.dtype(ml_dtypes.bfloat16)

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.leaf.shape

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    return cast(self.leaf.read(index).view(self.dtype), dtype)


@dataclasses.dataclass(frozen=True)
class Scaled:
  """An array times a number, in float32."""

  leaf: Leaf
  factor: float
  dtype = np.dtype(np.float32)

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.leaf.shape

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    return cast(self.leaf.read(index, self.dtype) * np.float32(self.factor), dtype)


@dataclasses.dataclass(frozen=True)
class Cast:
  """An array in another dtype."""

  leaf: Leaf
  dtype: np.dtype

  @property
  def shape(self) -> Shape:
    """See `Leaf`."""
    return self.leaf.shape

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`."""
    with np.errstate(over="ignore"):  # told below
      values = self.leaf.read(index, self.dtype)
    lost = np.isinf(values)
    if np.any(lost & np.isfinite(self.leaf.read(index) if np.any(lost) else values)):
      raise checks.InputError(
        f"an array has values beyond {self.dtype}, expected at most "
        f"{ml_dtypes.finfo(self.dtype).max}; choose bfloat16 or float32"
      )
    return cast(values, dtype)


def cast(array: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
  """The array in a dtype; itself where there is nothing to do."""
  return array if dtype is None else array.astype(dtype, copy=False)


def shape_of(sizes: Any) -> Shape:
  """A shape as it stands in an index or a header of anybody.

  Raises:
    ValueError: It is no list of sizes, or of more than any array has.
  """
  if not isinstance(sizes, list | tuple) or len(sizes) > _MAX_RANK:
    raise ValueError(f"its shape {str(sizes)[:60]} is no list of sizes")
  if not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in sizes):
    raise ValueError(f"its shape {str(sizes)[:60]} is no list of sizes")
  if math.prod(max(size, 1) for size in sizes) > _MAX_SIZE:
    raise ValueError(f"its shape {str(sizes)[:60]} is of more than any array has")
  return tuple(sizes)


def whole(shape: Shape) -> Index:
  """The box that is all of an array."""
  return tuple(slice(0, size) for size in shape)


def bounded(index: Sequence[slice], shape: Shape) -> Index:
  """The same box with its bounds spelled out."""
  spans = (part.indices(size) for part, size in zip(index, shape, strict=True))
  return tuple(slice(start, stop) for start, stop, _ in spans)


def nbytes(leaf: Leaf) -> int:
  """Bytes of a leaf in memory."""
  return math.prod(leaf.shape) * leaf.dtype.itemsize


def as_stored(leaf: Leaf) -> Leaf:
  """The leaf itself, or its bfloat16 reading where it holds 16-bit patterns."""
  return Bits(leaf) if leaf.dtype == np.uint16 else leaf


def equal(one: Leaf, other: Leaf) -> bool:
  """Whether two matrices have the same values; stops reading where they differ."""
  if one.shape != other.shape:
    return False
  rows, width = one.shape
  step = max(1, _COMPARED // width)
  for start in range(0, rows, step):  # most differ in the first rows
    box = (slice(start, min(start + step, rows)), slice(0, width))
    if not np.array_equal(one.read(box), other.read(box)):
      return False
  return True
