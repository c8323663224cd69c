"""What changes while a run learns, and the split that keeps the rest frozen."""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from prompt_tuning import trees
from prompt_tuning.types import Array, PyTree, Tunable


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything a step reads and writes.

  Attributes:
    step: int32 scalar, updates done.
    params: {path: array} of the tunable variables.
    opt_state: Of the optimizer.
    key: PRNG key; the dropout key of a step is folded from it and the step.
  """

  step: Array
  params: dict[str, Array]
  opt_state: PyTree
  key: Array


@dataclasses.dataclass(frozen=True)
class Split:
  """A model taken apart by type of variable.

  Attributes:
    graph: The structure of the model.
    tunable: State of the `Tunable` variables.
    frozen: State of everything else, which a step takes as an argument.
  """

  graph: Any
  tunable: nnx.State
  frozen: nnx.State

  @classmethod
  def of(cls, model: nnx.Module) -> "Split":
    """Splits `model` into what learns and what does not."""
    graph, tunable, frozen = nnx.split(model, Tunable, ...)  # type: ignore[misc]
    return cls(graph, tunable, frozen)

  def merge(self, params: dict[str, Array], frozen: nnx.State) -> Any:
    """The model with other values; cheap, meant for use under `jax.jit`."""
    return nnx.merge(self.graph, trees.with_values(self.tunable, params), frozen)


def create(
  split: Split,
  optimizer: optax.GradientTransformation,
  key: Array,
  first_step: int = 0,
) -> TrainState:
  """The state before the first update, which counts from `first_step`."""
  params = jax.tree.map(jnp.copy, trees.values(split.tunable))  # steps donate them
  step = jnp.asarray(first_step, jnp.int32)
  return TrainState(step, params, optimizer.init(params), key)


def is_finite(state: TrainState) -> bool:
  """Whether every learned value is a number."""
  return all(bool(jnp.isfinite(value).all()) for value in state.params.values())


def over_bank(
  optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """The optimizer run for each prompt of a bank on its own.

  Parameters have a leading num_prompts axis; clipping, factoring and the step counter
  of one prompt never see another.
  """
  return optax.GradientTransformation(jax.vmap(optimizer.init), jax.vmap(optimizer.update))


def with_banks(
  optimizer: optax.GradientTransformation, banks: Collection[str]
) -> optax.GradientTransformation:
  """The optimizer, `over_bank` for the variables whose paths are in `banks`."""
  parts = {"banks": over_bank(optimizer), "others": optimizer}

  def apart(tree: dict[str, Array]) -> dict[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {name: {} for name in parts}
    for path, value in tree.items():
      found["banks" if path in banks else "others"][path] = value
    return found

  def init(params: dict[str, Array]) -> PyTree:
    return {name: parts[name].init(own) for name, own in apart(params).items() if own}

  def update(
    grads: dict[str, Array], state: PyTree, params: dict[str, Array]
  ) -> tuple[dict[str, Array], PyTree]:
    updates: dict[str, Array] = {}
    states, known = {}, apart(params)
    for name, own in apart(grads).items():
      if own:
        found, states[name] = parts[name].update(own, state[name], known[name])
        updates |= found
    return updates, states

  return optax.GradientTransformation(init, update)
