"""Keys and values that a model has computed, and attention to them.

A row of queries sees several parts of its sequence, each kept where it is computed once:

  prompt        inputs         decoded
  [1, ...]      [batch, ...]   [batch * num_decodes, ...]

A part of `groups` rows serves rows / groups consecutive rows of queries, so that what
rows have in common is neither repeated nor copied.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning.models.attention import Attention
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeysValues:
  """Keys and values of one part in one layer, each [groups, length, num_heads, d_kv]."""

  keys: Array
  values: Array

  def before(self, keys: Array, values: Array) -> tuple[Array, Array]:
    """Keys and values [rows, length + k, num_heads, d_kv]: these, then the given k.

    These may be one group for all rows.
    """

    def joined(front: Array, x: Array) -> Array:
      front = jnp.broadcast_to(front, (x.shape[0], *front.shape[1:]))
      return jnp.concatenate([front.astype(x.dtype), x], axis=1)

    return joined(self.keys, keys), joined(self.values, values)

  def written(self, new: "KeysValues", index: Array) -> "KeysValues":
    """The same with `new` [groups, 1, num_heads, d_kv] at position `index`."""
    write = jax.lax.dynamic_update_slice_in_dim
    return KeysValues(
      write(self.keys, new.keys, index, axis=1),
      write(self.values, new.values, index, axis=1),
    )

  def logits(self, queries: Array) -> Array:
    """[rows, q, num_heads, d_kv] -> [rows, num_heads, q, length]."""
    grouped = queries.reshape(self.keys.shape[0], -1, *queries.shape[1:])
    logits = jnp.einsum("grqhd,gkhd->grhqk", grouped, self.keys)
    return logits.reshape(queries.shape[0], *logits.shape[2:])

  def weighted(self, weights: Array) -> Array:
    """[rows, num_heads, q, length] -> [rows, q, num_heads, d_kv]."""
    grouped = weights.reshape(self.values.shape[0], -1, *weights.shape[1:])
    sums = jnp.einsum("grhqk,gkhd->grqhd", grouped, self.values)
    return sums.reshape(weights.shape[0], *sums.shape[2:])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
  """A part of the sequences that lies before what comes next.

  Attributes:
    layers: One `KeysValues` per layer, each [groups, length, num_heads, d_kv].
    visible: [groups, length] bool, what may be seen of it.
  """

  layers: tuple[KeysValues, ...]
  visible: Array

  @property
  def length(self) -> int:
    """Positions, padding included."""
    return self.visible.shape[1]

  def picked(self, groups: Array) -> "Context":
    """The context of other rows: `groups` [rows] int32 says which each of them has."""
    return jax.tree.map(lambda x: jnp.take(x, groups, axis=0), self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncodedContext:
  """A part that an encoder has read on its own, before what comes behind it.

  Attributes:
    context: Its keys and values in each layer.
    encoded: [groups, length, d_model], what the encoder made of it.
  """

  context: Context
  encoded: Array

  def picked(self, groups: Array) -> "EncodedContext":
    """That of other rows: `groups` [rows] int32 says which each of them has."""
    return jax.tree.map(lambda x: jnp.take(x, groups, axis=0), self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fronts:
  """Keys and values in front of those of a decoder, one per layer.

  Attributes:
    own: In front of its own, each [1, length, num_heads, d_kv].
    cross: In front of those of the encoder's output.
  """

  own: tuple[KeysValues, ...]
  cross: tuple[KeysValues, ...]

  @property
  def length(self) -> int:
    """Positions."""
    return self.own[0].keys.shape[1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecoderOnlyCache:
  """All that a decoding step needs from what came before it.

  Attributes:
    contexts: The parts before the decoded tokens, one behind the other from position 0.
    first: [batch] int32, the position of the first decoded token of each input.
    decoded: One `KeysValues` per layer, [rows, max_len, num_heads, d_kv]. A step writes
      the same index in every row, whatever the position of its token.
    index: int32 scalar, tokens decoded so far.
  """

  contexts: tuple[Context, ...]
  first: Array
  decoded: tuple[KeysValues, ...]
  index: Array

  def reordered(self, rows: Array) -> "DecoderOnlyCache":
    """The cache whose row i is the old row `rows[i]`, a decode of the same input."""
    decoded = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), self.decoded)
    return dataclasses.replace(self, decoded=decoded)

  def stepped(self, decoded: tuple[KeysValues, ...]) -> "DecoderOnlyCache":
    """The cache after one more token."""
    return dataclasses.replace(self, decoded=decoded, index=self.index + 1)


def attend(
  attention: Attention,
  x: Array,
  parts: Sequence[KeysValues],
  bias: Array,
  dropout: Dropout,
) -> Array:
  """Attends from `x` to all parts at once, as if they were one.

  Args:
    attention: The layer's projections.
    x: [rows, q, d_model].
    parts: With k keys between them.
    bias: [groups, num_heads, q, k], dtype of `x`; masks included.
    dropout: Applied to the weights, with one mask for all queries.

  Returns:
    [rows, q, d_model], dtype of `x`.
  """
  heads = parts[0].keys.shape[2:]
  queries = attention.query(x).reshape(*x.shape[:2], *heads)
  logits = jnp.concatenate([part.logits(queries) for part in parts], axis=-1)
  grouped = logits.reshape(bias.shape[0], -1, *logits.shape[1:]) + bias[:, None]
  weights = dropout(jax.nn.softmax(grouped.reshape(logits.shape), axis=-1))
  ends = np.cumsum([part.keys.shape[1] for part in parts])[:-1]
  pieces = jnp.split(weights, ends, axis=-1)
  attended = sum(
    (part.weighted(piece) for part, piece in zip(parts[1:], pieces[1:], strict=True)),
    start=parts[0].weighted(pieces[0]),
  )
  return attention.out(attended.reshape(*x.shape[:2], -1))
