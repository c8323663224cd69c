"""A plain decoder-only T5: one stack of self-attention, which knows nothing of prompts.

  embeddings = model.embed(tokens)                  # [batch, length, d_model]
  logits     = model.decode(embeddings, mask)       # [batch, length, vocab]

  context    = model.prefill(embeddings, mask, visible)
  cache      = model.start_cache((context,), first, rows, max_len)
  logits, cache = model.decode_step(tokens, cache)  # [rows, vocab]

Layers and numerics are those of the decoder of `T5` without cross-attention.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.models import parameters
from prompt_tuning.models.attention import Attention, RelativeBias
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.context import (
  Context,
  DecoderOnlyCache,
  KeysValues,
  attended,
  for_rows,
)
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.layers import MLP, Dense, Embedding, RMSNorm, fan_in_truncated
from prompt_tuning.models.masks import mask_bias
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.types import Array, FlatParams, Frozen

# What a layer does with its own keys and values before it attends to them.
Keep = Callable[[KeysValues], KeysValues]


class DecoderOnlyLayer(nnx.Module):
  """Self-attention and MLP."""

  def __init__(self, config: T5Config, params: Parameters):
    self.pre_self_attention_layer_norm = RMSNorm(
      params.at("pre_self_attention_layer_norm"), config.d_model
    )
    self.self_attention = Attention(config, params.at("self_attention"))
    self.pre_mlp_layer_norm = RMSNorm(params.at("pre_mlp_layer_norm"), config.d_model)
    self.mlp = MLP(config, params.at("mlp"))
    if config.relative_per_layer:
      self.relpos_bias = RelativeBias(config, params.at("relpos_bias"), False)

  def __call__(
    self, x: Array, before: list[KeysValues], keep: Keep, bias: Array, dropout: Dropout
  ) -> tuple[Array, KeysValues]:
    """[rows, q, d_model] -> the same, and what `keep` made of its keys and values."""
    normed = self.pre_self_attention_layer_norm(x)
    own = keep(KeysValues(*self.self_attention.keys_values(normed)))
    queries = self.self_attention.queries(normed)
    heads = attended(queries, [*before, own], bias, dropout)
    x = x + dropout(self.self_attention.merged(heads))
    return x + dropout(self.mlp(self.pre_mlp_layer_norm(x), dropout)), own


class DecoderOnlyStack(nnx.Module):
  """Token table, layers with a final norm, logits."""

  def __init__(self, config: T5Config, params: Parameters):
    self._num_layers = config.num_decoder_layers
    self.token_embedder = Embedding(config, params.at("token_embedder"))
    if not config.relative_per_layer:
      self.relpos_bias = RelativeBias(config, params.at("relpos_bias"), False)
    for i in range(self._num_layers):
      setattr(self, f"layers_{i}", DecoderOnlyLayer(config, params.at(f"layers_{i}")))
    self.decoder_norm = RMSNorm(params.at("decoder_norm"), config.d_model)
    if not config.tied_logits:
      self.logits_dense = Dense(
        params.at("logits_dense"),
        (config.d_model, config.vocab_size),
        ("embed", "vocab"),
        fan_in_truncated,
      )

  def biases(self, queries: Array, keys: Array, mask: Array, dtype: Any) -> list[Array]:
    """The bias of each layer [rows, num_heads, q, k], positions and mask."""
    masked = mask_bias(mask, dtype)
    if hasattr(self, "relpos_bias"):
      shared = self.relpos_bias.between(queries, keys, dtype) + masked
      return [shared] * self._num_layers
    return [
      layer.relpos_bias.between(queries, keys, dtype) + masked for layer in self._layers()
    ]

  def _layers(self) -> list[DecoderOnlyLayer]:
    return [getattr(self, f"layers_{i}") for i in range(self._num_layers)]

  def __call__(
    self,
    x: Array,
    contexts: Sequence[Context],
    keeps: Sequence[Keep],
    biases: list[Array],
    dropout: Dropout,
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    """All layers and the final norm; what each layer kept comes with it."""
    x, kept = dropout(x), []
    for i, (layer, keep, bias) in enumerate(
      zip(self._layers(), keeps, biases, strict=True)
    ):
      before = [context.layers[i] for context in contexts]
      x, own = layer(x, before, keep, bias, dropout)
      kept.append(own)
    return dropout(self.decoder_norm(x)), tuple(kept)


class DecoderOnlyT5(nnx.Module):
  """A decoder-only model whose weights come from a flat mapping of T5X paths.

  Args:
    config: The shape; `num_encoder_layers` is 0.
    params: {"decoder/layers_0/self_attention/query/kernel": array, ...}; exactly the
      model's names and shapes.

  Raises:
    InputError: The config has an encoder, a name is missing or unexpected, or a shape
      differs.
  """

  def __init__(self, config: T5Config, params: FlatParams | Parameters):
    if config.num_encoder_layers:
      raise checks.InputError(
        f"num_encoder_layers is {config.num_encoder_layers}, expected 0 for a "
        "decoder-only model; set it to 0, or use T5"
      )
    if not isinstance(params, Parameters):
      parameters.check_names(DecoderOnlyT5.abstract(config), params)
      params = Parameters(parameters.taken_from(params))
    self.config = config
    self.decoder = DecoderOnlyStack(config, params.at("decoder"))

  @classmethod
  def abstract(cls, config: T5Config, dtype: str = "float32") -> "DecoderOnlyT5":
    """The model with shapes in place of arrays; see `T5.abstract`."""
    return cls(config, Parameters.abstract(dtype))

  @classmethod
  def random(cls, config: T5Config, key: Array, kind: Any = Frozen) -> "DecoderOnlyT5":
    """A freshly initialized model, each weight drawn as T5 1.1 does."""
    return cls(config, Parameters(parameters.random_from(key), kind))

  @property
  def dtype(self) -> jnp.dtype:
    """The dtype of activations."""
    return jnp.dtype(self.config.dtype)

  def dropout(self, key: Array | None) -> Dropout:
    """Dropout at the configured rate, or none without a key."""
    return Dropout(self.config.dropout_rate, key)

  def embed(self, tokens: Array) -> Array:
    """[batch, length] int32 -> [batch, length, d_model] in the activation dtype."""
    return self.decoder.token_embedder(tokens, self.dtype)

  def decode(self, embeddings: Array, mask: Array, dropout: Dropout | None = None) -> Array:
    """Logits at every position (teacher forcing).

    Args:
      embeddings: [batch, length, d_model].
      mask: [batch, 1, length, length] bool, True where a query may see a key.
      dropout: None for a deterministic pass.

    Returns:
      [batch, length, vocab] float32.
    """
    return self.logits(self.hidden(embeddings, mask, dropout))

  def hidden(self, embeddings: Array, mask: Array, dropout: Dropout | None = None) -> Array:
    """`decode` without the logits: [batch, length, d_model], after the final norm."""
    return self._whole(embeddings, mask, (), dropout or Dropout())[0]

  def logits(self, hidden: Array) -> Array:
    """[..., d_model], from `hidden`, -> [..., vocab] float32."""
    if self.config.tied_logits:
      return self.decoder.token_embedder.attend(hidden) / math.sqrt(self.config.d_model)
    return self.decoder.logits_dense(hidden.astype(jnp.float32))

  def prefill(
    self,
    embeddings: Array,
    mask: Array,
    visible: Array,
    contexts: Sequence[Context] = (),
  ) -> Context:
    """Keys and values of a part of the sequences, computed in one pass.

    Args:
      embeddings: [rows, length, d_model].
      mask: [rows, 1, length, length] bool, who sees whom in this part.
      visible: [rows, length] bool, what later positions may see of it.
      contexts: The parts before it, which it sees; their groups divide rows.
    """
    _, layers = self._whole(embeddings, mask, contexts, Dropout())
    return Context(layers, visible)

  def _whole(
    self, embeddings: Array, mask: Array, contexts: Sequence[Context], dropout: Dropout
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    """Hidden states of a part behind `contexts`, and its keys and values."""
    rows, length, _ = embeddings.shape
    start = sum(context.length for context in contexts)
    keys = jnp.arange(start + length, dtype=jnp.int32)[None]
    seen = [
      jnp.broadcast_to(x[:, None, None], (rows, 1, length, x.shape[-1]))
      for x in (for_rows(context.visible, rows) for context in contexts)
    ]
    mask = jnp.concatenate([*seen, mask], axis=-1)
    biases = self.decoder.biases(keys[:, start:], keys, mask, self.dtype)
    keeps: list[Keep] = [lambda own: own] * len(biases)
    return self.decoder(embeddings.astype(self.dtype), contexts, keeps, biases, dropout)

  def start_cache(
    self, contexts: Sequence[Context], first: Array, rows: int, max_len: int
  ) -> DecoderOnlyCache:
    """A cache for `decode_step` that holds nothing decoded yet.

    Args:
      contexts: The parts before the decoded tokens, one behind the other.
      first: [batch] int32, the position of the first decoded token of each input.
      rows: Rows to decode, a multiple of batch; those of an input are consecutive.
      max_len: Most tokens that will be decoded.
    """
    shape = (rows, max_len, self.config.num_heads, self.config.d_kv)
    return DecoderOnlyCache.empty(
      contexts, first, shape, self.config.num_decoder_layers, self.dtype
    )

  def decode_step(
    self, tokens: Array, cache: DecoderOnlyCache
  ) -> tuple[Array, DecoderOnlyCache]:
    """Logits after one more token.

    Args:
      tokens: [rows] int32, the last token of each row.
      cache: From `start_cache` or the previous step.

    Returns:
      [rows, vocab] float32 and the cache for the next step.
    """

    def writing(layer: KeysValues) -> Keep:
      return lambda own: layer.written(own, cache.index)

    x, decoded = self.decoder(
      self.embed(tokens[:, None]),
      cache.contexts,
      [writing(layer) for layer in cache.decoded],
      self._step_biases(cache),
      Dropout(),
    )
    return self.logits(x)[:, 0], cache.stepped(decoded)

  def _step_biases(self, cache: DecoderOnlyCache) -> list[Array]:
    """The bias of each layer [batch, num_heads, 1, keys] for the token at `index`."""
    batch, first = cache.first.shape[0], cache.first[:, None]
    slots = jnp.arange(cache.decoded[0].keys.shape[1], dtype=jnp.int32)[None]
    start = sum(context.length for context in cache.contexts)
    before = jnp.arange(start, dtype=jnp.int32)[None]
    keys = jnp.concatenate([jnp.broadcast_to(before, (batch, start)), first + slots], 1)
    mask = cache.seen()[:, None, None]
    return self.decoder.biases(first + cache.index, keys, mask, self.dtype)
