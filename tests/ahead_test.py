"""A function compiled ahead is the function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.ahead import Ahead


@jax.jit
def add(state, frozen, batch):
  return state + frozen * jnp.sum(batch["rows"]), batch["rows"].shape


def shapes(rows):
  return {"rows": jax.ShapeDtypeStruct((rows,), jnp.float32)}


def test_it_gives_what_the_function_gives_for_any_batch():
  state, frozen = jnp.float32(1), jnp.float32(2)
  ahead = Ahead(add, jax.eval_shape(lambda: state), frozen, shapes(3))
  for rows in (3, 5, 3):
    found, _ = ahead(state, frozen, {"rows": jnp.ones(rows)})
    np.testing.assert_array_equal(found, 1 + 2 * rows)


def test_nothing_is_compiled_again_for_the_foreseen_batch():
  traces = []

  @jax.jit
  def counted(state, frozen, batch):
    traces.append(batch["rows"].shape)
    return state

  ahead = Ahead(counted, jnp.float32(1), jnp.float32(2), shapes(3))
  for _ in range(3):
    ahead(jnp.float32(1), jnp.float32(2), {"rows": jnp.ones(3)})
  assert traces == [(3,)]


def test_what_the_compiler_objects_to_is_raised_by_the_call():
  ahead = Ahead(add, jnp.ones(2), jnp.ones(3), shapes(3))
  with pytest.raises(TypeError, match="incompatible shapes"):
    ahead(jnp.ones(2), jnp.ones(3), {"rows": jnp.ones(3)})
