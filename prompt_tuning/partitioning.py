"""Which device holds what: the mesh, how arrays lie on it, and global batches.

mesh ('data', 'model') of 8 devices, num_partitions=2

  data 0   [0 1]    each row of devices holds one copy of the model, split over
  data 1   [2 3]    'model', and a share of the rows of a batch
  data 2   [4 5]
  data 3   [6 7]
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from prompt_tuning import axis_rules, checks, trees
from prompt_tuning.axis_rules import Rules
from prompt_tuning.types import Array, PyTree

_AXES = ("data", "model")
_HYBRID_AXES = ("replica", "data", "model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partitioner:
  """How devices are shared out, with T5X's names.

  Attributes:
    num_partitions: Devices that share one copy of the model.
    model_parallel_submesh: The same as T5X's TPU tiling, e.g. (2, 1, 1, 2): only its
      product counts, JAX arranges the devices; wins over `num_partitions`.
    ici_mesh_shape: (replica, data, model) inside each slice of a TPU or node, with
      `dcn_mesh_shape`: across them.
    dcn_mesh_shape: See `ici_mesh_shape`; either both are given or none.
    logical_axis_rules: See `axis_rules`; None is T5X's 1-D partitioning.
  """

  num_partitions: int | None = 1
  model_parallel_submesh: Sequence[int] | None = None
  ici_mesh_shape: Sequence[int] | None = None
  dcn_mesh_shape: Sequence[int] | None = None
  logical_axis_rules: Sequence[Sequence] | None = None

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    partitions = self.partitions
    if not isinstance(partitions, int) or partitions < 1:
      raise checks.InputError(
        f"num_partitions is {partitions!r}, expected a number of devices from 1; set "
        "NUM_PARTITIONS to how many share one copy of the model"
      )
    shapes = (self.ici_mesh_shape, self.dcn_mesh_shape)
    if any(shapes) and not all(shape and len(shape) == 3 for shape in shapes):
      raise checks.InputError(
        f"ici_mesh_shape is {shapes[0]} and dcn_mesh_shape {shapes[1]}, expected neither "
        "or both as (replica, data, model); give both"
      )

  @property
  def partitions(self) -> int:
    """Devices that share one copy of the model."""
    if self.ici_mesh_shape and self.dcn_mesh_shape:
      return self.ici_mesh_shape[-1] * self.dcn_mesh_shape[-1]
    if self.model_parallel_submesh:
      return math.prod(self.model_parallel_submesh)
    return 1 if self.num_partitions is None else self.num_partitions

  def layout(self, batch_size: int, devices: Sequence[Any] | None = None) -> "Layout":
    """The devices for batches of a size, and the rules for arrays on them.

    One process uses as many devices as share the batch evenly; several use all.

    Args:
      batch_size: Rows of all devices.
      devices: Those to choose from, which need not be here; None is all that there are.

    Raises:
      InputError: The devices do not divide into copies, or the batch over the copies, or
        a rule is none.
    """
    mesh = self.mesh(batch_size, devices)
    rules = axis_rules.standard_logical_axis_rules()
    if self.logical_axis_rules is not None:
      rules = axis_rules.checked(self.logical_axis_rules, mesh.axis_names)
    if self.ici_mesh_shape:
      rules = tuple(
        (name, ("replica", "data") if name == "batch" else axis) for name, axis in rules
      )
    return Layout(mesh, rules)

  def mesh(self, batch_size: int, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of `layout`."""
    self.check()
    devices = jax.devices() if devices is None else devices
    if self.ici_mesh_shape and self.dcn_mesh_shape:
      shape = [i * d for i, d in zip(self.ici_mesh_shape, self.dcn_mesh_shape, strict=True)]
      if math.prod(shape) != len(devices):
        raise checks.InputError(
          f"ici_mesh_shape times dcn_mesh_shape is {shape}, expected {len(devices)} "
          "devices in all; correct them"
        )
      _check_batch(batch_size, shape[0] * shape[1])
      arranged = mesh_utils.create_hybrid_device_mesh(
        self.ici_mesh_shape,
        self.dcn_mesh_shape,
        devices,
        process_is_granule=self._across_processes(devices),
      )
      return Mesh(arranged, _HYBRID_AXES, axis_types=(AxisType.Auto,) * 3)
    copies = self._copies(len(devices), batch_size)
    shape = [copies, self.partitions]
    arranged = mesh_utils.create_device_mesh(
      shape,
      devices[: math.prod(shape)],
      contiguous_submeshes=jax.process_count() > 1,
      allow_split_physical_axes=True,
    )
    # Explicit axes, JAX's default, refuse to concatenate a broadcast prompt.
    return Mesh(arranged, _AXES, axis_types=(AxisType.Auto,) * 2)

  def _across_processes(self, devices: Sequence[Any]) -> bool:
    """Whether `dcn_mesh_shape` counts processes, as it does where there are no slices."""
    asked = math.prod(self.dcn_mesh_shape or ())
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    hosts = len({device.process_index for device in devices})
    if asked not in (slices, hosts):
      raise checks.InputError(
        f"dcn_mesh_shape {self.dcn_mesh_shape} is for {asked} parts, expected the {slices} "
        f"slices or the {hosts} processes of this job; correct DCN_MESH_SHAPE"
      )
    return asked != slices

  def _copies(self, devices: int, batch_size: int) -> int:
    """Copies of the model, each of which takes a share of the rows."""
    if devices % self.partitions:
      raise checks.InputError(
        f"num_partitions is {self.partitions}, expected a divisor of the {devices} devices "
        f"here; set NUM_PARTITIONS to {checks.one_of(divisors(devices))}"
      )
    copies = devices // self.partitions
    if jax.process_count() > 1:
      _check_batch(batch_size, copies)
      return copies
    return max(n for n in divisors(batch_size) if n <= copies)


def _check_batch(batch_size: int, copies: int) -> None:
  if batch_size % copies:
    raise checks.InputError(
      f"a batch of {batch_size} rows does not divide over {copies} copies of the model, "
      f"expected a multiple; choose {math.ceil(batch_size / copies) * copies} (BATCH_SIZE, "
      "or batch_size of a utils.DatasetConfig) or a larger NUM_PARTITIONS"
    )


def divisors(number: int) -> list[int]:
  """All divisors, ascending."""
  return [n for n in range(1, number + 1) if number % n == 0]


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where arrays go: a mesh, and rules from their logical axes to its axes.

  Attributes:
    mesh: The devices.
    rules: See `axis_rules`.
  """

  mesh: Mesh
  rules: Rules

  def sharding(self, axes: Sequence[str | None]) -> NamedSharding:
    """Of an array with these logical axes."""
    return NamedSharding(self.mesh, axis_rules.spec(axes, self.rules))

  def constrain(self, x: Array, axes: Sequence[str | None]) -> Array:
    """Tells the compiler how an intermediate value lies; changes no number."""
    return jax.lax.with_sharding_constraint(x, self.sharding(axes))

  def check(self, variables: Mapping[str, Any]) -> None:
    """Raises `InputError` for axes that the devices do not divide, all at once.

    Args:
      variables: {path: variable with "axes"}, abstract or not.
    """
    wrong: dict[tuple[str, int], tuple[str, int]] = {}
    for variable in variables.values():
      axes, shape = variable.get_metadata("axes"), variable.get_value().shape
      split = axis_rules.spec(axes, self.rules)
      for name, size, where in zip(axes, shape, split, strict=True):
        count = math.prod(self.mesh.shape[axis] for axis in _names(where))
        if size % count:
          wrong[name, size] = (" and ".join(_names(where)), count)
    if wrong:
      lines = [
        f"  {name} is {size}: '{where}' has {count} devices, "
        f"{_REMEDIES.get(where, 'numbers')} that work are {checks.one_of(divisors(size))}"
        for (name, size), (where, count) in wrong.items()
      ]
      raise checks.InputError(
        "the model does not divide over the devices, expected whole parts; choose numbers "
        "that divide it\n" + "\n".join(lines)
      )

  def place(self, state: Any) -> Any:
    """An `nnx.State` with each variable where its axes say; no copy of what is there."""
    variables = trees.flat_variables(state)
    return trees.with_values(
      state,
      {
        path: _put(v.get_value(), self.sharding(v.get_metadata("axes")))
        for path, v in variables.items()
      },
    )

  def like(self, tree: PyTree, variables: Mapping[str, Any]) -> PyTree:
    """Shardings for arrays that belong to variables, such as an optimizer's.

    What stands under a variable's path and has its shape lies as it does, everything else
    (factored moments, counters, keys) is small and whole on every device.

    Args:
      tree: Arrays or shapes; dicts in it have the paths as keys.
      variables: {path: variable with "axes"}.
    """

    def of(path: Any, leaf: Any) -> NamedSharding:
      keys = [str(getattr(part, "key", "")) for part in path]
      found = next((variables[key] for key in keys if key in variables), None)
      if found is None or leaf.shape != found.get_value().shape:
        return replicated(self.mesh)
      return self.sharding(found.get_metadata("axes"))

    return jax.tree_util.tree_map_with_path(of, tree)


_REMEDIES = {
  "model": "NUM_PARTITIONS",
  "data": "numbers of copies",
  "replica and data": "numbers of copies",
}


def _names(axis: axis_rules.MeshAxis) -> tuple[str, ...]:
  if axis is None:
    return ()
  return (axis,) if isinstance(axis, str) else axis


def replicated(mesh: Mesh) -> NamedSharding:
  """A whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """Puts a whole copy of `tree` on every device."""
  return put(tree, jax.tree.map(lambda _: replicated(mesh), tree))


def put(tree: PyTree, shardings: PyTree) -> PyTree:
  """Puts arrays, which every process has whole, where their shardings say.

  Arrays that span the processes already are laid out anew.
  """
  return jax.tree.map(_put, tree, shardings)


def _put(leaf: Any, sharding: NamedSharding) -> Array:
  spans = isinstance(leaf, Array) and not leaf.is_fully_addressable
  if sharding.is_fully_addressable or spans:
    return jax.device_put(leaf, sharding)
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding))
  whole = np.asarray(leaf)
  return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def rows(batch_size: int, mesh: Mesh) -> range:
  """The rows of a batch that the devices of this process hold.

  Raises:
    InputError: They are not next to each other.
  """
  where = by_rows(mesh).addressable_devices_indices_map((batch_size,))
  parts = sorted({s.indices(batch_size)[:2] for (s,) in where.values()})  # type: ignore[misc]
  if any(stop != start for (_, stop), (start, _) in itertools.pairwise(parts)):
    raise checks.InputError(
      f"this process holds the rows {parts} of a batch, expected rows side by side; "
      "choose another NUM_PARTITIONS or give ici_mesh_shape and dcn_mesh_shape"
    )
  return range(parts[0][0], parts[-1][1])


def speaks_for_rows(batch_size: int, mesh: Mesh) -> bool:
  """Whether this process is the first of those that hold the same rows of a batch."""
  held: dict[int, set[Any]] = {}
  where: Any = by_rows(mesh).devices_indices_map((batch_size,))
  for device, (part,) in where.items():
    held.setdefault(device.process_index, set()).add(part.indices(batch_size))
  mine = held[jax.process_index()]
  return jax.process_index() == min(index for index, found in held.items() if found == mine)


def from_rows(
  local: Mapping[str, Any], batch_size: int, mesh: Mesh, axis: int = 0
) -> dict[str, Array]:
  """A global batch of which every process gives its `rows`; they are counted by `axis`."""
  return {
    name: jax.make_array_from_process_local_data(
      by_rows(mesh, axis),
      np.asarray(x),
      (*np.shape(x)[:axis], batch_size, *np.shape(x)[axis + 1 :]),
    )
    for name, x in local.items()
  }


def shard_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Array]:
  """Splits the rows of a batch, which every process has whole, over the devices.

  Raises:
    InputError: They do not divide over the copies of the model.
  """
  size = len(next(iter(batch.values())))
  _check_batch(size, mesh.size // mesh.shape["model"])
  mine = rows(size, mesh)
  local = {name: x[mine.start : mine.stop] for name, x in batch.items()}
  return from_rows(local, size, mesh)


@functools.lru_cache(maxsize=8)
def by_rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """How the rows of a batch, on `axis`, lie: a share on each copy of the model."""
  parts = tuple(name for name in mesh.axis_names if name != "model")
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, parts))
