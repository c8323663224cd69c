"""Where a model gets its parameters from.

A module asks for each parameter by name, shape, logical axes and initializer. What it
gets depends on the source: an array of a checkpoint, a random draw, or a bare shape.
So one constructor serves loading, pretraining and planning without memory.
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks, trees
from prompt_tuning.models import kernels
from prompt_tuning.models.kernels import Kernel
from prompt_tuning.models.quantized import scale_of
from prompt_tuning.types import (
  Array,
  Constrain,
  FlatParams,
  Frozen,
  Initializer,
  Shape,
  unconstrained,
)

REMEDY = "choose the model config that the checkpoint was made with"
Source = Callable[[str, Shape, Initializer], Any]


@dataclasses.dataclass(frozen=True)
class Parameters:
  """Hands out variables under a path prefix.

  Attributes:
    source: (path, shape, initializer) -> array or `jax.ShapeDtypeStruct`.
    kind: Type of the variables: `Frozen`, or `Tunable` where the model itself learns.
    prefix: Path of the module that asks, ending in "/" unless empty.
    constrain: How the module lays out its activations.
    kernel: How the module attends.
    int8: Source of matrices held in int8, whose scales `source` has; None where none is.
  """

  source: Source
  kind: type[nnx.Variable] = Frozen
  prefix: str = ""
  constrain: Constrain = unconstrained
  kernel: Kernel = kernels.plain
  int8: Source | None = None

  @classmethod
  def here(
    cls, source: Source, kind: type[nnx.Variable] = Frozen, devices: int = 1, **rest: Any
  ) -> "Parameters":
    """Those of a model that runs on this machine, with the kernel that is fast here.

    Args:
      source: See the attributes.
      kind: See the attributes.
      devices: That the model runs on.
      **rest: Further attributes.
    """
    if kind is Frozen:
      rest["kernel"] = kernels.best(jax.default_backend(), devices)
    return cls(source, kind, **rest)

  @classmethod
  def abstract(cls, dtype: str = "float32") -> "Parameters":
    """Shapes of parameters as they lie in memory; allocates nothing.

    Args:
      dtype: See `RestoreCheckpointConfig`.
    """
    if dtype == "int8":
      return cls(shapes_in("float32"), int8=shapes_in(dtype))
    return cls(shapes_in(dtype))

  def at(self, name: str) -> "Parameters":
    """The same source for the submodule `name`."""
    return dataclasses.replace(self, prefix=f"{self.prefix}{name}/")

  def __call__(
    self, name: str, shape: Shape, axes: tuple[str, ...], init: Initializer
  ) -> nnx.Variable:
    """The variable `name`; `axes` are its logical axis names, one per dimension."""
    return self.kind(self.source(self.prefix + name, shape, init), axes=axes)

  def matrix(
    self,
    name: str,
    shape: tuple[int, int],
    axes: tuple[str, str],
    init: Initializer,
    channel: int,
  ) -> tuple[nnx.Variable, nnx.Variable | None]:
    """The variable `name`, and its scale where it is held in int8 (`quantized`).

    Args:
      name: As in a call.
      shape: As in a call.
      axes: As in a call.
      init: As in a call.
      channel: The axis that has a scale.
    """
    if self.int8 is None:
      return self(name, shape, axes, init), None
    matrix = dataclasses.replace(self, source=self.int8)(name, shape, axes, init)
    of_channel = (shape[channel],), (axes[channel],)
    return matrix, self(scale_of(name), *of_channel, nnx.initializers.ones)


def shapes_in(dtype: str) -> Source:
  """A source that allocates nothing."""

  def shape_only(path: str, shape: Shape, init: Initializer) -> jax.ShapeDtypeStruct:
    del path, init
    return jax.ShapeDtypeStruct(shape, dtype)

  return shape_only


def random_from(key: Array) -> Source:
  """A source of fresh parameters; each depends on `key` and its own path only."""

  def draw(path: str, shape: Shape, init: Initializer) -> Array:
    return init(jax.random.fold_in(key, zlib.crc32(path.encode())), shape)

  return draw


def taken_from(params: FlatParams, otherwise: Source | None = None) -> Source:
  """A source that reads a flat mapping.

  Args:
    params: {path: array}.
    otherwise: Source of what is not in the mapping; None where all of it must be.
  """

  def take(path: str, shape: Shape, init: Initializer) -> Array:
    if otherwise is not None and path not in params:
      return otherwise(path, shape, init)
    array = jnp.asarray(params[path])
    checks.shape(path, array.shape, shape, REMEDY)
    return array

  return take


def check_names(model: nnx.Module, params: FlatParams) -> None:
  """Raises `InputError` unless `params` has the names of an abstract model, no others."""
  expected = trees.flat_variables(model)
  checks.names(
    "the checkpoint",
    expected.keys() - params.keys(),
    params.keys() - expected.keys(),
    REMEDY,
  )
