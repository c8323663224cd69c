"""Rotary positions (Su et al. 2021), in the layout of Hugging Face: halves, not pairs.

x = [a | b], each half of a head        rotated = [a cos - b sin | b cos + a sin]
"""

import dataclasses

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rotation:
  """Turns queries and keys by their position, the same in every layer.

  Attributes:
    cos: [rows or 1, length, 1, d_kv / 2] float32.
    sin: As `cos`.
  """

  cos: Array
  sin: Array

  @classmethod
  def at(cls, positions: Array, d_kv: int, base: float) -> "Rotation":
    """That of positions [rows or 1, length] int32."""
    wave = jnp.arange(d_kv // 2, dtype=jnp.float32) / (d_kv // 2)
    frequencies = jnp.float32(base) ** -wave
    turned = positions.astype(jnp.float32)[..., None, None] * frequencies[None, None, None]
    return cls(jnp.cos(turned), jnp.sin(turned))

  def __call__(self, x: Array) -> Array:
    """[rows, length, heads, d_kv] -> the same shape and dtype."""
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [a * self.cos - b * self.sin, b * self.cos + a * self.sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
