"""The decoder's memory between two decoding steps."""

import dataclasses

import jax
import jax.numpy as jnp

from prompt_tuning.models.context import KeysValues
from prompt_tuning.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerCache:
  """Keys and values of one decoder layer, each [rows, length, num_heads, d_kv].

  Where several answers are decoded for one input, they are rows of their own here (side by
  side), and share what was computed from the input.

  Attributes:
    keys: Of the tokens decoded so far; length is the most that may be decoded.
    values: Likewise.
    cross_keys: Of the encoder output, [batch, input_len, num_heads, d_kv], computed once.
    cross_values: Likewise.
    front: What lies in front of the decoded tokens, one group for all rows, or None.
  """

  keys: Array
  values: Array
  cross_keys: Array
  cross_values: Array
  front: KeysValues | None = None

  @classmethod
  def empty(
    cls,
    cross_keys: Array,
    cross_values: Array,
    max_len: int,
    num_decodes: int,
    front: KeysValues | None = None,
  ) -> "LayerCache":
    """A cache that holds nothing of the decoder yet."""
    batch, _, *heads = cross_keys.shape
    blank = jnp.zeros((batch * num_decodes, max_len, *heads), cross_keys.dtype)
    return cls(blank, blank, cross_keys, cross_values, front)

  @property
  def front_len(self) -> int:
    """Positions in front of the decoded tokens."""
    return 0 if self.front is None else self.front.keys.shape[1]

  def seen(self) -> tuple[Array, Array]:
    """Keys and values of what lies in front and of the tokens."""
    if self.front is None:
      return self.keys, self.values
    return self.front.before(self.keys, self.values)

  def updated(self, keys: Array, values: Array, index: Array | None) -> "LayerCache":
    """The cache with one position written, or (`index` None) all positions given."""
    if index is not None:
      write = jax.lax.dynamic_update_slice_in_dim
      keys = write(self.keys, keys, index, axis=1)
      values = write(self.values, values, index, axis=1)
    return dataclasses.replace(self, keys=keys, values=values)

  def reordered(self, rows: Array) -> "LayerCache":
    """The cache whose row i continues row `rows[i]`; what is shared stays as it is."""
    keys, values = (jnp.take(x, rows, axis=0) for x in (self.keys, self.values))
    return dataclasses.replace(self, keys=keys, values=values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """All that a decoding step needs from the steps before it.

  Attributes:
    layers: One `LayerCache` per decoder layer.
    cross_bias: [batch, 1, 1, input_len], hides encoder padding.
    index: int32 scalar, tokens decoded so far.
  """

  layers: tuple[LayerCache, ...]
  cross_bias: Array
  index: Array

  def stepped(self, layers: tuple[LayerCache, ...]) -> "Cache":
    """The cache after one more token."""
    return dataclasses.replace(self, layers=layers, index=self.index + 1)

  def reordered(self, rows: Array) -> "Cache":
    """The cache whose row i continues row `rows[i]`, which has the same input."""
    layers = tuple(layer.reordered(rows) for layer in self.layers)
    return dataclasses.replace(self, layers=layers)
