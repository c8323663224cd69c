"""Plain T5: it embeds, encodes and decodes, and knows nothing of prompts.

  embeddings = model.embed(inputs)                  # [batch, input_len, d_model]
  encoded    = model.encode(embeddings, mask)       # [batch, input_len, d_model]
  logits     = model.decode(decoder_inputs, encoded, self_mask, cross_mask)

Numerics are T5X's (Raffel et al. 2020, and the 1.1 variant of Shazeer 2020): pre-norm
residual layers, no biases, one relative position table per tower, float32 logits.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning.models import parameters
from prompt_tuning.models.attention import Attention, RelativeBias
from prompt_tuning.models.cache import Cache, LayerCache
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.context import Context, EncodedContext, KeysValues
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.layers import (
  MLP,
  RESIDUAL,
  Dense,
  Embedding,
  RMSNorm,
  fan_in_truncated,
)
from prompt_tuning.models.masks import mask_bias
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.remat import rematerialised
from prompt_tuning.types import Array, FlatParams, Frozen


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
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    """[batch, length, d_model] -> the same, after the final norm, and keys and values."""
    x, kept = dropout(x), []
    for layer, front, bias in zip(self._layers(), before, biases, strict=True):
      apply = rematerialised(partial(layer, dropout=dropout), self._remat)
      x, own = apply(x, front, bias)
      kept.append(own)
    return dropout(self.encoder_norm(x)), tuple(kept)

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

    return [(bias, masked) for bias in _of_each_layer(self, self._layers(), of)]

  def _layers(self) -> list[EncoderLayer]:
    return [getattr(self, f"layers_{i}") for i in range(self._num_layers)]


def _of_each_layer(
  tower: Any, layers: Sequence[Any], bias: Callable[[RelativeBias], Array]
) -> list[Array]:
  """What `bias` makes of the table of each layer, once where they have one together."""
  if hasattr(tower, "relpos_bias"):
    return [bias(tower.relpos_bias)] * len(layers)
  return [bias(layer.relpos_bias) for layer in layers]


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
    x = x + dropout(
      self.self_attention(normed, cache.keys, cache.values, [self_bias], dropout)
    )
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

  def positions(self, length: int, dtype: jnp.dtype) -> list[Array]:
    """The position bias of each layer, [1, num_heads, length, length]."""
    layers = self._layers()
    return _of_each_layer(self, layers, lambda table: table(length, length, dtype))

  def _layers(self) -> list[DecoderLayer]:
    return [getattr(self, f"layers_{i}") for i in range(self._num_layers)]

  def start(self, encoded: Array, max_len: int, num_decodes: int) -> tuple[LayerCache, ...]:
    """Empty caches of `max_len` positions that hold the encoder's keys and values."""
    crossed = [
      layer.encoder_decoder_attention.keys_values(encoded) for layer in self._layers()
    ]
    return tuple(LayerCache.empty(*kv, max_len, num_decodes) for kv in crossed)

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
    for layer, cache, bias in zip(self._layers(), caches, self_biases, strict=True):
      apply = rematerialised(partial(layer, dropout=dropout), self._remat)
      x, cache = apply(x, cache, index, (bias, cross_bias))
      updated.append(cache)
    return dropout(self.decoder_norm(x)), tuple(updated)


class T5(nnx.Module):
  """An encoder-decoder whose weights come from a flat mapping of T5X paths.

  Args:
    config: The shape.
    params: {"encoder/layers_0/attention/query/kernel": array, ...}; exactly the
      model's names and shapes.

  Raises:
    InputError: A name is missing or unexpected, or a shape differs.
  """

  def __init__(self, config: T5Config, params: FlatParams | Parameters):
    if not isinstance(params, Parameters):
      parameters.check_names(T5.abstract(config), params)
      params = Parameters.here(parameters.taken_from(params))
    self.config = config
    self._constrain = params.constrain
    self.token_embedder = Embedding(config, params.at("token_embedder"))
    self.encoder = Encoder(config, params.at("encoder"))
    self.decoder = Decoder(config, params.at("decoder"))

  @classmethod
  def abstract(cls, config: T5Config, dtype: str = "float32") -> "T5":
    """The model with shapes in place of arrays; allocates nothing.

    Args:
      config: The shape.
      dtype: How weights are held, "int8" included; see `RestoreCheckpointConfig`.
    """
    return cls(config, Parameters.abstract(dtype))

  @classmethod
  def random(cls, config: T5Config, key: Array, kind: Any = Frozen) -> "T5":
    """A freshly initialized model, each weight drawn as T5 1.1 does."""
    return cls(config, Parameters.here(parameters.random_from(key), kind))

  @property
  def dtype(self) -> jnp.dtype:
    """The dtype of activations."""
    return jnp.dtype(self.config.dtype)

  def dropout(self, key: Array | None) -> Dropout:
    """Dropout at the configured rate, or none without a key."""
    return Dropout(self.config.dropout_rate, key)

  def embed(self, tokens: Array) -> Array:
    """[batch, length] int32 -> [batch, length, d_model] in the activation dtype."""
    return self.token_embedder(tokens, self.dtype)

  def encode(
    self,
    embeddings: Array,
    mask: Array,
    dropout: Dropout | None = None,
    context: Context | None = None,
    positions: Array | None = None,
  ) -> Array:
    """Runs the encoder.

    Args:
      embeddings: [batch, length, d_model].
      mask: [batch, 1, length, context_len + length] bool, True where a query may see a
        key; the context's keys come first.
      dropout: None for a deterministic pass.
      context: What lies in front of the embeddings, from `prefill`; a group for each row.
      positions: [batch, length] int32, how far behind the context each position is, where
        rows hold several segments; None counts from 0.

    Returns:
      [batch, length, d_model]; positions that are padding hold no meaning.
    """
    return self._encoded(embeddings, mask, dropout, context, positions)[0]

  def prefill(
    self,
    embeddings: Array,
    mask: Array,
    visible: Array,
    dropout: Dropout | None = None,
  ) -> EncodedContext:
    """Encodes what does not see what comes behind it, once for all that see it.

    Args:
      embeddings: [groups, length, d_model].
      mask: [groups, 1, length, length] bool, who sees whom in it.
      visible: [groups, length] bool, what may be seen of it.
      dropout: None for a deterministic pass.
    """
    encoded, layers = self._encoded(embeddings, mask, dropout, None, None)
    return EncodedContext(Context(layers, visible), encoded)

  def _encoded(
    self,
    embeddings: Array,
    mask: Array,
    dropout: Dropout | None,
    context: Context | None,
    positions: Array | None,
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    x = self._constrain(embeddings.astype(self.dtype), RESIDUAL)
    biases = self.encoder.biases(mask, positions, self.dtype)
    before = (None,) * len(biases) if context is None else context.layers
    return self.encoder(x, before, biases, dropout or Dropout())

  def decode(
    self,
    decoder_input_tokens: Array,
    encoded: Array,
    self_mask: Array,
    cross_mask: Array,
    dropout: Dropout | None = None,
  ) -> Array:
    """Logits at every target position (teacher forcing).

    Args:
      decoder_input_tokens: See `hidden`, as the others.
      encoded: See `hidden`.
      self_mask: See `hidden`.
      cross_mask: See `hidden`.
      dropout: See `hidden`.

    Returns:
      [rows, target_len, vocab] float32.
    """
    return self.logits(
      self.hidden(decoder_input_tokens, encoded, self_mask, cross_mask, dropout)
    )

  def hidden(
    self,
    decoder_input_tokens: Array,
    encoded: Array,
    self_mask: Array,
    cross_mask: Array,
    dropout: Dropout | None = None,
  ) -> Array:
    """`decode` without the logits.

    Several targets of one input may be rows side by side: rows = batch * n.

    Args:
      decoder_input_tokens: [rows, target_len] int32, targets shifted right.
      encoded: [batch, input_len, d_model], from `encode`.
      self_mask: [rows, 1, target_len, target_len] bool.
      cross_mask: [batch, 1, n * target_len, input_len] bool, or 1 for all queries alike.
      dropout: None for a deterministic pass.

    Returns:
      [rows, target_len, d_model], after the final norm.
    """
    length = decoder_input_tokens.shape[1]
    masked = mask_bias(self_mask, self.dtype)
    self_biases = [x + masked for x in self.decoder.positions(length, self.dtype)]
    biases = (self_biases, mask_bias(cross_mask, self.dtype))
    caches = self.decoder.start(encoded, 0, 1)
    x = self.embed(decoder_input_tokens)
    return self.decoder(x, caches, None, biases, dropout or Dropout())[0]

  def start_cache(
    self, encoded: Array, encoder_valid: Array, max_len: int, num_decodes: int = 1
  ) -> Cache:
    """A cache for `decode_step`, with the encoder's keys and values computed once.

    Args:
      encoded: [batch, input_len, d_model].
      encoder_valid: [batch, input_len] bool, False at padding.
      max_len: Most tokens that will be decoded.
      num_decodes: Answers per input, each a row of the cache.
    """
    return Cache(
      layers=self.decoder.start(encoded, max_len, num_decodes),
      cross_bias=mask_bias(encoder_valid[:, None, None, :], self.dtype),
      index=jnp.zeros((), jnp.int32),
    )

  def decode_step(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
    """Logits after one more token.

    Args:
      tokens: [batch * num_decodes] int32, the last token of each row (0 to begin).
      cache: From `start_cache` or the previous step.

    Returns:
      [batch * num_decodes, vocab] float32 and the cache for the next step.
    """
    max_len = cache.layers[0].keys.shape[1]
    seen = jnp.arange(max_len) <= cache.index
    masked = mask_bias(seen[None, None, None], self.dtype)
    rows = [
      jax.lax.dynamic_slice_in_dim(positions, cache.index, 1, axis=2) + masked
      for positions in self.decoder.positions(max_len, self.dtype)
    ]
    biases = (rows, cache.cross_bias)
    x, layers = self.decoder(
      self.embed(tokens[:, None]), cache.layers, cache.index, biases, Dropout()
    )
    return self.logits(x)[:, 0], cache.stepped(layers)

  def logits(self, hidden: Array) -> Array:
    """[rows, length, d_model], from `hidden`, -> [rows, length, vocab] float32."""
    if self.config.tied_logits:
      logits = self.token_embedder.attend(hidden)
    else:
      logits = self.decoder.logits_dense(hidden.astype(jnp.float32))
    return self._constrain(logits, ("batch", "length", "vocab"))
