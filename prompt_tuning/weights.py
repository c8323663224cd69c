"""The weights of a model: from a checkpoint to how they lie in memory."""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
from flax import nnx

from prompt_tuning import checks, partitioning, trees
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig, restore
from prompt_tuning.models import families, parameters, quantized
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.partitioning import Layout
from prompt_tuning.types import Array, Frozen, Initializer, Shape


@dataclasses.dataclass(frozen=True)
class Weights:
  """Restored weights.

  Attributes:
    arrays: {path: array}, those in int8 with their scales.
    fingerprint: Digest of what the checkpoint holds, however it is held here.
  """

  arrays: dict[str, Array]
  fingerprint: str

  def parameters(self, kind: type[nnx.Variable], layout: Layout | None) -> Parameters:
    """What builds a model of them."""
    take = parameters.taken_from(self.arrays)
    some = any(array.dtype == "int8" for array in self.arrays.values())
    int8 = take if some else None
    if layout is None:
      return Parameters.here(take, kind, int8=int8)
    constrain, devices = layout.constrain, layout.mesh.size
    return Parameters.here(take, kind, devices, constrain=constrain, int8=int8)


def check_kind(source: RestoreCheckpointConfig, kind: type[nnx.Variable]) -> None:
  """Raises `InputError` where weights should learn that have no gradient."""
  if source.dtype == "int8" and kind is not Frozen:
    raise checks.InputError(
      "RestoreCheckpointConfig.dtype is 'int8', expected floats where the model itself "
      "learns; set WEIGHT_DTYPE='float32', or learn a prompt"
    )


def load(
  config: ModelConfig,
  checkpoint: Checkpoint,
  source: RestoreCheckpointConfig,
  layout: Layout | None = None,
) -> Weights:
  """Restores weights, array by array, each put into its dtype where it lies.

  Args:
    config: Shape of the model.
    checkpoint: That of `source`.
    source: How it is restored.
    layout: Devices, and how the weights lie on them; None is one device.

  Raises:
    InputError: The checkpoint is of another model, or it does not divide over the devices.
  """
  held = trees.flat_variables(families.abstract(config, source.dtype or "float32"))
  axes = {path: v.get_metadata("axes") for path, v in held.items()}
  sharding = None if layout is None else lambda path: layout.sharding(axes[path])
  if layout is not None:
    layout.check(held)
  hold = quantized.holder(held, sharding)
  samples: dict[str, trees.Sample] = {}

  def finish(path: str, array: Array) -> dict[str, Array]:
    samples[path] = trees.sample(array)
    return hold(path, array)

  arrays = restore(
    checkpoint,
    {path: x.shape for path, x in trees.values(families.abstract(config)).items()},
    ignore=source.ignore,
    initialise=source.initialise,
    dtype=source.cast,
    sharding=sharding,
    finish=finish,
  )
  for path, array in _drawn(config, held.keys() - arrays.keys()).items():
    array = array.astype(source.cast or array.dtype)
    placed = array if sharding is None else partitioning.put(array, sharding(path))
    arrays |= finish(path, placed)
  return Weights(arrays, trees.digest(samples))


def _drawn(config: ModelConfig, paths: Collection[str]) -> dict[str, Array]:
  """Fresh weights for paths of a model, those of them that it has in float."""
  random = parameters.random_from(jax.random.key(0))
  shape_only = Parameters.abstract().source

  def source(path: str, shape: Shape, init: Initializer) -> Any:
    return (random if path in paths else shape_only)(path, shape, init)

  values = trees.values(families.model(config, Parameters(source)))
  return {path: values[path] for path in values if path in paths}
