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

from prompt_tuning.models.dropout import Dropout
from prompt_tuning.types import Array, Shape


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
    """[rows, q, heads, d_kv] -> [rows, heads, q, length]; num_heads divides heads."""
    groups, _, num_heads, d_kv = self.keys.shape
    rows, q, heads, _ = queries.shape
    grouped = queries.reshape(groups, -1, q, num_heads, heads // num_heads, d_kv)
    logits = jnp.einsum("grqhnd,gkhd->grhnqk", grouped, self.keys)
    return logits.reshape(rows, heads, q, -1)

  def weighted(self, weights: Array) -> Array:
    """[rows, heads, q, length] -> [rows, q, heads, d_kv]."""
    groups, length, num_heads, d_kv = self.values.shape
    rows, heads, q, _ = weights.shape
    grouped = weights.reshape(groups, -1, num_heads, heads // num_heads, q, length)
    sums = jnp.einsum("grhnqk,gkhd->grqhnd", grouped, self.values)
    return sums.reshape(rows, q, heads, d_kv)


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

  @classmethod
  def empty(
    cls,
    contexts: Sequence[Context],
    first: Array,
    shape: Shape,
    layers: int,
    dtype: jnp.dtype,
  ) -> "DecoderOnlyCache":
    """One that holds nothing decoded yet, with room for `shape` in each of the layers."""
    blank = KeysValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
    return cls(
      contexts=tuple(contexts),
      first=first.astype(jnp.int32),
      decoded=(blank,) * layers,
      index=jnp.zeros((), jnp.int32),
    )

  def seen(self) -> Array:
    """Which keys the token at `index` may see: [batch, keys] bool, contexts in front."""
    batch = self.first.shape[0]
    slots = jnp.arange(self.decoded[0].keys.shape[1], dtype=jnp.int32)[None]
    visible = [*(context.visible for context in self.contexts), slots <= self.index]
    return jnp.concatenate([for_rows(x, batch) for x in visible], axis=1)

  def reordered(self, rows: Array) -> "DecoderOnlyCache":
    """The cache whose row i is the old row `rows[i]`, a decode of the same input."""
    decoded = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), self.decoded)
    return dataclasses.replace(self, decoded=decoded)

  def stepped(self, decoded: tuple[KeysValues, ...]) -> "DecoderOnlyCache":
    """The cache after one more token."""
    return dataclasses.replace(self, decoded=decoded, index=self.index + 1)


def joined(parts: Sequence[KeysValues]) -> tuple[Array, Array]:
  """Keys and values of all parts, one behind the other: [rows, k, num_heads, d_kv].

  A part of one group is that of every row.
  """
  *before, last = parts
  rows = last.keys.shape[0]

  def each(pieces: Sequence[Array]) -> Array:
    wide = [jnp.broadcast_to(x, (rows, *x.shape[1:])) for x in pieces]
    return jnp.concatenate(wide, axis=1) if before else pieces[0]

  return each([part.keys for part in parts]), each([part.values for part in parts])


def attended(
  queries: Array,
  parts: Sequence[KeysValues],
  bias: Array,
  dropout: Dropout | None = None,
) -> Array:
  """What queries get of all parts at once, as if they were one.

  Args:
    queries: [rows, q, heads, d_kv]; heads is a multiple of those of the parts.
    parts: With k keys between them.
    bias: [groups, heads or 1, q, k], dtype of the queries; masks included.
    dropout: Applied to the weights, with one mask for all queries.

  Returns:
    [rows, q, heads, d_kv], dtype of the queries.
  """
  logits = jnp.concatenate([part.logits(queries) for part in parts], axis=-1)
  grouped = logits.reshape(bias.shape[0], -1, *logits.shape[1:]) + bias[:, None]
  weights = jax.nn.softmax(grouped.reshape(logits.shape), axis=-1)
  if dropout is not None:
    weights = dropout(weights)
  ends = np.cumsum([part.keys.shape[1] for part in parts])[:-1]
  pieces = jnp.split(weights, ends, axis=-1)
  return sum(
    (part.weighted(piece) for part, piece in zip(parts[1:], pieces[1:], strict=True)),
    start=parts[0].weighted(pieces[0]),
  )


def for_rows(visible: Array, rows: int) -> Array:
  """[groups, length] -> [rows, length]: each group for its consecutive rows."""
  return jnp.repeat(visible, rows // visible.shape[0], axis=0)
