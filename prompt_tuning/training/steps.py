"""One update and one teacher-forced evaluation, as pure functions."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.training.criterion import Batch, Criterion, Sums
from prompt_tuning.training.state import Split, TrainState
from prompt_tuning.types import Array, Constrain, unconstrained

Update = Callable[[TrainState, nnx.State, Batch], tuple[TrainState, Sums]]


_FEATURES = (
  "encoder_input_tokens",
  "decoder_input_tokens",
  "decoder_target_tokens",
  "prompt_ids",
  "encoder_segment_ids",
  "decoder_segment_ids",
  "encoder_prompt_slots",
)


def features(batch: Batch) -> Batch:
  """What a model takes of a batch with T5X's feature names, as keyword arguments."""
  return {name: batch[name] for name in _FEATURES if name in batch}


def loss_and_sums(
  model: Any,
  batch: Batch,
  loss: Criterion,
  dropout_key: Array | None,
  share: float = 1.0,
) -> tuple[Array, Sums]:
  """The scalar loss of a batch, and the sums that its metrics are made of.

  Args:
    model: A prompted model.
    batch: T5X's features.
    loss: What is minimized.
    dropout_key: See `PromptedT5.hidden`.
    share: Of what a method adds to the loss of a batch, where this is a part of one.
  """
  hidden = model.hidden(**features(loss.rows(batch)), dropout_key=dropout_key)
  total, sums = loss.of_hidden(hidden, model.logits_of, batch)
  price = model.penalty()
  if price is None:
    return total, sums
  total = total + price * share
  return total, {**sums, "loss": total, "penalty": price * share}


def update(
  split: Split,
  optimizer: optax.GradientTransformation,
  loss: Criterion,
  num_microbatches: int | None = None,
  constrain: Constrain = unconstrained,
) -> Update:
  """A pure function (state, frozen, batch) -> (state, sums).

  Only tunable variables are differentiated. With microbatches the rows are taken in
  order, gradients are summed (as T5X does), and the buffers that accumulate them are
  no larger than the tunable variables.

  Args:
    split: The model's structure.
    optimizer: Over its tunable variables.
    loss: What is minimized.
    num_microbatches: Parts of a batch whose gradients are added up.
    constrain: Lays out the microbatches, each over all devices.
  """
  count = num_microbatches or 1

  def gradients(params, frozen, batch, key):
    def objective(params):
      return loss_and_sums(split.merge(params, frozen), batch, loss, key, 1.0 / count)

    return jax.grad(objective, has_aux=True)(params)

  def part(x):
    return constrain(
      x.reshape(count, -1, *x.shape[1:]), (None, "batch", *[None] * (x.ndim - 1))
    )

  def accumulated(params, frozen, batch, key):
    parts = jax.tree.map(part, batch)
    keys = jax.random.split(key, count)

    def add(total, part):
      return jax.tree.map(jnp.add, total, gradients(params, frozen, *part)), None

    first = jax.tree.map(lambda x: x[0], (parts, keys))
    shapes = jax.eval_shape(gradients, params, frozen, *first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, (parts, keys))[0]

  def step(state: TrainState, frozen: nnx.State, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    compute = accumulated if count > 1 else gradients
    grads, sums = compute(state.params, frozen, batch, key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = dataclasses.replace(
      state, step=state.step + 1, params=params, opt_state=opt_state
    )
    return state, sums

  return step


def train_step(
  split: Split,
  optimizer: optax.GradientTransformation,
  loss: Criterion,
  num_microbatches: int | None = None,
  constrain: Constrain = unconstrained,
  shardings: TrainState | None = None,
) -> Update:
  """An `update`, jitted; the state is donated.

  Args:
    split: See `update`, as the others.
    optimizer: See `update`.
    loss: See `update`.
    num_microbatches: See `update`.
    constrain: See `update`.
    shardings: Of the state, where there are several devices.
  """
  step = update(split, optimizer, loss, num_microbatches, constrain)
  return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def check_microbatches(batch_size: int, num_microbatches: int | None) -> None:
  """Raises `InputError` unless the batch divides into the microbatches."""
  if num_microbatches and batch_size % num_microbatches:
    raise checks.InputError(
      f"BATCH_SIZE {batch_size} does not divide into {num_microbatches} microbatches; "
      "choose a divisor of BATCH_SIZE for trainer.Trainer.num_microbatches"
    )


def eval_step(split: Split, loss: Criterion) -> Callable[[dict, nnx.State, Batch], Sums]:
  """A jitted function (params, frozen, batch) -> sums, without dropout."""

  @jax.jit
  def step(params: dict[str, Array], frozen: nnx.State, batch: Batch) -> Sums:
    return loss_and_sums(split.merge(params, frozen), batch, loss, None)[1]

  return step


def metrics(loss: Criterion, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """The loss's metrics from the sums of some steps, on the host.

  Where a method adds something to the loss there is "penalty" too, its mean.
  """
  prices = [float(row.get("penalty", 0.0)) for row in rows]
  of_task = [
    {**row, "loss": float(row["loss"]) - price}
    for row, price in zip(rows, prices, strict=True)
  ]
  found = loss.metrics(of_task)
  if "penalty" not in rows[0]:
    return found
  price = sum(prices) / len(prices)
  return {**found, "loss": found["loss"] + price, "penalty": price}
