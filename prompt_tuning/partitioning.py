"""Which device holds what: batches split over all devices, everything else on each."""

import dataclasses
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from prompt_tuning import checks
from prompt_tuning.types import PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partitioner:
  """Data parallelism over the devices of this process.

  Attributes:
    num_partitions: Devices that share one copy of the model; only 1 for now.
    model_parallel_submesh: T5X's TPU tiling of such a copy; only None or all ones.
  """

  num_partitions: int | None = 1
  model_parallel_submesh: tuple[int, ...] | None = None

  def check(self) -> None:
    """Raises `InputError` for a split of the model that is not available."""
    submesh = tuple(self.model_parallel_submesh or (1,))
    if (self.num_partitions or 1) != 1 or set(submesh) != {1}:
      raise checks.InputError(
        f"num_partitions={self.num_partitions}, model_parallel_submesh={submesh} split "
        "the model, expected 1: this version splits batches only; set num_partitions=1"
      )

  def mesh(self, batch_size: int) -> jax.sharding.Mesh:
    """A ('data', 'model') mesh of as many devices as divide the batch."""
    self.check()
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    # Explicit axes, JAX's default, refuse to concatenate a broadcast prompt.
    return jax.make_mesh(
      (count, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=devices[:count]
    )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """A whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def replicate(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """Puts a whole copy of `tree` on every device."""
  return jax.device_put(tree, replicated(mesh))


def shard_batch(batch: dict[str, Any], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """Splits the rows of a batch over the devices."""
  return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
