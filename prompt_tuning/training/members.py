"""One update of several members, each as if it were alone with the frozen model.

  state    [members, ...]         prompts, second moments, dropout keys
  batch    [members, rows, ...]
  frozen   shared: its matrices multiply the rows of all members at once

An ordinary run is one member. Nothing is summed over the first axis, so the members do
not touch each other, and any number of them may go through the model at once:

  at_once 1   a b c d   one after another: caches of a CPU hold what one member needs
  at_once 2   ab cd     memory for the activations of two
  at_once 4   abcd      one large product for all, which fills an accelerator
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from prompt_tuning.training import steps
from prompt_tuning.training.criterion import Criterion
from prompt_tuning.training.state import Split, TrainState
from prompt_tuning.types import Array, Constrain, unconstrained

Tree = TypeVar("Tree")
Rate = Callable[[Array], Array]  # learning rate by step
Optimizer = Callable[[Rate], optax.GradientTransformation]


def stack(trees: Sequence[Tree]) -> Tree:
  """Trees of arrays of equal shapes as one, with the members as first axis."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def take(tree: Tree, places: Sequence[int]) -> Tree:
  """The members at `places` only, in that order."""
  chosen = np.asarray(places, np.int32)
  return jax.tree.map(lambda leaf: leaf[chosen], tree)


def train_step(
  split: Split,
  optimizer: Optimizer,
  rates: Sequence[Rate],
  loss: Criterion,
  at_once: int,
  num_microbatches: int | None = None,
  constrain: Constrain = unconstrained,
  shardings: TrainState | None = None,
) -> steps.Update:
  """A jitted `steps.update` of every member; the state is donated.

  Args:
    split: Of one member; the others have the same structure.
    optimizer: What updates a member, given its learning rate.
    rates: Of each member; all members are at the same step.
    loss: What each minimizes. Its normalizing factor is the member's own.
    at_once: Members that go through the model at once, at most.
    num_microbatches: Parts of a member's rows whose gradients are added up.
    constrain: See `steps.update`.
    shardings: Of the state, where there are several devices.

  Returns:
    (state, frozen, batch) -> (state, sums), all but `frozen` by member.
  """

  def step(state: TrainState, frozen: nnx.State, batch: steps.Batch):
    now = jnp.stack([rate(state.step[0]) for rate in rates])

    def one(member: tuple[TrainState, steps.Batch, Array]):
      state, batch, rate = member
      transformation = optimizer(lambda _: rate)
      update = steps.update(split, transformation, loss, num_microbatches, constrain)
      return update(state, frozen, batch)

    return _each(one, (state, batch, now), at_once)

  whole = None if shardings is None else shardings.step
  return jax.jit(step, donate_argnums=0, out_shardings=(shardings, whole))


def _each(function: Callable[[Any], Any], members: Any, at_once: int) -> Any:
  """A function of every member, so many of them at once."""
  if at_once == 1:
    return jax.lax.map(function, members)
  if at_once >= len(jax.tree.leaves(members)[0]):
    return jax.vmap(function)(members)
  return jax.lax.map(function, members, batch_size=at_once)
