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

  @property
  def is_on(self) -> bool:
    """Whether anything is dropped."""
    return self._key is not None and self._rate > 0.0

  def __call__(self, x: Array, shared_axis: int = -2) -> Array:
    """Drops elements of `x`; the mask is the same along `shared_axis` (T5X: length)."""
    if self._key is None or not self.is_on:
      return x
    self._calls += 1
    shape = list(x.shape)
    shape[shared_axis] = 1
    keep = jax.random.bernoulli(
      jax.random.fold_in(self._key, self._calls), 1.0 - self._rate, shape
    )
    return jnp.where(keep, x / (1.0 - self._rate), jnp.zeros((), x.dtype))
