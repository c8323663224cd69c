"""Ways to lay out a run on devices, from those that talk least to those that keep least."""

import dataclasses
import itertools
from collections.abc import Iterator

from prompt_tuning import axis_rules
from prompt_tuning.learned import ModelTuning
from prompt_tuning.partitioning import divisors
from prompt_tuning.train_config import TrainConfig

_REMAT = ("none", "minimal", "full")
_MICROBATCHES = "trainer.Trainer.num_microbatches"


@dataclasses.dataclass(frozen=True)
class Choice:
  """What a run sets to fit.

  Attributes:
    num_partitions: Devices that share one copy of the model.
    parameter_dims: 2 where weights are split over all devices.
    activation_dims: 2 where activations are split over the model axis too.
    remat: What layers compute again.
    num_microbatches: Parts of a batch.
    weight_dtype: Of the frozen weights.
  """

  num_partitions: int
  parameter_dims: int
  activation_dims: int
  remat: str
  num_microbatches: int
  weight_dtype: str

  @classmethod
  def of(cls, run: TrainConfig) -> "Choice":
    """What a run has set."""
    activations, parameters = _dims(run)
    return cls(
      num_partitions=run.partitioner.partitions,
      parameter_dims=parameters,
      activation_dims=activations,
      remat=run.model.remat,
      num_microbatches=run.trainer.num_microbatches or 1,
      weight_dtype=run.checkpoint.dtype or "float32",
    )

  def applied(self, run: TrainConfig) -> TrainConfig:
    """The run with this set."""
    own = axis_rules.standard_logical_axis_rules(*_dims(run))
    given = run.partitioner.logical_axis_rules or own
    partitioner = dataclasses.replace(
      run.partitioner,
      num_partitions=self.num_partitions,
      model_parallel_submesh=None,
      ici_mesh_shape=None,
      dcn_mesh_shape=None,
      logical_axis_rules=axis_rules.standard_logical_axis_rules(
        self.activation_dims, self.parameter_dims, given[len(own) :]
      ),
    )
    replace = dataclasses.replace
    return replace(
      run,
      model=replace(run.model, remat=self.remat),
      checkpoint=replace(run.checkpoint, dtype=self.weight_dtype),
      trainer=replace(run.trainer, num_microbatches=self.num_microbatches),
      partitioner=partitioner,
    )

  def lines(self, run: TrainConfig) -> list[str]:
    """The flags that set it where those of `run` are given already."""
    values: dict[str, object] = {
      **{macro: None for macro, shape in _meshes(run) if shape is not None},
      "NUM_PARTITIONS": self.num_partitions,
      "PARAMETER_PARTITIONING_DIMS": self.parameter_dims,
      "LAYER_REMAT": f"\"'{self.remat}'\"",
      "WEIGHT_DTYPE": f"\"'{self.weight_dtype}'\"",
    }
    if self.activation_dims != 1:
      values["ACTIVATION_PARTITIONING_DIMS"] = self.activation_dims
    if self.num_microbatches > 1:
      values[_MICROBATCHES] = self.num_microbatches
    return [f"--gin.{name}={value}" for name, value in values.items()]

  def __str__(self) -> str:
    dims = f"{self.num_partitions} partitions, {self.parameter_dims}-D parameters"
    micro = f", {self.num_microbatches} microbatches" if self.num_microbatches > 1 else ""
    return f"{dims}, remat {self.remat}{micro}, {self.weight_dtype} weights"


def _meshes(run: TrainConfig) -> list[tuple[str, object]]:
  """The settings of a run that win over NUM_PARTITIONS."""
  given = run.partitioner
  return [
    ("MODEL_PARALLEL_SUBMESH", given.model_parallel_submesh),
    ("ICI_MESH_SHAPE", given.ici_mesh_shape),
    ("DCN_MESH_SHAPE", given.dcn_mesh_shape),
  ]


def _dims(run: TrainConfig) -> tuple[int, int]:
  """The (activation, parameter) dims that a run's rules begin with; (1, 1) is T5X's."""
  given = tuple(map(tuple, run.partitioner.logical_axis_rules or ()))
  for activations, parameters in itertools.product((1, 2), repeat=2):
    rules = axis_rules.standard_logical_axis_rules(activations, parameters)
    if given[: len(rules)] == rules:
      return activations, parameters
  return 1, 1


def choices(run: TrainConfig, devices: int) -> Iterator[Choice]:
  """What may be chosen, best first: whatever keeps less comes after what talks less.

  Weights that learn keep their dtype.
  """
  own = Choice.of(run)
  for weight_dtype, (remat, count) in itertools.product(_dtypes(run), _means(run)):
    for num_partitions in _partitions(run, devices, count):
      for dims in (1, 2) if devices > num_partitions else (1,):
        yield Choice(num_partitions, dims, own.activation_dims, remat, count, weight_dtype)


def _dtypes(run: TrainConfig) -> tuple[str, ...]:
  own = Choice.of(run).weight_dtype
  known = ("float32", "bfloat16", "int8")
  if isinstance(run.learned, ModelTuning) or own not in known:
    return (own,)
  return known[known.index(own) :]


def _means(run: TrainConfig) -> list[tuple[str, int]]:
  """(rematerialisation, microbatches), each only once the former are not enough."""
  own = Choice.of(run)
  kinds = _REMAT[_REMAT.index(own.remat) :]
  batch = run.train_dataset.batch_size
  more = [n for n in divisors(batch) if n > own.num_microbatches and n & (n - 1) == 0]
  return [(kind, own.num_microbatches) for kind in kinds] + [("full", n) for n in more]


def _partitions(run: TrainConfig, devices: int, microbatches: int) -> list[int]:
  """Powers of two over which the model divides, and the rows over their copies."""
  model, rows = run.model, run.train_dataset.batch_size // microbatches
  return [
    n
    for n in divisors(devices)
    if n & (n - 1) == 0
    and not any(x % n for x in (model.num_heads, model.d_ff, model.vocab_size))
    and rows % (devices // n) == 0
  ]
