"""A plain T5 with a prompt between embedding and encoder, by composition."""

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.decoding.greedy import greedy
from prompt_tuning.models.cache import Cache
from prompt_tuning.models.layers import Dropout
from prompt_tuning.models.masks import decoder_mask, outer_mask, same_segment
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import combine as combining
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.masks import encoder_mask, with_prompt
from prompt_tuning.types import Array


class PromptedT5(nnx.Module):
  """A frozen T5 and the bank of prompts that steers it.

  Args:
    model: The plain model, left as it is.
    bank: The prompts; None is the untuned model.
    combine: Where the prompt goes.

  Raises:
    InputError: The prompts are not as wide as the model.
  """

  def __init__(
    self,
    model: T5,
    bank: PromptBank | None = None,
    combine: combining.Combine = combining.prefix,
  ):
    if bank is not None:
      shape = bank.prompts.get_value().shape
      checks.shape(
        "the bank of prompts",
        shape,
        (*shape[:2], model.config.d_model),
        "choose the model size that the prompts were trained for",
      )
    self.model = model
    self.bank = bank
    self._combine = combine

  def embed(self, encoder_input_tokens: Array, prompt_ids: Array | None = None) -> Array:
    """What the encoder reads: prompt and embedded tokens, as servers take them too.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.

    Returns:
      [batch, prompt_len + input_len, d_model] in the activation dtype.
    """
    embeddings = self.model.embed(encoder_input_tokens)
    if self.bank is None:
      return embeddings
    prompt = self.bank.rows(prompt_ids, embeddings.shape[0])
    return self._combine(prompt, embeddings, encoder_input_tokens)

  def encode(
    self,
    encoder_input_tokens: Array,
    prompt_ids: Array | None = None,
    dropout: Dropout | None = None,
    segment_ids: Array | None = None,
  ) -> tuple[Array, Array]:
    """Embeds, adds the prompt, encodes.

    Args:
      encoder_input_tokens: [batch, input_len] int32, 0 pads.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.
      dropout: None for a deterministic pass.
      segment_ids: [batch, input_len] int32 where rows are packed; without a bank only.

    Returns:
      Encoder output [batch, prompt_len + input_len, d_model], zero at padding, and
      which of its positions are real, [batch, prompt_len + input_len] bool.
    """
    if self.bank is not None and segment_ids is not None:
      raise checks.InputError(
        "the rows are packed, expected one example per row in front of which the prompt "
        "can go; set pack=False"
      )
    embeddings = self.embed(encoder_input_tokens, prompt_ids)
    valid = encoder_input_tokens > 0
    prompt_len = 0 if self.bank is None else self.bank.prompt_len
    mask = encoder_mask(valid, prompt_len)
    if segment_ids is not None:
      mask = mask & same_segment(segment_ids, segment_ids)
    encoded = self.model.encode(embeddings, mask, dropout)
    real = with_prompt(valid, prompt_len)
    return jnp.where(real[..., None], encoded, jnp.zeros((), encoded.dtype)), real

  def logits(
    self,
    encoder_input_tokens: Array,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    prompt_ids: Array | None = None,
    dropout_key: Array | None = None,
    encoder_segment_ids: Array | None = None,
    decoder_segment_ids: Array | None = None,
  ) -> Array:
    """Logits of every target position under teacher forcing.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      decoder_input_tokens: [batch, target_len] int32, targets shifted right.
      decoder_target_tokens: [batch, target_len] int32; 0 masks a position.
      prompt_ids: [batch] int32 or None.
      dropout_key: A PRNG key, or None for a deterministic pass.
      encoder_segment_ids: [batch, input_len] int32 where rows are packed.
      decoder_segment_ids: [batch, target_len] int32, with the former or not at all.

    Returns:
      [batch, target_len, vocab] float32; meaningless where the target is 0.
    """
    dropout = self.model.dropout(dropout_key)
    encoded, real = self.encode(
      encoder_input_tokens, prompt_ids, dropout, encoder_segment_ids
    )
    segments = None
    if encoder_segment_ids is not None and decoder_segment_ids is not None:
      segments = (decoder_segment_ids, encoder_segment_ids)
    targets = decoder_target_tokens
    return self.decode(encoded, real, decoder_input_tokens, targets, dropout, segments)

  def decode(
    self,
    encoded: Array,
    real: Array,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    dropout: Dropout | None = None,
    segment_ids: tuple[Array, Array] | None = None,
  ) -> Array:
    """Logits [batch, target_len, vocab] from what `encode` returned.

    Where rows are packed, `segment_ids` are those of the decoder and of the encoder.
    """
    targets = decoder_target_tokens > 0
    self_mask, cross_mask = decoder_mask(targets), outer_mask(targets, real)
    if segment_ids is not None:
      queries, keys = segment_ids
      self_mask = self_mask & same_segment(queries, queries)
      cross_mask = cross_mask & same_segment(queries, keys)
    return self.model.decode(decoder_input_tokens, encoded, self_mask, cross_mask, dropout)

  def score(
    self,
    encoder_input_tokens: Array,
    decoder_target_tokens: Array,
    prompt_ids: Array | None = None,
  ) -> Array:
    """Log-likelihood of each target sequence: [batch] float32, natural logarithm."""
    encoded, real = self.encode(encoder_input_tokens, prompt_ids)
    return self.score_encoded(encoded, real, decoder_target_tokens)

  def score_encoded(
    self, encoded: Array, real: Array, decoder_target_tokens: Array
  ) -> Array:
    """`score` from what `encode` returned, for several targets of one input."""
    inputs = shift_right(decoder_target_tokens)
    logits = self.decode(encoded, real, inputs, decoder_target_tokens)
    return sequence_scores(logits, decoder_target_tokens)

  def generate(
    self,
    encoder_input_tokens: Array,
    max_len: int,
    prompt_ids: Array | None = None,
  ) -> tuple[Array, Array]:
    """Greedy decoding.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      max_len: Most tokens of an answer, EOS included.
      prompt_ids: [batch] int32 or None.

    Returns:
      Tokens [batch, max_len] int32, 0 after EOS, and their log-likelihoods [batch].
    """
    batch = encoder_input_tokens.shape[0]
    cache = self.start(encoder_input_tokens, max_len, prompt_ids)
    return greedy(self.step, cache, batch, max_len)

  def start(
    self,
    encoder_input_tokens: Array,
    max_len: int,
    prompt_ids: Array | None = None,
  ) -> Cache:
    """Encodes once and returns the cache that `step` continues from."""
    encoded, real = self.encode(encoder_input_tokens, prompt_ids)
    return self.model.start_cache(encoded, real, max_len)

  def step(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
    """Logits [batch, vocab] after one more token [batch], and the next cache."""
    return self.model.decode_step(tokens, cache)


def t5x_path(path: str) -> str:
  """The T5X name of a variable of a `PromptedT5`: "bank/prompts" is the prompt's."""
  return PATH if path.startswith("bank/") else path.removeprefix("model/")


def shift_right(targets: Array) -> Array:
  """Decoder inputs: targets shifted by one, beginning with 0 (T5's BOS)."""
  return jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]


def sequence_scores(logits: Array, targets: Array) -> Array:
  """Sum of log p(target) over real targets: [batch] float32."""
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  taken = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  return jnp.sum(jnp.where(targets > 0, taken, 0.0), axis=-1)
