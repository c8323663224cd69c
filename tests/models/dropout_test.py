"""Dropout: the masks of T5X, wherever they are applied."""

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning.models.dropout import Dropout


def test_dropping_values_is_dropping_weights():
  keys = jax.random.split(jax.random.key(0), 2)
  weights = jax.nn.softmax(jax.random.normal(keys[0], (2, 3, 5, 7)))
  values = jax.random.normal(keys[1], (2, 7, 3, 4))
  dropped = Dropout(0.4, jax.random.key(1))(weights)
  assert np.mean(np.asarray(dropped) == 0) > 0.2
  expected = jnp.einsum("bhqk,bkhd->bqhd", dropped, values)
  values = Dropout(0.4, jax.random.key(1)).of_weights(values)
  found = jnp.einsum("bhqk,bkhd->bqhd", weights, values)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_each_call_draws_anew_and_none_without_a_key():
  x = jnp.ones((2, 3, 50))
  dropout = Dropout(0.5, jax.random.key(1))
  assert not np.array_equal(dropout(x), dropout(x))
  assert Dropout(0.5)(x) is x
  assert Dropout(0.0, jax.random.key(1)).of_weights(x[..., None]).shape == (2, 3, 50, 1)
