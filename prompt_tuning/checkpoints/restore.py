"""A checkpoint onto a model: every name accounted for, or no model at all.

Each process reads the boxes that its own devices hold, once each, and casts them on the
way in. The largest arrays come first, while the devices hold little, so that host memory
never holds much more than the devices do in the end.
"""

import concurrent.futures
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import leaves
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Index, Leaf
from prompt_tuning.progress import Progress
from prompt_tuning.types import Array, Shape

Sharding = jax.sharding.Sharding

_REMEDY = (
  "choose the model config that the checkpoint was made with, or name what may be "
  "drawn at random in utils.RestoreCheckpointConfig.initialise"
)
_DTYPES = ("float32", "bfloat16", "float16", "int8")
Finish = Callable[[str, Array], Mapping[str, Array]]
_GROUP_BYTES = 16 << 20  # of small arrays that are read at a time
_LOCAL_READERS, _REMOTE_READERS = 2, 16  # threads; remote ones mostly wait


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreCheckpointConfig:
  """Where the frozen weights come from.

  Attributes:
    path: A checkpoint of any format: a folder, a file, or a folder of steps (latest).
    dtype: How weights lie in memory: "float32", "bfloat16", "float16" or "int8" (matrices
      with a scale per channel, the rest in float32); None keeps what is stored.
    ignore: Regular expressions of names that the file may have beyond the model's.
    initialise: Regular expressions of names that the file may lack; those weights are
      drawn at random. Without it no weight ever is.
  """

  path: str
  dtype: str | None = None
  ignore: Sequence[str] = (".*prompt.*",)
  initialise: Sequence[str] = ()

  def __post_init__(self):
    if self.dtype is not None:
      checks.choice("RestoreCheckpointConfig.dtype", self.dtype, _DTYPES)
    for pattern in (*self.ignore, *self.initialise):
      try:
        re.compile(pattern)
      except re.error as error:
        raise checks.InputError(
          f"RestoreCheckpointConfig has the pattern {pattern!r} ({error}), expected a "
          "regular expression; correct it"
        ) from error

  @property
  def cast(self) -> str | None:
    """What arrays are cast to on the way in, before any becomes int8."""
    return "float32" if self.dtype == "int8" else self.dtype


def _as_read(path: str, array: Array) -> dict[str, Array]:
  return {path: array}


def restore(
  checkpoint: Checkpoint,
  expected: Mapping[str, Shape],
  *,
  ignore: Sequence[str] = (),
  initialise: Sequence[str] = (),
  dtype: str | None = None,
  sharding: Callable[[str], Sharding] | None = None,
  finish: Finish = _as_read,
) -> dict[str, Array]:
  """Reads exactly the parameters that a model has.

  Args:
    checkpoint: Where they are.
    expected: {path: shape} of the model.
    ignore: Regular expressions (full match) of names in the checkpoint that the model
      does not have and need not have, e.g. an old prompt.
    initialise: Regular expressions of names in the model that the checkpoint may lack.
    dtype: Cast on the way in; None keeps what is stored.
    sharding: From a path to how its array lies on devices; None is one device.
    finish: From a path and its array to what is kept of it, so that never many arrays
      lie on the devices as they were read; all processes call it in the same order.

  Returns:
    {path: array} in the order of `expected`, without the names to initialise; what
    `finish` made of them.

  Raises:
    InputError: Names are missing (-) or unexpected (+), or shapes differ; all are listed.
  """
  checks.names(
    f"the checkpoint {checkpoint.path}",
    _unmatched(expected.keys() - checkpoint.keys(), initialise),
    _unmatched(checkpoint.keys() - expected.keys(), ignore),
    _REMEDY,
  )
  names = [name for name in expected if name in checkpoint]
  wrong = [
    f"  {name}: {list(checkpoint.leaves[name].shape)}, the model has {list(expected[name])}"
    for name in names
    if tuple(checkpoint.leaves[name].shape) != tuple(expected[name])
  ]
  if wrong:
    raise checks.InputError(
      f"the checkpoint {checkpoint.path} is of another size than the model; {_REMEDY}\n"
      + "\n".join(wrong)
    )
  one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  parts = {
    name: _Parts(checkpoint.leaves[name], sharding(name) if sharding else one, dtype)
    for name in names
  }
  readers = _REMOTE_READERS if files.is_remote(checkpoint.path) else _LOCAL_READERS
  return _read(parts, readers, finish)


class _Parts:
  """The boxes of one array that this process holds."""

  def __init__(self, leaf: Leaf, sharding: Sharding, dtype: str | None):
    self._leaf, self._sharding = leaf, sharding
    self._dtype = leaf.dtype if dtype is None else np.dtype(jnp.dtype(dtype))
    where = sharding.addressable_devices_indices_map(tuple(leaf.shape))
    self._boxes = {d: leaves.bounded(i or (), leaf.shape) for d, i in where.items()}
    self.nbytes = leaves.nbytes(leaf)

  def read(self) -> Array:
    """The array on its devices; a box that several hold is read once."""
    blocks = self._blocks()
    shards = [
      jax.device_put(blocks[_bounds(box)], device) for device, box in self._boxes.items()
    ]
    shape = tuple(self._leaf.shape)
    return jax.make_array_from_single_device_arrays(shape, self._sharding, shards)

  def _blocks(self) -> dict[Any, np.ndarray]:
    """{bounds: values} of every box; boxes that tile a larger one are read with it."""
    boxes = {_bounds(box): box for box in self._boxes.values()}
    around = tuple(
      slice(min(p.start for p in parts), max(p.stop for p in parts))
      for parts in zip(*boxes.values(), strict=True)
    )
    if sum(map(_volume, boxes.values())) != _volume(around):
      return {key: self._leaf.read(box, self._dtype) for key, box in boxes.items()}
    values = self._leaf.read(around, self._dtype)
    return {key: values[_within(box, around)] for key, box in boxes.items()}


def _bounds(box: Index) -> tuple[tuple[int, int], ...]:
  return tuple((part.start, part.stop) for part in box)


def _volume(box: Index) -> int:
  return math.prod(part.stop - part.start for part in box)


def _within(box: Index, around: Index) -> Index:
  """The box, counted from the corner of the one around it."""
  pairs = zip(box, around, strict=True)
  return tuple(slice(p.start - q.start, p.stop - q.start) for p, q in pairs)


def _read(parts: Mapping[str, _Parts], readers: int, finish: Finish) -> dict[str, Array]:
  found: dict[str, Mapping[str, Array]] = {}
  bar = Progress("restore", len(parts))
  with concurrent.futures.ThreadPoolExecutor(readers) as pool:
    for group in _groups(parts):
      arrays = list(pool.map(lambda name: parts[name].read(), group))
      for name in reversed(group):
        found[name] = jax.block_until_ready(finish(name, arrays.pop()))
      bar.update(len(found))
  bar.close()
  return {path: array for name in parts for path, array in found[name].items()}


def _groups(parts: Mapping[str, _Parts]) -> Iterator[list[str]]:
  """Names by size in groups, each no larger than its first array or a few megabytes."""
  group: list[str] = []
  size = most = 0
  for name in sorted(parts, key=lambda name: -parts[name].nbytes):
    nbytes = parts[name].nbytes
    if group and size + nbytes > most:
      yield group
      group, size = [], 0
    if not group:
      most = max(nbytes, _GROUP_BYTES)
    group.append(name)
    size += nbytes
  if group:
    yield group


def _unmatched(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
  return [n for n in names if not any(re.fullmatch(p, n) for p in patterns)]
