"""A plain decoder-only model of the llama family, which knows nothing of prompts.

  embeddings = model.embed(tokens)                          # [batch, length, d_model]
  hidden     = model.hidden(embeddings, mask, positions)    # [batch, length, d_model]
  logits     = model.logits(hidden)                         # [batch, length, vocab]

  context    = model.prefill(embeddings, mask, positions, visible)
  cache      = model.start_cache((context,), first, rows, max_len)
  logits, cache = model.decode_step(tokens, cache)          # [rows, vocab]

Pre-norm layers of self-attention, whose query heads share keys and values in groups, and a
gated SiLU MLP (Touvron et al. 2023; Ainslie et al. 2023). Positions are rotary, so that
only distances count.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx

from prompt_tuning.models import parameters
from prompt_tuning.models.context import (
  Context,
  DecoderOnlyCache,
  KeysValues,
  attended,
  joined,
)
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.layers import (
  MLP,
  RESIDUAL,
  Dense,
  Embedding,
  RMSNorm,
  fan_in_normal,
  fan_in_truncated,
)
from prompt_tuning.models.llama_config import LlamaConfig
from prompt_tuning.models.masks import mask_bias
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.remat import rematerialised
from prompt_tuning.models.rotary import Rotation
from prompt_tuning.types import Array, FlatParams, Frozen

# What a layer makes of queries [rows, q, num_heads, d_kv] and its own keys and values: the
# attended values, of the shape of the queries, and the keys and values that are kept.
Attend = Callable[[Array, KeysValues], tuple[Array, KeysValues]]


class LlamaAttention(nnx.Module):
  """Projections of grouped-query attention, with rotary positions."""

  def __init__(self, config: LlamaConfig, params: Parameters):
    self._d_kv = config.d_kv
    joined = config.num_heads * config.d_kv
    shared = config.num_kv_heads * config.d_kv

    def projection(name: str, width: int) -> Dense:
      shape = (config.d_model, width)
      return Dense(params.at(name), shape, ("embed", "joined_kv"), fan_in_normal)

    def bias(name: str, width: int) -> Any:
      if not config.attention_bias:
        return None
      return params.at(name)("bias", (width,), ("joined_kv",), nnx.initializers.zeros)

    self.query, self.query_bias = projection("query", joined), bias("query", joined)
    self.key, self.key_bias = projection("key", shared), bias("key", shared)
    self.value, self.value_bias = projection("value", shared), bias("value", shared)
    self.out = Dense(
      params.at("out"), (joined, config.d_model), ("joined_kv", "embed"), fan_in_normal
    )

  def _heads(self, x: Array, bias: Any) -> Array:
    """[rows, length, joined] -> [rows, length, heads, d_kv]."""
    if bias is not None:
      x = x + bias[...].astype(x.dtype)[None, None]
    return x.reshape(*x.shape[:2], -1, self._d_kv)

  def projected(self, x: Array, rotation: Rotation) -> tuple[Array, KeysValues]:
    """Scaled queries [rows, length, num_heads, d_kv], and keys and values."""
    queries = rotation(self._heads(self.query(x), self.query_bias))
    keys = rotation(self._heads(self.key(x), self.key_bias))
    values = self._heads(self.value(x), self.value_bias)
    return queries / math.sqrt(self._d_kv), KeysValues(keys, values)

  def merged(self, heads: Array) -> Array:
    """[rows, length, num_heads, d_kv] -> [rows, length, d_model]."""
    return self.out(heads.reshape(*heads.shape[:2], -1))


class LlamaLayer(nnx.Module):
  """Self-attention and MLP."""

  def __init__(self, config: LlamaConfig, params: Parameters):
    def norm(name: str) -> RMSNorm:
      return RMSNorm(params.at(name), config.d_model, config.norm_epsilon)

    self.pre_self_attention_layer_norm = norm("pre_self_attention_layer_norm")
    self.self_attention = LlamaAttention(config, params.at("self_attention"))
    self.pre_mlp_layer_norm = norm("pre_mlp_layer_norm")
    self.mlp = MLP(config, params.at("mlp"))
    self._constrain = params.constrain

  def __call__(
    self, x: Array, rotation: Rotation, attend: Attend, dropout: Dropout
  ) -> tuple[Array, KeysValues]:
    """[rows, length, d_model] -> the same, and the keys and values that are kept."""
    normed = self.pre_self_attention_layer_norm(x)
    heads, kept = attend(*self.self_attention.projected(normed, rotation))
    x = self._constrain(x + dropout(self.self_attention.merged(heads)), RESIDUAL)
    x = x + dropout(self.mlp(self.pre_mlp_layer_norm(x), dropout))
    return self._constrain(x, RESIDUAL), kept


class LlamaStack(nnx.Module):
  """Layers with a final norm, and logits."""

  def __init__(self, config: LlamaConfig, params: Parameters):
    self._num_layers, self._remat = config.num_layers, config.remat
    for i in range(self._num_layers):
      setattr(self, f"layers_{i}", LlamaLayer(config, params.at(f"layers_{i}")))
    self.decoder_norm = RMSNorm(
      params.at("decoder_norm"), config.d_model, config.norm_epsilon
    )
    if not config.tied_logits:
      shape = (config.d_model, config.vocab_size)
      self.logits_dense = Dense(
        params.at("logits_dense"), shape, ("embed", "vocab"), fan_in_truncated
      )

  def __call__(
    self, x: Array, rotation: Rotation, attends: Sequence[Attend], dropout: Dropout
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    """All layers, each of which attends in its own way, and the final norm."""
    x, kept = dropout(x), []
    for number, attend in enumerate(attends):
      layer = partial(getattr(self, f"layers_{number}"), attend=attend, dropout=dropout)
      x, own = rematerialised(layer, self._remat)(x, rotation)
      kept.append(own)
    return dropout(self.decoder_norm(x)), tuple(kept)


class Llama(nnx.Module):
  """A model whose weights come from a flat mapping of T5X paths.

  Args:
    config: The shape.
    params: {"decoder/layers_0/self_attention/query/kernel": array, ...}; exactly the
      model's names and shapes.

  Raises:
    InputError: A name is missing or unexpected, or a shape differs.
  """

  def __init__(self, config: LlamaConfig, params: FlatParams | Parameters):
    if not isinstance(params, Parameters):
      parameters.check_names(Llama.abstract(config), params)
      params = Parameters.here(parameters.taken_from(params))
    self.config = config
    self._constrain, self._kernel = params.constrain, params.kernel
    self.token_embedder = Embedding(config, params.at("token_embedder"))
    self.decoder = LlamaStack(config, params.at("decoder"))

  @classmethod
  def abstract(cls, config: LlamaConfig, dtype: str = "float32") -> "Llama":
    """The model with shapes in place of arrays; see `T5.abstract`."""
    return cls(config, Parameters.abstract(dtype))

  @classmethod
  def random(cls, config: LlamaConfig, key: Array, kind: Any = Frozen) -> "Llama":
    """A freshly initialized model."""
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

  def hidden(
    self,
    embeddings: Array,
    mask: Array,
    positions: Array,
    contexts: Sequence[Context] = (),
    dropout: Dropout | None = None,
  ) -> Array:
    """Runs the layers.

    Args:
      embeddings: [rows, length, d_model].
      mask: [rows, 1, length, keys] bool, True where a query may see a key; the keys of
        the contexts come first.
      positions: [rows or 1, length] int32.
      contexts: What lies in front, one behind the other; their groups divide rows.
      dropout: None for a deterministic pass.

    Returns:
      [rows, length, d_model], after the final norm.
    """
    return self._whole(embeddings, mask, positions, contexts, dropout or Dropout())[0]

  def prefill(
    self,
    embeddings: Array,
    mask: Array,
    positions: Array,
    visible: Array,
    contexts: Sequence[Context] = (),
    dropout: Dropout | None = None,
  ) -> Context:
    """Keys and values of a part of the sequences, computed in one pass.

    Args:
      embeddings: See `hidden`, as the others.
      mask: See `hidden`.
      positions: See `hidden`.
      visible: [rows, length] bool, what later positions may see of it.
      contexts: See `hidden`.
      dropout: See `hidden`.
    """
    _, layers = self._whole(embeddings, mask, positions, contexts, dropout or Dropout())
    return Context(layers, visible)

  def _whole(
    self,
    embeddings: Array,
    mask: Array,
    positions: Array,
    contexts: Sequence[Context],
    dropout: Dropout,
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    bias = mask_bias(mask, self.dtype)
    whole = all(c.visible.shape[0] in (1, embeddings.shape[0]) for c in contexts)

    def attend(before: Sequence[KeysValues], queries: Array, own: KeysValues) -> Any:
      if not whole:  # rows that share a context ask it together, so that it is not copied
        return attended(queries, [*before, own], bias), own
      keys, values = (self._for_each(x) for x in joined([*before, own]))
      return self._kernel(queries, keys, values, [bias]), own

    attends = [
      partial(attend, [context.layers[i] for context in contexts])
      for i in range(self.config.num_layers)
    ]
    return self.decoder(
      self._constrain(embeddings.astype(self.dtype), RESIDUAL),
      self._rotation(positions),
      attends,
      dropout,
    )

  def _for_each(self, x: Array) -> Array:
    """[rows, k, num_kv_heads, d_kv] -> [rows, k, num_heads, d_kv]."""
    return jnp.repeat(x, self.config.num_heads // self.config.num_kv_heads, axis=2)

  def _rotation(self, positions: Array) -> Rotation:
    return Rotation.at(positions, self.config.d_kv, self.config.rope_base)

  def logits(self, hidden: Array) -> Array:
    """[..., d_model], from `hidden`, -> [..., vocab] float32."""
    if self.config.tied_logits:
      return self.token_embedder.attend(hidden)
    return self.decoder.logits_dense(hidden.astype(jnp.float32))

  def start_cache(
    self, contexts: Sequence[Context], first: Array, rows: int, max_len: int
  ) -> DecoderOnlyCache:
    """See `DecoderOnlyT5.start_cache`."""
    shape = (rows, max_len, self.config.num_kv_heads, self.config.d_kv)
    return DecoderOnlyCache.empty(
      contexts, first, shape, self.config.num_layers, self.dtype
    )

  def decode_step(
    self, tokens: Array, cache: DecoderOnlyCache
  ) -> tuple[Array, DecoderOnlyCache]:
    """See `DecoderOnlyT5.decode_step`."""
    rows, batch = tokens.shape[0], cache.first.shape[0]
    bias = mask_bias(cache.seen()[:, None, None], self.dtype)

    def attend(number: int, queries: Array, own: KeysValues) -> Any:
      before = [context.layers[number] for context in cache.contexts]
      written = cache.decoded[number].written(own, cache.index)
      return attended(queries, [*before, written], bias), written

    attends = [partial(attend, i) for i in range(self.config.num_layers)]
    positions = jnp.repeat(cache.first + cache.index, rows // batch)[:, None]
    x, decoded = self.decoder(
      self.embed(tokens[:, None]), self._rotation(positions), attends, Dropout()
    )
    return self.logits(x)[:, 0], cache.stepped(decoded)
