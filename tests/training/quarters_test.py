"""Losses only where they count: the same values and gradients as with all logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.training.quarters import where_weighted

BATCH, WIDTH, VOCAB = 3, 5, 7


def problem(length, counted, seed=0):
  rng = np.random.default_rng(seed)
  hidden = jnp.asarray(rng.normal(size=(BATCH, length, WIDTH)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(WIDTH, VOCAB)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, VOCAB, (BATCH, length)), jnp.int32)
  weights = np.zeros((BATCH, length), np.float32)
  for row, count in enumerate(counted):
    places = rng.permutation(length)[:count]
    weights[row, places] = rng.uniform(0.5, 2.0, count)
  return hidden, kernel, targets, jnp.asarray(weights)


def losses_by(kernel):
  def losses(hidden, targets):
    logits = hidden @ kernel
    at_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - at_target, jnp.argmax(logits, axis=-1)

  return losses


def total(hidden, kernel, targets, weights):
  found, best = where_weighted(losses_by(kernel), weights, hidden, targets)
  return jnp.sum(found * weights), jnp.where(weights > 0, best, 0)


def of_all(hidden, kernel, targets, weights):
  found, best = losses_by(kernel)(hidden, targets)
  return jnp.sum(found * weights), jnp.where(weights > 0, best, 0)


@pytest.mark.parametrize("learns", [(0,), (0, 1), (1,)])
@pytest.mark.parametrize(
  "length,counted", [(16, (3, 0, 5)), (7, (7, 1, 2)), (3, (1, 1, 1))]
)
def test_losses_and_gradients_are_those_of_all_logits(learns, length, counted):
  given = problem(length, counted)
  found, expected = (
    jax.jit(jax.value_and_grad(each, learns, has_aux=True))(*given)
    for each in (total, of_all)
  )
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-5, 1e-6), found, expected)


def test_nothing_counts():
  value, slope = jax.value_and_grad(total, has_aux=True)(*problem(8, (0, 0, 0)))
  assert float(value[0]) == 0.0
  np.testing.assert_array_equal(slope, jnp.zeros_like(slope))


def test_members_that_count_differently():
  members = [
    problem(16, counted, seed) for seed, counted in enumerate([(1, 2, 3), (9, 9, 9)])
  ]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
  found = jax.vmap(jax.grad(total, has_aux=True))(*stacked)[0]
  for slope, given in zip(found, members, strict=True):
    expected = jax.grad(of_all, has_aux=True)(*given)[0]
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("counted,parts", [((8, 1, 0), 1), ((9, 0, 0), 2), ((32, 1, 1), 4)])
def test_no_logits_where_no_loss_is(counted, parts):
  made = []

  def losses(hidden, targets):
    jax.debug.callback(lambda: made.append(hidden.shape))
    return losses_by(kernel)(hidden, targets)

  hidden, kernel, targets, weights = problem(32, counted)
  jax.block_until_ready(
    jax.jit(lambda *x: where_weighted(losses, *x))(weights, hidden, targets)
  )
  jax.effects_barrier()
  assert made == [(BATCH, 8, WIDTH)] * parts
