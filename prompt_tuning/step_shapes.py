"""A training step without arrays: shapes, where they lie, and what to compile."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from prompt_tuning import partitioning, trees, weights
from prompt_tuning.learned import ModelTuning
from prompt_tuning.models import families, kernels
from prompt_tuning.models.kernels import Kernel
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.partitioning import Layout
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import steps
from prompt_tuning.training.state import Split, TrainState
from prompt_tuning.types import Constrain, Frozen, PyTree, Tunable, unconstrained

_FEATURES = {
  "encoder_input_tokens": "inputs",
  "decoder_input_tokens": "targets",
  "decoder_target_tokens": "targets",
  "decoder_loss_weights": "targets",
}
_PACKED = {
  "encoder_segment_ids": "inputs",
  "encoder_positions": "inputs",
  "decoder_segment_ids": "targets",
  "decoder_positions": "targets",
}


def split(
  run: TrainConfig,
  constrain: Constrain = unconstrained,
  kernel: Kernel = kernels.plain,
) -> Split:
  """What a run learns and what not, as shapes.

  Args:
    run: The run.
    constrain: How its activations lie.
    kernel: How it attends.

  Raises:
    InputError: The weights learn and have a dtype without a gradient.
  """
  kind = Tunable if isinstance(run.learned, ModelTuning) else Frozen
  weights.check_kind(run.checkpoint, kind)
  params = dataclasses.replace(
    Parameters.abstract(run.checkpoint.dtype or "float32"),
    kind=kind,
    constrain=constrain,
    kernel=kernel,
  )
  return Split.of(run.learned.shapes(families.model(run.model, params)))


def batch(run: TrainConfig, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
  """`rows` rows of a run under T5X's feature names, int32 but for is_correct."""
  lengths = dict(run.train_dataset.task_feature_lengths or {})
  features, slots = dict(_FEATURES), 0
  if run.train_dataset.pack:
    slots = run.learned.prompt_slots
    features |= _PACKED | ({"encoder_prompt_slots": "inputs"} if slots else {})
    lengths["inputs"] += slots
  candidates = [lengths["is_correct"]] if "is_correct" in run.loss.features else []
  shapes: dict[str, tuple[int, ...]] = {
    name: (rows, *candidates, lengths[feature]) for name, feature in features.items()
  }
  prompt = run.learned.prompt
  if prompt is not None and prompt.num_prompts > 1:
    shapes["prompt_ids"] = (rows,)
  found = {name: jax.ShapeDtypeStruct(s, jnp.int32) for name, s in shapes.items()}
  if candidates:
    found["is_correct"] = jax.ShapeDtypeStruct((rows, *candidates), jnp.bool_)
  return found


def placed_batch(run: TrainConfig, layout: Layout) -> dict[str, jax.ShapeDtypeStruct]:
  """A global batch of a run, on its devices."""
  rows = partitioning.by_rows(layout.mesh)
  examples = batch(run, run.train_dataset.batch_size)
  return {name: lying(x, rows) for name, x in examples.items()}


@dataclasses.dataclass(frozen=True)
class StepShapes:
  """What a step takes; shapes with shardings.

  Attributes:
    run: The run.
    layout: Its devices.
    split: Of the model.
    state: What learns, with the optimizer's state.
    frozen: Weights that do not learn.
    batch: Global arrays.
  """

  run: TrainConfig
  layout: Layout
  split: Split
  state: TrainState
  frozen: nnx.State
  batch: dict[str, jax.ShapeDtypeStruct]

  @classmethod
  def of(
    cls, run: TrainConfig, layout: Layout, kernel: Kernel = kernels.plain
  ) -> "StepShapes":
    """The shapes of a run on devices, which need not be here.

    Args:
      run: The run.
      layout: The devices.
      kernel: How the model attends; `plain` compiles for any device.

    Raises:
      InputError: The model does not divide over them.
    """
    taken = split(run, layout.constrain, kernel)
    layout.check(trees.flat_variables(taken.frozen))
    layout.check(trees.flat_variables(taken.tunable))
    state = jax.eval_shape(
      lambda params, key: TrainState(
        jnp.zeros((), jnp.int32), params, optimizer(run).init(params), key
      ),
      trees.values(taken.tunable),
      jax.eval_shape(lambda: jax.random.key(0)),
    )
    where = layout.like(state, trees.flat_variables(taken.tunable))
    frozen = {
      path: lying(v.get_value(), layout.sharding(v.get_metadata("axes")))
      for path, v in trees.flat_variables(taken.frozen).items()
    }
    return cls(
      run,
      layout,
      taken,
      jax.tree.map(lying, state, where),
      trees.with_values(taken.frozen, frozen),
      placed_batch(run, layout),
    )

  def function(self) -> Any:
    """The jitted step over arrays that lie as the shapes say."""
    return steps.train_step(
      self.split,
      optimizer(self.run),
      self.run.loss,
      self.run.trainer.num_microbatches,
      self.layout.constrain,
      jax.tree.map(lambda x: x.sharding, self.state),
    )

  def lowered(self) -> Any:
    """The step as `jax.stages.Lowered`."""
    return self.function().lower(self.state, self.frozen, self.batch)


def optimizer(run: TrainConfig) -> optax.GradientTransformation:
  """Of what a run learns, counting from step 0."""
  return run.learned.optimizer(run.optimizer.transformation(run.learning_rate_fn))


def lying(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
  """The shape of an array, and where it lies."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def device_bytes(tree: PyTree) -> int:
  """What one device holds of shapes with shardings."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def parameters(tree: PyTree) -> int:
  """Numbers in all arrays of a tree."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def with_depth(run: TrainConfig, depth: int) -> TrainConfig:
  """The run with a model of another depth."""
  return dataclasses.replace(run, model=run.model.with_depth(depth))
