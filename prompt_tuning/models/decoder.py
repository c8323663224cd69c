"""The decoder of a T5: layers of self-attention, cross-attention and MLP."""

from functools import partial

import jax.numpy as jnp
from flax import nnx

from prompt_tuning.models.attention import Attention, RelativeBias, of_each_layer
from prompt_tuning.models.cache import LayerCache
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.context import Fronts
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.layers import MLP, RESIDUAL, Dense, RMSNorm, fan_in_truncated
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.remat import rematerialised
from prompt_tuning.types import Array


class DecoderLayer(nnx.Module):
  """Self-attention, cross-attention and MLP."""

  def __init__(self, config: T5Config, params: Parameters):
    self.pre_self_attention_layer_norm = RMSNorm(
      params.at("pre_self_attention_layer_norm"), config.d_model
    )
    self.self_attention = Attention(config, params.at("self_attention"))
    self.pre_cross_attention_layer_norm = RMSNorm(
      params.at("pre_cross_attention_layer_norm"), config.d_model
    )
    self.encoder_decoder_attention = Attention(
      config, params.at("encoder_decoder_attention")
    )
    self.pre_mlp_layer_norm = RMSNorm(params.at("pre_mlp_layer_norm"), config.d_model)
    self.mlp = MLP(config, params.at("mlp"))
    if config.relative_per_layer:
      self.relpos_bias = RelativeBias(config, params.at("relpos_bias"), False)
    self._constrain = params.constrain

  def __call__(
    self,
    x: Array,
    cache: LayerCache,
    index: Array | None,
    biases: tuple[Array, Array],
    dropout: Dropout,
  ) -> tuple[Array, LayerCache]:
    """One layer over all positions (`index` None) or over the one at `index`.

    Rows that share an input ask its keys and values together, as more queries:

      x [batch * n, length, d_model] -> [batch, n * length, d_model] -> back
    """
    self_bias, cross_bias = biases
    normed = self.pre_self_attention_layer_norm(x)
    cache = cache.updated(*self.self_attention.keys_values(normed), index)
    keys, values = cache.seen()
    x = x + dropout(self.self_attention(normed, keys, values, [self_bias], dropout))
    x = self._constrain(x, RESIDUAL)
    normed = self.pre_cross_attention_layer_norm(x)
    attended = self.encoder_decoder_attention(
      normed.reshape(cache.cross_keys.shape[0], -1, normed.shape[-1]),
      cache.cross_keys,
      cache.cross_values,
      [cross_bias],
      dropout,
    )
    x = self._constrain(x + dropout(attended.reshape(x.shape)), RESIDUAL)
    x = x + dropout(self.mlp(self.pre_mlp_layer_norm(x), dropout))
    return self._constrain(x, RESIDUAL), cache


class Decoder(nnx.Module):
  """A tower of decoder layers with a final norm and logits."""

  def __init__(self, config: T5Config, params: Parameters):
    self._num_layers, self._remat = config.num_decoder_layers, config.remat
    if not config.relative_per_layer:
      self.relpos_bias = RelativeBias(config, params.at("relpos_bias"), False)
    for i in range(self._num_layers):
      setattr(self, f"layers_{i}", DecoderLayer(config, params.at(f"layers_{i}")))
    self.decoder_norm = RMSNorm(params.at("decoder_norm"), config.d_model)
    if not config.tied_logits:
      self.logits_dense = Dense(
        params.at("logits_dense"),
        (config.d_model, config.vocab_size),
        ("embed", "vocab"),
        fan_in_truncated,
      )

  def positions(
    self, length: int, front: int, dtype: jnp.dtype, within: Array | None = None
  ) -> list[Array]:
    """The position bias of each layer, with `front` keys before the tokens'.

    Args:
      length: Tokens of a row.
      front: Keys in front of them.
      dtype: Of the result.
      within: [rows, length] int32, how far behind the front each token is, where rows hold
        several segments; None counts from 0.

    Returns:
      For each layer [rows, num_heads, length, front + length], or one row for all.
    """

    def of(table: RelativeBias) -> Array:
      own = table(length, length, dtype)
      if not front:
        return own
      before = table.of_context(front, length, within, dtype)
      own = jnp.broadcast_to(own, (before.shape[0], *own.shape[1:]))
      return jnp.concatenate([before, own], axis=-1)

    return of_each_layer(self, self.layers(), of)

  def layers(self) -> list[DecoderLayer]:
    """The layers, the first one first."""
    return [getattr(self, f"layers_{i}") for i in range(self._num_layers)]

  def start(
    self, encoded: Array, max_len: int, num_decodes: int, fronts: Fronts | None = None
  ) -> tuple[LayerCache, ...]:
    """Empty caches of `max_len` positions that hold the encoder's keys and values."""
    crossed = [
      layer.encoder_decoder_attention.keys_values(encoded) for layer in self.layers()
    ]
    if fronts is None:
      return tuple(LayerCache.empty(*kv, max_len, num_decodes) for kv in crossed)
    return tuple(
      LayerCache.empty(*cross.before(*kv), max_len, num_decodes, own)
      for kv, cross, own in zip(crossed, fronts.cross, fronts.own, strict=True)
    )

  def __call__(
    self,
    x: Array,
    caches: tuple[LayerCache, ...],
    index: Array | None,
    biases: tuple[list[Array], Array],
    dropout: Dropout,
  ) -> tuple[Array, tuple[LayerCache, ...]]:
    """All layers, each with its own self-attention bias, and the final norm."""
    x, updated = dropout(x), []
    self_biases, cross_bias = biases
    for layer, cache, bias in zip(self.layers(), caches, self_biases, strict=True):
      apply = rematerialised(partial(layer, dropout=dropout), self._remat)
      x, cache = apply(x, cache, index, (bias, cross_bias))
      updated.append(cache)
    return dropout(self.decoder_norm(x)), tuple(updated)
