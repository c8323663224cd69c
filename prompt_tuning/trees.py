"""Trees by path: a nested tree as a flat mapping from "a/b/c" to leaves."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import nnx, traverse_util
from jax.experimental import multihost_utils

from prompt_tuning.types import FlatParams, Shape

_SAMPLES = 256  # elements of each array that enter a fingerprint


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Nested dict -> {"a/b/c": leaf}; empty dicts vanish, None leaves stay."""
  return traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """{"a/b/c": leaf} -> nested dict."""
  return traverse_util.unflatten_dict(dict(flat), sep="/")


def flat_variables(state: Any) -> dict[str, nnx.Variable]:
  """The variables of an `nnx.State` or module by path, in path order."""
  if isinstance(state, nnx.Module):
    state = nnx.state(state)
  items = nnx.to_flat_state(state)
  return {"/".join(str(part) for part in path): leaf for path, leaf in sorted(items)}


def describe(state: Any, rename: Callable[[str], str] = str) -> str:
  """One line per variable: path, dtype, kind, logical axes with sizes; then the total.

  Args:
    state: An `nnx.State` or module, abstract or not.
    rename: From a path in `state` to the path shown.
  """
  lines, total = [], 0
  for path, variable in flat_variables(state).items():
    value = variable.get_value()
    total += int(np.prod(value.shape))
    axes = ", ".join(
      f"{axis}={size}"
      for axis, size in zip(variable.get_metadata("axes"), value.shape, strict=True)
    )
    kind = type(variable).__name__.lower()
    lines.append(f"{rename(path):<64} {value.dtype!s:<9} {kind:<8} ({axes})")
  lines.append(f"Total number of parameters: {total}")
  return "\n".join(lines)


def fingerprint(params: FlatParams, seen: Callable[[], None] = lambda: None) -> str:
  """A short digest of a set of weights: names, shapes and evenly spaced values.

  Args:
    params: {path: array}; each is asked for when its turn comes.
    seen: Called after every array.

  Returns:
    See `digest`.
  """
  samples = {}
  for path in sorted(params):
    samples[path] = sample(params[path])
    seen()
  return digest(samples)


@dataclasses.dataclass(frozen=True)
class Sample:
  """What of an array enters a fingerprint.

  Attributes:
    shape: Of the array.
    values: Evenly spaced ones, at most 256, in bfloat16.
  """

  shape: Shape
  values: np.ndarray


def sample(array: Any) -> Sample:
  """A few values of a float array, which may span processes: then all must call it.

  They are rounded to bfloat16, so that a checkpoint keeps its fingerprint when it is
  stored or restored in bfloat16.
  """
  size = math.prod(array.shape)
  where = np.linspace(0, size - 1, min(_SAMPLES, size)).astype(np.int64)
  taken = array[np.unravel_index(where, array.shape)] if array.ndim else array
  return Sample(tuple(array.shape), to_host(taken).astype(ml_dtypes.bfloat16))


def digest(samples: Mapping[str, Sample]) -> str:
  """The fingerprint of the arrays that were sampled: 16 hexadecimal digits."""
  found = hashlib.sha256()
  for path, one in sorted(samples.items(), key=lambda item: item[0]):
    found.update(f"{path} {one.shape}".encode())
    found.update(one.values.tobytes())
  return found.hexdigest()[:16]


def to_host(array: Any) -> np.ndarray:
  """The whole array in this process; parts that other processes hold are fetched.

  In a run of several processes all must call it for arrays that span them.
  """
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    array = multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(jax.device_get(array))


def values(state: Any) -> dict[str, Any]:
  """The arrays of an `nnx.State` or module by path."""
  return {path: v.get_value() for path, v in flat_variables(state).items()}


def with_values(state: Any, arrays: Mapping[str, Any]) -> Any:
  """The same `nnx.State` with other arrays; `arrays` has exactly its paths."""
  items = nnx.to_flat_state(state)
  replaced = [
    (path, leaf.replace(arrays["/".join(str(part) for part in path)]))
    for path, leaf in items
  ]
  return nnx.from_flat_state(replaced)
