"""The encoder of a T5: layers of self-attention and MLP."""

from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx

from prompt_tuning.models.attention import Attention, RelativeBias, of_each_layer
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.context import KeysValues
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.layers import MLP, RESIDUAL, RMSNorm
from prompt_tuning.models.masks import mask_bias
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.remat import rematerialised
from prompt_tuning.types import Array

# (number of a layer, what runs into it [batch, length, d_model]) -> what runs instead
Entering = Callable[[int, Array], Array]


class EncoderLayer(nnx.Module):
  """Self-attention and MLP."""

  def __init__(self, config: T5Config, params: Parameters):
    self.pre_attention_layer_norm = RMSNorm(
      params.at("pre_attention_layer_norm"), config.d_model
    )
    self.attention = Attention(config, params.at("attention"))
    self.pre_mlp_layer_norm = RMSNorm(params.at("pre_mlp_layer_norm"), config.d_model)
    self.mlp = MLP(config, params.at("mlp"))
    if config.relative_per_layer:
      self.relpos_bias = RelativeBias(config, params.at("relpos_bias"), True)
    self._constrain = params.constrain

  def __call__(
    self, x: Array, before: KeysValues | None, biases: Sequence[Array], dropout: Dropout
  ) -> tuple[Array, KeysValues]:
    """[batch, length, d_model] -> the same, and its own keys and values.

    Args:
      x: [batch, length, d_model].
      before: Of a context in front of `x`; None where there is none.
      biases: Of positions and mask, see `Attention`.
      dropout: Of the layer.
    """
    normed = self.pre_attention_layer_norm(x)
    own = self.attention.keys_values(normed)
    keys, values = own if before is None else before.before(*own)
    x = x + dropout(self.attention(normed, keys, values, biases, dropout))
    x = self._constrain(x, RESIDUAL)
    x = x + dropout(self.mlp(self.pre_mlp_layer_norm(x), dropout))
    return self._constrain(x, RESIDUAL), KeysValues(*own)


class Encoder(nnx.Module):
  """A tower of encoder layers with a final norm."""

  def __init__(self, config: T5Config, params: Parameters):
    self._num_layers, self._remat = config.num_encoder_layers, config.remat
    if not config.relative_per_layer:
      self.relpos_bias = RelativeBias(config, params.at("relpos_bias"), True)
    for i in range(self._num_layers):
      setattr(self, f"layers_{i}", EncoderLayer(config, params.at(f"layers_{i}")))
    self.encoder_norm = RMSNorm(params.at("encoder_norm"), config.d_model)

  def __call__(
    self,
    x: Array,
    before: tuple[KeysValues | None, ...],
    biases: list[tuple[Array, Array]],
    dropout: Dropout,
    layers: range,
    entering: Entering | None = None,
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    """[batch, length, d_model] -> the same, and keys and values of the `layers`.

    The first layer comes behind the embeddings, the final norm behind the last.
    """
    x, kept = dropout(x) if 0 in layers else x, []
    for number in layers:
      if entering is not None:
        x = entering(number, x)
      layer = partial(self.layers()[number], dropout=dropout)
      x, own = rematerialised(layer, self._remat)(x, before[number], biases[number])
      kept.append(own)
    if self._num_layers - 1 in layers:
      x = dropout(self.encoder_norm(x))
    return x, tuple(kept)

  def biases(
    self, mask: Array, positions: Array | None, dtype: jnp.dtype
  ) -> list[tuple[Array, Array]]:
    """The biases of each layer, of positions and mask.

    Args:
      mask: [batch, 1, length, context_len + length] bool.
      positions: See `RelativeBias.of_context`.
      dtype: Of activations.
    """
    length, keys = mask.shape[-2:]
    masked = mask_bias(mask, dtype)

    def of(table: RelativeBias) -> Array:
      own = table(length, length, dtype)
      if keys > length:
        front = table.of_context(keys - length, length, positions, dtype)
        own = jnp.broadcast_to(own, (front.shape[0], *own.shape[1:]))
        own = jnp.concatenate([front, own], axis=-1)
      return own

    return [(bias, masked) for bias in of_each_layer(self, self.layers(), of)]

  def layers(self) -> list[EncoderLayer]:
    """The layers, the first one first."""
    return [getattr(self, f"layers_{i}") for i in range(self._num_layers)]
