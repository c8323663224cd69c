"""Attention itself, the way each platform does it fast; all kernels agree to rounding.

A kernel takes

  queries  [batch, q, num_heads, d_kv]
  keys     [batch, k, num_heads, d_kv], and values alike
  biases   arrays whose sum is added to the logits, each broadcastable to
           [batch, num_heads, q, k], in the dtype of the queries

and returns [batch, q, num_heads, d_kv]. Those other than `plain` have no gradient for the
biases worth having, so that they are for frozen weights only.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array

Kernel = Callable[[Array, Array, Array, Sequence[Array]], Array]

_LARGE = 128 * 128  # logits of a head from which it pays to take few at a time
_CACHED = 3 * 2**18  # logits that a cache holds, with what is made of them
_MOST_D_KV = 128  # of cuDNN on every GPU that has it


def best(platform: str, devices: int = 1) -> Kernel:
  """The fastest kernel for frozen weights.

  Args:
    platform: "cpu", "gpu" or "tpu", as `jax.default_backend()` says.
    devices: That share the model or the batch.
  """
  if platform == "gpu":
    return cudnn if _has_cudnn_attention() else plain
  if platform == "cpu" and devices == 1:
    return by_head
  return plain


def _has_cudnn_attention() -> bool:
  """Whether the GPU is one of NVIDIA's from Ampere on."""
  capability = str(getattr(jax.local_devices()[0], "compute_capability", ""))
  return capability.partition(".")[0].isdigit() and float(capability) >= 8


def plain(
  queries: Array,
  keys: Array,
  values: Array,
  biases: Sequence[Array],
) -> Array:
  """All heads of all rows at once; XLA fuses what it can, on any number of devices."""
  logits = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) + sum(biases[1:], start=biases[0])
  weights = jax.nn.softmax(logits, axis=-1)
  return jnp.einsum("bhqk,bkhd->bqhd", weights, values)


def by_head(
  queries: Array,
  keys: Array,
  values: Array,
  biases: Sequence[Array],
) -> Array:
  """Few heads of one row at a time, whose logits stay in the cache of a CPU."""
  _, length, heads, _ = queries.shape
  logits = length * keys.shape[1]
  if logits < _LARGE:
    return plain(queries, keys, values, biases)
  group = max(
    (n for n in range(1, heads + 1) if heads % n == 0 and n * logits <= _CACHED), default=1
  )
  return _in_turns(queries, keys, values, list(biases), group)


def _split(x: Array, group: int) -> Array:
  """[batch, length, num_heads, ...] -> [turns, group, length, ...]."""
  return jnp.swapaxes(x, 1, 2).reshape(-1, group, x.shape[1], *x.shape[3:])


def _joined(x: Array, like: Array) -> Array:
  """[turns, group, length, ...] -> the shape of `like`, [batch, length, num_heads, ...]."""
  batch, length, heads, *rest = like.shape
  return jnp.swapaxes(x.reshape(batch, heads, length, *rest), 1, 2)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _in_turns(
  queries: Array, keys: Array, values: Array, biases: list[Array], group: int
) -> Array:
  """See `Kernel`: so many heads of a row after the other."""
  return _forward(queries, keys, values, biases, group)[0]


def _forward(
  queries: Array, keys: Array, values: Array, biases: list[Array], group: int
) -> tuple[Array, Any]:
  """And what the backward pass makes the weights of, which are not kept.

  What lies around anyway is kept as it lies: queries, keys and values.
  """
  heads = queries.shape[2]

  def turn(part: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array]:
    query, key, value, number = part
    logits = _logits(query, key, number, biases, heads)
    highest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return (weights @ value) / total, highest, 1.0 / total

  each = [_split(x, group) for x in (queries, keys, values)]
  found, *sums = jax.lax.map(turn, (*each, _numbers(each)))
  return _joined(found, queries), (queries, keys, values, biases, *sums)


def _backward(group: int, kept: Any, slopes: Array) -> tuple[Array, Array, Array, list]:
  """The gradients; the weights are made of the logits again, without their sums."""
  queries, keys, values, biases, highest, scales = kept
  heads = queries.shape[2]

  def turn(part: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    query, key, value, highest, scale, slope, number = part
    weights = jnp.exp(_logits(query, key, number, biases, heads) - highest) * scale
    by_weights = slope @ jnp.swapaxes(value, 1, 2)
    mean = jnp.sum(weights * by_weights, axis=-1, keepdims=True)
    by_logits = weights * (by_weights - mean)
    return (
      by_logits @ key,
      jnp.swapaxes(by_logits, 1, 2) @ query,
      jnp.swapaxes(weights, 1, 2) @ slope,
    )

  query, key, value, slope = (_split(x, group) for x in (queries, keys, values, slopes))
  each = (query, key, value, highest, scales, slope, _numbers([query]))
  by_query, by_key, by_value = jax.lax.map(turn, each)
  return (
    _joined(by_query, queries),
    _joined(by_key, keys),
    _joined(by_value, values),
    [jnp.zeros_like(bias) for bias in biases],
  )


def _numbers(turns: Sequence[Array]) -> Array:
  """Of the turns, from 0."""
  return jnp.arange(len(turns[0]), dtype=jnp.int32)


_in_turns.defvjp(_forward, _backward)


def _logits(
  query: Array, key: Array, number: Array, biases: list[Array], heads: int
) -> Array:
  """Of turn `number`, [group, q, k]."""
  group = query.shape[0]
  row, first = number // (heads // group), number % (heads // group) * group
  logits = query @ jnp.swapaxes(key, 1, 2)
  for bias in biases:
    of_row = bias[row if bias.shape[0] > 1 else 0]
    if bias.shape[1] > 1:
      of_row = jax.lax.dynamic_slice_in_dim(of_row, first, group)
    logits = logits + of_row
  return logits


def cudnn(
  queries: Array,
  keys: Array,
  values: Array,
  biases: Sequence[Array],
) -> Array:
  """Flash attention of cuDNN, for half precision and even lengths; else `plain`."""
  d_kv, odd = queries.shape[-1], (queries.shape[1] | keys.shape[1]) % 2
  half = queries.dtype in (jnp.bfloat16, jnp.float16)
  if odd or not half or d_kv % 8 or d_kv > _MOST_D_KV:
    return plain(queries, keys, values, biases)
  batch, length, heads, _ = queries.shape
  shape = (batch, heads, length, keys.shape[1])  # cuDNN broadcasts no queries
  return jax.nn.dot_product_attention(
    queries,
    keys,
    values,
    bias=jnp.broadcast_to(sum(biases[1:], start=biases[0]), shape),
    scale=1.0,
    implementation="cudnn",
  )
