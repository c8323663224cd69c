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
  """Few heads of one row at a time, whose logits stay in the cache of a CPU.

  The backward pass computes the weights again instead of keeping them.
  """
  batch, length, heads, _ = queries.shape
  logits = length * keys.shape[1]
  if logits < _LARGE:
    return plain(queries, keys, values, biases)
  group = max(
    (n for n in range(1, heads + 1) if heads % n == 0 and n * logits <= _CACHED), default=1
  )

  @jax.checkpoint
  def some(part: tuple[Array, Array, Array, Array]) -> Array:
    query, key, value, index = part  # [group, length, d_kv]
    row, first = index // (heads // group), index % (heads // group) * group
    logits = query @ jnp.swapaxes(key, 1, 2)
    for bias in biases:
      of_row = bias[row if bias.shape[0] > 1 else 0]
      if bias.shape[1] > 1:
        of_row = jax.lax.dynamic_slice_in_dim(of_row, first, group)
      logits = logits + of_row
    return jax.nn.softmax(logits, axis=-1) @ value

  def split(x: Array) -> Array:
    return jnp.swapaxes(x, 1, 2).reshape(-1, group, *x.shape[1::2])

  index = jnp.arange(batch * heads // group, dtype=jnp.int32)
  found = jax.lax.map(some, (split(queries), split(keys), split(values), index))
  return jnp.swapaxes(found.reshape(batch, heads, length, -1), 1, 2)


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
