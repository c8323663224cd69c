"""The layers that all models share: dense, RMS norm, embedding and MLP."""

import math
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.quantized import scaled
from prompt_tuning.types import Array, Initializer

_NORM_EPSILON = 1e-6  # of T5
RESIDUAL = ("batch", "length", "embed")  # axes of what runs through a tower

fan_in_normal: Initializer = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
fan_in_truncated: Initializer = nnx.initializers.variance_scaling(
  1.0, "fan_in", "truncated_normal"
)

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  "gelu": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "linear": lambda x: x,
}


class Dense(nnx.Module):
  """A linear map without bias: [..., in] -> [..., out] in the dtype of its input."""

  def __init__(
    self,
    params: Parameters,
    shape: tuple[int, int],
    axes: tuple[str, str],
    init: Initializer,
  ):
    self.kernel, self.kernel_scale = params.matrix("kernel", shape, axes, init, 1)

  def __call__(self, x: Array) -> Array:
    """[..., in] -> [..., out]."""
    kernel = self.kernel[...].astype(x.dtype)
    product = x.reshape(-1, kernel.shape[0]) @ kernel
    if self.kernel_scale is not None:
      product = scaled(product, self.kernel_scale[...][None])
    return product.reshape(*x.shape[:-1], -1)


class RMSNorm(nnx.Module):
  """T5's layer norm: scale only, statistics in float32, cast before scaling."""

  def __init__(self, params: Parameters, d_model: int, epsilon: float = _NORM_EPSILON):
    ones, self._epsilon = nnx.initializers.ones, epsilon
    self.scale = params("scale", (d_model,), ("embed",), ones)

  def __call__(self, x: Array) -> Array:
    """[..., d_model] -> the same shape and dtype."""
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    normed = (x32 * jax.lax.rsqrt(mean_square + self._epsilon)).astype(x.dtype)
    scale = self.scale[...].astype(x.dtype)
    return normed * scale.reshape((1,) * (x.ndim - 1) + (-1,))


class Sizes(Protocol):
  """What these layers ask of a model's config; see `T5Config`."""

  @property
  def vocab_size(self) -> int: ...  # noqa: D102

  @property
  def d_model(self) -> int: ...  # noqa: D102

  @property
  def d_ff(self) -> int: ...  # noqa: D102

  @property
  def mlp_activations(self) -> tuple[str, ...]: ...  # noqa: D102


class Embedding(nnx.Module):
  """The token table [vocab, d_model], read by gather."""

  def __init__(self, config: Sizes, params: Parameters):
    self.embedding, self.embedding_scale = params.matrix(
      "embedding",
      (config.vocab_size, config.d_model),
      ("vocab", "embed"),
      nnx.initializers.normal(1.0),
      0,
    )
    self._constrain = params.constrain

  def __call__(self, tokens: Array, dtype: jnp.dtype) -> Array:
    """[batch, length] int32 -> [batch, length, d_model]."""
    found = jnp.take(self.embedding[...], tokens, axis=0).astype(dtype)
    if self.embedding_scale is not None:
      scale = jnp.take(self.embedding_scale[...], tokens, axis=0)
      found = scaled(found, scale[..., None])
    return self._constrain(found, RESIDUAL)

  def attend(self, x: Array) -> Array:
    """Tied logits [..., vocab] in float32; T5 1.0 divides them by sqrt(d_model)."""
    logits = x.astype(jnp.float32) @ self.embedding[...].astype(jnp.float32).T
    if self.embedding_scale is None:
      return logits
    scale = self.embedding_scale[...]
    return scaled(logits, scale.reshape((1,) * (logits.ndim - 1) + (-1,)))


class MLP(nnx.Module):
  """The product of one activation per input kernel, then the output kernel.

  T5 1.1: gelu(x @ wi_0) * (x @ wi_1) @ wo; T5 1.0: relu(x @ wi) @ wo.
  """

  def __init__(self, config: Sizes, params: Parameters):
    shape = (config.d_model, config.d_ff)
    self._activations = config.mlp_activations
    for name in self._inputs():
      kernel = Dense(params.at(name), shape, ("embed", "mlp"), fan_in_truncated)
      setattr(self, name, kernel)
    self.wo = Dense(params.at("wo"), shape[::-1], ("mlp", "embed"), fan_in_truncated)
    self._constrain = params.constrain

  def _inputs(self) -> list[str]:
    count = len(self._activations)
    return ["wi"] if count == 1 else [f"wi_{i}" for i in range(count)]

  def _activated(self, inputs: list[Array]) -> Array:
    factors = [
      _ACTIVATIONS[activation](x)
      for x, activation in zip(inputs, self._activations, strict=True)
    ]
    return math.prod(factors[1:], start=factors[0])

  def __call__(self, x: Array, dropout: Dropout) -> Array:
    """[batch, length, d_model] -> the same shape and dtype."""
    # What activations make is made again for the gradient: it would be half of what a
    # layer keeps, and costs a few operations per number.
    activated = jax.checkpoint(self._activated)
    hidden = dropout(activated([getattr(self, name)(x) for name in self._inputs()]))
    return self.wo(self._constrain(hidden, ("batch", "length", "mlp")))
