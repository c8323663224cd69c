"""What a training step needs of each device.

Exact for what lies there; for what it makes as a compiler says or, without one for the
device, as its gradient needs it.

All layers of a tower are alike, so that few of them tell of all:

  layers   1  2 ........ 24
  bytes    a  b ........ a + 23 (b - a)
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from prompt_tuning import step_shapes, trees
from prompt_tuning.partitioning import Layout, Partitioner
from prompt_tuning.step_shapes import StepShapes
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import steps

_FEWEST, _FEW = (1, 2), (2, 4)  # shares of the layers that are looked at
_MARGIN = 1.4  # of the estimate: docs/plan.md compares it with the compiler of TPUs
_GATHERED = 18  # layers whose split weights a compiler has whole at a time, at most
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


@dataclasses.dataclass(frozen=True)
class Resident:
  """What lies on a device all the time, in bytes.

  Attributes:
    weights: That do not learn.
    learned: Those that do.
    optimizer: Its state, the step and the key.
    batch: One.
  """

  weights: int
  learned: int
  optimizer: int
  batch: int

  @classmethod
  def of(cls, shapes: StepShapes) -> "Resident":
    """Exact, from shapes and shardings."""
    learned = step_shapes.device_bytes(shapes.state.params)
    return cls(
      weights=step_shapes.device_bytes(shapes.frozen),
      learned=learned,
      optimizer=step_shapes.device_bytes(shapes.state) - learned,
      batch=step_shapes.device_bytes(shapes.batch),
    )

  @property
  def total(self) -> int:
    """All of it."""
    return self.weights + self.learned + self.optimizer + self.batch


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What a compiler says of a step.

  Attributes:
    activations: Bytes per device of everything that a step makes and forgets, and of the
      program.
    flops: Operations per device.
  """

  activations: int
  flops: float


def compiled(run: TrainConfig, layout: Layout, whole: bool = False) -> Compiled:
  """Asks the compiler of the layout's devices.

  Args:
    run: The run.
    layout: Devices of which only the kind matters.
    whole: Compile all layers, which takes minutes for large models, instead of a few.

  Raises:
    jax.errors.JaxRuntimeError: The step does not fit, as the compiler finds.
  """

  def of(depth: int) -> tuple[float, ...]:
    step = StepShapes.of(step_shapes.with_depth(run, depth), layout).lowered().compile()
    memory, cost = step.memory_analysis(), step.cost_analysis() or {}
    made = memory.temp_size_in_bytes + memory.output_size_in_bytes
    made += memory.generated_code_size_in_bytes - memory.alias_size_in_bytes
    return made, cost.get("flops", math.nan)

  points = (run.model.depth,) * 2 if whole else _FEW
  activations, flops = _extrapolated(of, points, run.model.depth)
  return Compiled(int(activations), flops)


def estimated(run: TrainConfig, layout: Layout) -> int:
  """Bytes per device of what a step makes and forgets, from the step's arithmetic alone.

  Looked at is the model that one device sees: its share of heads, hidden depth, ids and
  rows. Kept are the products, what the statistics of norms are made of, and whatever
  rematerialisation keeps; then one layer is computed again, split weights are gathered,
  and learned weights have gradients.
  """
  parts = layout.mesh.shape["model"]
  copies = layout.mesh.size // parts
  parts_of_batch = run.trainer.num_microbatches or 1
  rows = math.ceil(run.train_dataset.batch_size / copies / parts_of_batch)
  here = _seen_by_one(run, parts)
  whole = run.model.depth
  (kept,) = _extrapolated(
    lambda depth: (_kept(step_shapes.with_depth(here, depth), rows),), _FEWEST, whole
  )
  if run.model.remat != "none":
    model = dataclasses.replace(here.model, remat="none")
    plain = step_shapes.with_depth(dataclasses.replace(here, model=model), 1)
    kept += _kept(plain, rows)
  gradients = step_shapes.device_bytes(StepShapes.of(run, layout).state.params)
  copies_of_gradients = 1 if parts_of_batch == 1 else 2
  made = _MARGIN * kept + _gathered(run, layout)
  return int(made) + copies_of_gradients * gradients


def _extrapolated(
  of: Callable[[int], tuple[float, ...]], points: tuple[int, int], whole: int
) -> tuple[float, ...]:
  """Each number of `of(whole)`, on the line through those of two points before it."""
  first, second = points
  if second >= whole:
    return of(whole)
  pairs = zip(of(first), of(second), strict=True)
  return tuple(b + (whole - second) * (b - a) / (second - first) for a, b in pairs)


def _seen_by_one(run: TrainConfig, parts: int) -> TrainConfig:
  return dataclasses.replace(run, model=run.model.share(parts))


def _kept(run: TrainConfig, rows: int) -> int:
  """Bytes of what the forward pass leaves for the backward pass; traced once each."""
  shapes = {name: x.shape for name, x in step_shapes.batch(run, rows).items()}
  what = repr((run.model, run.learned, run.loss, run.checkpoint.dtype, shapes))
  if what not in _known:
    _known[what] = _traced(run, rows)
  return _known[what]


_known: dict[str, int] = {}


def _traced(run: TrainConfig, rows: int) -> int:
  split = step_shapes.split(run)

  def forward(params: Any, frozen: Any, batch: Any, key: Any) -> Any:
    def objective(params: Any) -> Any:
      return steps.loss_and_sums(split.merge(params, frozen), batch, run.loss, key)

    if run.model.remat == "none":
      objective = jax.checkpoint(objective, policy=_is_kept)
    return jax.vjp(objective, params, has_aux=True)

  key = jax.eval_shape(lambda: jax.random.key(0))
  batch = step_shapes.batch(run, rows)
  traced = jax.make_jaxpr(forward)(trees.values(split.tunable), split.frozen, batch, key)
  given = {id(x) for x in traced.jaxpr.invars}
  made = {
    id(x): x.aval
    for x in traced.jaxpr.outvars
    if isinstance(x, jax.extend.core.Var) and id(x) not in given
  }
  return sum(x.size * x.dtype.itemsize for x in _shared(run, made.values()))


def _shared(run: TrainConfig, arrays: Iterable[Any]) -> list[Any]:
  """The arrays, with the attention's bias once for all layers that have the same one.

  Each layer that is rematerialised adds mask and positions for itself, which a compiler
  does once.
  """
  if run.model.remat == "none" or getattr(run.model, "relative_per_layer", False):
    return list(arrays)
  found, biases = [], {}
  for x in arrays:
    if x.ndim == 4 and x.shape[1] == run.model.num_heads:
      biases[x.shape] = x
    else:
      found.append(x)
  return [*found, *biases.values()]


def _is_kept(primitive: Any, *inputs: Any, **options: Any) -> bool:
  """Whether a compiler that fuses keeps a value instead of computing it again."""
  if primitive.name == "dot_general":
    return True
  statistics = primitive.name == "convert_element_type" and inputs[0].ndim == 3
  return statistics and options["new_dtype"] == jnp.float32


def _gathered(run: TrainConfig, layout: Layout) -> int:
  """Bytes of split weights that are whole for a while, cast for their products."""
  split = step_shapes.split(run)
  variables = trees.flat_variables(split.frozen) | trees.flat_variables(split.tunable)
  layers: dict[str, int] = {}
  for path, variable in variables.items():
    value = variable.get_value()
    spec = layout.sharding(variable.get_metadata("axes")).spec
    if any(part is not None and part != "model" for part in spec):
      share = layout.mesh.shape["model"] if "model" in spec else 1
      layer = "/".join(path.split("/")[:3])
      width = min(value.dtype.itemsize, jnp.dtype(run.model.dtype).itemsize)
      layers[layer] = layers.get(layer, 0) + value.size * width // share
  return min(_GATHERED * max(layers.values(), default=0), sum(layers.values()))


def counted(run: TrainConfig) -> float:
  """Operations of a step on all devices, as XLA counts them before it optimises."""
  layout = Partitioner().layout(1, jax.devices()[:1])
  plain = dataclasses.replace(
    run, trainer=dataclasses.replace(run.trainer, num_microbatches=None)
  )

  def of(depth: int) -> tuple[float]:
    lowered = StepShapes.of(step_shapes.with_depth(plain, depth), layout).lowered()
    return ((lowered.cost_analysis() or {}).get("flops", math.nan),)

  return _extrapolated(of, _FEWEST, run.model.depth)[0]
