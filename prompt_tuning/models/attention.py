"""Multi-head attention and T5's relative position bias."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning.models.config import T5Config
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.layers import Dense, fan_in_normal
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.types import Array, Shape


class Attention(nnx.Module):
  """Dot-product attention without 1/sqrt(d_kv): T5 folds it into the query kernel."""

  def __init__(self, config: T5Config, params: Parameters):
    self._heads = (config.num_heads, config.d_kv)
    self._constrain, self._kernel = params.constrain, params.kernel
    joined = config.num_heads * config.d_kv

    def query_init(key: Array, shape: Shape) -> Array:
      return fan_in_normal(key, shape) / math.sqrt(config.d_kv)

    def projection(name, init):
      shape = (config.d_model, joined)
      return Dense(params.at(name), shape, ("embed", "joined_kv"), init)

    self.query = projection("query", query_init)
    self.key = projection("key", fan_in_normal)
    self.value = projection("value", fan_in_normal)
    self.out = Dense(
      params.at("out"), (joined, config.d_model), ("joined_kv", "embed"), fan_in_normal
    )

  def _split(self, x: Array) -> Array:
    split = x.reshape(*x.shape[:-1], *self._heads)
    return self._constrain(split, ("batch", "length", "heads", "kv"))

  def keys_values(self, x: Array) -> tuple[Array, Array]:
    """[batch, length, d_model] -> keys and values [batch, length, num_heads, d_kv]."""
    return self._split(self.key(x)), self._split(self.value(x))

  def __call__(
    self,
    x: Array,
    keys: Array,
    values: Array,
    biases: Sequence[Array],
    dropout: Dropout,
  ) -> Array:
    """Attends from `x` to keys and values.

    Args:
      x: [batch, q, d_model].
      keys: [batch, k, num_heads, d_kv], dtype of `x`.
      values: As `keys`.
      biases: Added to the logits, each broadcastable to [batch, num_heads, q, k], dtype of
        `x`; masks included.
      dropout: Applied to the weights, with one mask for all queries.

    Returns:
      [batch, q, d_model], dtype of `x`.
    """
    values = dropout.of_weights(values)
    return self.merged(self._kernel(self.queries(x), keys, values, biases))

  def queries(self, x: Array) -> Array:
    """[batch, q, d_model] -> [batch, q, num_heads, d_kv]."""
    return self._split(self.query(x))

  def merged(self, heads: Array) -> Array:
    """[batch, q, num_heads, d_kv] -> [batch, q, d_model]."""
    return self.out(heads.reshape(*heads.shape[:2], -1))


class RelativeBias(nnx.Module):
  """The bias table [num_heads, buckets] that all layers of a tower share."""

  def __init__(self, config: T5Config, params: Parameters, bidirectional: bool):
    self._max_distance = config.relative_max_distance
    self._bidirectional = bidirectional
    self.rel_embedding = params(
      "rel_embedding",
      (config.num_heads, config.relative_buckets),
      ("heads", "relpos_buckets"),
      nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
    )

  def __call__(self, query_len: int, key_len: int, dtype: jnp.dtype) -> Array:
    """[1, num_heads, query_len, key_len] for positions counted from 0."""
    distance = np.arange(key_len)[None, :] - np.arange(query_len)[:, None]
    return self._at(distance, dtype)[None]

  def of_context(
    self, context_len: int, length: int, positions: Array | None, dtype: jnp.dtype
  ) -> Array:
    """The bias towards a context that lies in front of what attends to it.

    Args:
      context_len: Keys of the context.
      length: Queries of a row.
      positions: [rows, length] int32, of the queries behind the context, where rows hold
        several segments; None where each counts from 0 to length.
      dtype: Of the result.

    Returns:
      [rows, num_heads, length, context_len], or one row for all.
    """
    distance = np.arange(context_len)[None, :] - np.arange(length)[:, None] - context_len
    by_position = self._at(distance, dtype)
    if positions is None:
      return by_position[None]
    return jnp.moveaxis(jnp.take(by_position, positions, axis=1), 0, 1)

  def between(self, queries: Array, keys: Array, dtype: jnp.dtype) -> Array:
    """The bias between positions that differ from row to row.

    Args:
      queries: [rows, q] int32, positions of the queries.
      keys: [rows, k] int32, positions of the keys; either may have one row for all.
      dtype: Of the result.

    Returns:
      [rows, num_heads, q, k].
    """
    far = self._max_distance  # from here on every distance has the last bucket
    distance = jnp.clip(keys[:, None, :] - queries[:, :, None], -far, far)
    by_distance = self._at(np.arange(-far, far + 1), dtype)
    return jnp.moveaxis(jnp.take(by_distance, distance + far, axis=1), 0, 1)

  def _at(self, distance: np.ndarray, dtype: jnp.dtype) -> Array:
    """[...] int, key position - query position, -> [num_heads, ...]."""
    table = self.rel_embedding[...].astype(dtype)
    buckets = relative_buckets(
      distance, table.shape[1], self._max_distance, self._bidirectional
    )
    return jnp.take(table, buckets, axis=1)


def of_each_layer(
  tower: Any, layers: Sequence[Any], bias: Callable[[RelativeBias], Array]
) -> list[Array]:
  """What `bias` makes of the table of each layer, once where they have one together."""
  if hasattr(tower, "relpos_bias"):
    return [bias(tower.relpos_bias)] * len(layers)
  return [bias(layer.relpos_bias) for layer in layers]


def relative_buckets(
  distance: np.ndarray, num_buckets: int, max_distance: int, bidirectional: bool
) -> np.ndarray:
  """The bucket of each key-minus-query distance (Raffel et al. 2020, section 2.1).

  Half of the buckets hold one distance each, the rest grow with its logarithm up to
  `max_distance`. Bidirectional towers give half of all buckets to keys ahead.

  Args:
    distance: int array, key position - query position.
    num_buckets: Rows of the bias table.
    max_distance: From here on every distance shares the last bucket.
    bidirectional: Whether keys ahead of the query have buckets of their own.

  Returns:
    int32 array of the shape of `distance`.
  """
  behind = -distance
  offset = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    offset = np.where(behind < 0, num_buckets, 0)
    behind = np.abs(behind)
  else:
    behind = np.maximum(behind, 0)
  exact = num_buckets // 2
  # float32 arithmetic and epsilon as in T5X: the truncation below depends on them.
  ratio = np.log(behind.astype(np.float32) / exact + np.finfo(np.float32).eps)
  spread = np.float32(math.log(max_distance / exact)) / np.float32(num_buckets - exact)
  far = np.minimum(exact + (ratio / spread).astype(np.int32), num_buckets - 1)
  return (offset + np.where(behind < exact, behind, far)).astype(np.int32)
