"""Plain T5: it embeds, encodes and decodes, and knows nothing of prompts.

  embeddings = model.embed(inputs)                  # [batch, input_len, d_model]
  encoded    = model.encode(embeddings, mask)       # [batch, input_len, d_model]
  logits     = model.decode(decoder_inputs, encoded, self_mask, cross_mask)

Numerics are T5X's (Raffel et al. 2020, and the 1.1 variant of Shazeer 2020): pre-norm
residual layers, no biases, one relative position table per tower, float32 logits.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning.models import parameters
from prompt_tuning.models.cache import Cache
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.context import Context, EncodedContext, Fronts, KeysValues
from prompt_tuning.models.decoder import Decoder
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.encoder import Encoder, Entering
from prompt_tuning.models.layers import RESIDUAL, Embedding
from prompt_tuning.models.masks import mask_bias, visible_front
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.types import Array, FlatParams, Frozen


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
    layers: range | None = None,
    entering: Entering | None = None,
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
      layers: Which ones, one after the other, given what the one before made; None is
        all of them.
      entering: What is done to the input of each layer.

    Returns:
      [batch, length, d_model]; positions that are padding hold no meaning.
    """
    return self._encoded(embeddings, mask, dropout, context, positions, layers, entering)[0]

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
    layers: range | None = None,
    entering: Entering | None = None,
  ) -> tuple[Array, tuple[KeysValues, ...]]:
    every = range(self.config.num_encoder_layers)
    x = self._constrain(embeddings.astype(self.dtype), RESIDUAL)
    biases = self.encoder.biases(mask, positions, self.dtype)
    before = (None,) * len(biases) if context is None else context.layers
    return self.encoder(
      x, before, biases, dropout or Dropout(), every if layers is None else layers, entering
    )

  def decode(
    self,
    decoder_input_tokens: Array,
    encoded: Array,
    self_mask: Array,
    cross_mask: Array,
    dropout: Dropout | None = None,
    fronts: Fronts | None = None,
  ) -> Array:
    """Logits at every target position (teacher forcing).

    Args:
      decoder_input_tokens: See `hidden`, as the others.
      encoded: See `hidden`.
      self_mask: See `hidden`.
      cross_mask: See `hidden`.
      dropout: See `hidden`.
      fronts: See `hidden`.

    Returns:
      [rows, target_len, vocab] float32.
    """
    return self.logits(
      self.hidden(decoder_input_tokens, encoded, self_mask, cross_mask, dropout, fronts)
    )

  def hidden(
    self,
    decoder_input_tokens: Array,
    encoded: Array,
    self_mask: Array,
    cross_mask: Array,
    dropout: Dropout | None = None,
    fronts: Fronts | None = None,
    positions: Array | None = None,
  ) -> Array:
    """`decode` without the logits.

    Several targets of one input may be rows side by side: rows = batch * n.

    Args:
      decoder_input_tokens: [rows, target_len] int32, targets shifted right.
      encoded: [batch, input_len, d_model], from `encode`.
      self_mask: [rows, 1, target_len, target_len] bool.
      cross_mask: [batch, 1, n * target_len, input_len] bool, or 1 for all queries alike.
      dropout: None for a deterministic pass.
      fronts: Keys and values that everybody sees in front of the others.
      positions: [rows, target_len] int32, how far behind the fronts each target is, where
        rows hold several segments; None counts from 0.

    Returns:
      [rows, target_len, d_model], after the final norm.
    """
    length, front = decoder_input_tokens.shape[1], 0 if fronts is None else fronts.length
    masked = mask_bias(visible_front(self_mask, front), self.dtype)
    of_positions = self.decoder.positions(length, front, self.dtype, positions)
    self_biases = [x + masked for x in of_positions]
    biases = (self_biases, mask_bias(visible_front(cross_mask, front), self.dtype))
    caches = self.decoder.start(encoded, 0, 1, fronts)
    x = self.embed(decoder_input_tokens)
    return self.decoder(x, caches, None, biases, dropout or Dropout())[0]

  def start_cache(
    self,
    encoded: Array,
    encoder_valid: Array,
    max_len: int,
    num_decodes: int = 1,
    fronts: Fronts | None = None,
  ) -> Cache:
    """A cache for `decode_step`, with the encoder's keys and values computed once.

    Args:
      encoded: [batch, input_len, d_model].
      encoder_valid: [batch, input_len] bool, False at padding.
      max_len: Most tokens that will be decoded.
      num_decodes: Answers per input, each a row of the cache.
      fronts: See `hidden`.
    """
    seen = visible_front(
      encoder_valid[:, None, None, :], 0 if fronts is None else fronts.length
    )
    return Cache(
      layers=self.decoder.start(encoded, max_len, num_decodes, fronts),
      cross_bias=mask_bias(seen, self.dtype),
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
    max_len, front = cache.layers[0].keys.shape[1], cache.layers[0].front_len
    seen = jnp.arange(max_len) <= cache.index
    masked = mask_bias(visible_front(seen[None, None, None], front), self.dtype)
    rows = [
      jax.lax.dynamic_slice_in_dim(positions, cache.index, 1, axis=2) + masked
      for positions in self.decoder.positions(max_len, front, self.dtype)
    ]
    biases = (rows, cache.cross_bias)
    x, layers = self.decoder(
      self.embed(tokens[:, None]), cache.layers, cache.index, biases, Dropout()
    )
    return self.logits(x)[:, 0], cache.stepped(layers)

  def logits(self, hidden: Array) -> Array:
    """[rows, length, d_model], from `hidden`, -> [rows, length, vocab] float32."""
    if self.config.tied_logits:
      logits = self.token_embedder.attend(hidden) / math.sqrt(self.config.d_model)
    else:
      logits = self.decoder.logits_dense(hidden.astype(jnp.float32))
    return self._constrain(logits, ("batch", "length", "vocab"))
