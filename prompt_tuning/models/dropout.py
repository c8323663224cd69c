"""Dropout with T5X's shared masks."""

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array


class Dropout:
  """Dropout for one forward pass: every call draws a new mask, or none at all.

  Args:
    rate: Probability of dropping, in [0, 1).
    key: A PRNG key, or None for a deterministic pass.
  """

  def __init__(self, rate: float = 0.0, key: Array | None = None):
    self._rate = rate
    self._key = key
    self._calls = 0

  def __call__(self, x: Array, shared_axis: int = -2) -> Array:
    """Drops elements of `x`; the mask is the same along `shared_axis` (T5X: length)."""
    shape = list(x.shape)
    shape[shared_axis] = 1
    return self._where(self._kept(shape), x)

  def of_weights(self, values: Array) -> Array:
    """Drops attention weights by dropping values.

    T5X's mask of the weights is one for all queries, so that it says which keys count:
    sum_k (keep_k w_qk) v_k = sum_k w_qk (keep_k v_k), whatever computes the weights.

    Args:
      values: [batch, k, num_heads, d_kv].
    """
    batch, length, heads, _ = values.shape
    kept = self._kept([batch, heads, 1, length])
    return self._where(None if kept is None else jnp.moveaxis(kept, 3, 1), values)

  def _kept(self, shape: list[int]) -> Array | None:
    """A new mask, or None where nothing is dropped."""
    if self._key is None or self._rate == 0.0:
      return None
    self._calls += 1
    key = jax.random.fold_in(self._key, self._calls)
    return jax.random.bernoulli(key, 1.0 - self._rate, shape)

  def _where(self, kept: Array | None, x: Array) -> Array:
    if kept is None:
      return x
    return jnp.where(kept, x / (1.0 - self._rate), jnp.zeros((), x.dtype))
