"""Weights in int8: symmetric, one float32 scale per channel, activations untouched.

  kernel [in, out]            ~  kernel [in, out] int8 * kernel_scale [out]
  embedding [vocab, d_model]  ~  embedding [vocab, d_model] int8 * embedding_scale [vocab]

The scale is the largest absolute weight of a channel over 127, so that a weight is off by
half a scale at most. Every output has one scale, which therefore multiplies the product
instead of the matrix: x @ (q * scale) = (x @ q) * scale.

Qwix, Google's library for this, does not fit: it replaces `jax.lax.dot_general` while a
model runs, takes `nnx.Param` only for weights, renames them and leaves gathered tables.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning.types import Array

_LARGEST = 127  # -128 is not used, so that the code is symmetric


def scale_of(name: str) -> str:
  """The name of the scale that belongs to a weight in int8."""
  return f"{name}_scale"


def quantize(weight: Array, channel: int) -> tuple[Array, Array]:
  """A matrix in int8 and the scale of each channel.

  Args:
    weight: [rows, columns], any float dtype.
    channel: The axis that has a scale: 1 for a kernel, 0 for a table.

  Returns:
    [rows, columns] int8, rounded half to even, and [channels] float32. A channel of zeros
    has scale 1; one that is not finite has a scale that is not finite.
  """
  weight = weight.astype(jnp.float32)
  scale = jnp.max(jnp.abs(weight), axis=1 - channel, keepdims=True) / _LARGEST
  scale = jnp.where(scale == 0, 1.0, scale)
  return jnp.round(weight / scale).astype(jnp.int8), scale.reshape(-1)


def scaled(x: Array, scale: Array) -> Array:
  """`x` times `scale`, of the same rank, in the dtype of `x`; multiplied in float32."""
  return (x.astype(jnp.float32) * scale).astype(x.dtype)


def holder(
  variables: Mapping[str, nnx.Variable],
  sharding: Callable[[str], jax.sharding.Sharding] | None = None,
) -> Callable[[str, Array], dict[str, Array]]:
  """From a float array of a checkpoint to the arrays that hold it in a model.

  The arrays may span processes, which then must all call it in the same order.

  Args:
    variables: {path: variable with "axes"} of the abstract model.
    sharding: From a path to how its array lies on devices; None is one device.

  Returns:
    (path, array) -> {path: array}, with its scale where the model has it in int8.
  """

  def hold(path: str, array: Array) -> dict[str, Array]:
    if variables[path].get_value().dtype != jnp.int8:
      return {path: array}
    paths = (path, scale_of(path))
    axes, (channel,) = (variables[p].get_metadata("axes") for p in paths)
    where = None if sharding is None else tuple(map(sharding, paths))
    run = jax.jit(quantize, static_argnames="channel", out_shardings=where)
    return dict(zip(paths, run(array, channel=axes.index(channel)), strict=True))

  return hold
