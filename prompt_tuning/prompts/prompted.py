"""A plain T5 with a prompt between embedding and encoder, by composition."""

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.step import Algorithm
from prompt_tuning.models.layers import Dropout
from prompt_tuning.models.masks import decoder_mask, outer_mask, same_segment
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import combine as combining
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.masks import encoder_mask, with_prompt
from prompt_tuning.types import Array

_GREEDY = Greedy()


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
      bank.check_width(model.config.d_model)
      if bank.lengths is not None and combine is not combining.prefix:
        raise checks.InputError(
          "the bank holds prompts of different lengths, expected combine=prefix: unused "
          "slots are hidden in front; give each length a bank of its own"
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
    mask, real = encoder_mask(valid, prompt_len), with_prompt(valid, prompt_len)
    if segment_ids is not None:
      mask = mask & same_segment(segment_ids, segment_ids)
    if self.bank is not None and self.bank.lengths is not None:
      used = self.bank.used(prompt_ids, valid.shape[0])
      real = jnp.concatenate([used, valid], axis=1)
      mask = mask & real[:, None, None, :]
    encoded = self.model.encode(embeddings, mask, dropout)
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
    return self.score_candidates(
      encoder_input_tokens, decoder_target_tokens[:, None], prompt_ids
    )[:, 0]

  def score_candidates(
    self,
    encoder_input_tokens: Array,
    candidates: Array,
    prompt_ids: Array | None = None,
  ) -> Array:
    """Log-likelihoods of several targets of each input, which is encoded once.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      candidates: [batch, num_candidates, target_len] int32, 0 pads; all go through the
        decoder in one pass and share the keys and values of their input.
      prompt_ids: [batch] int32 or None.

    Returns:
      [batch, num_candidates] float32; 0 for an empty candidate.
    """
    encoded, real = self.encode(encoder_input_tokens, prompt_ids)
    targets = candidates.reshape(-1, candidates.shape[-1])
    logits = self.model.decode(
      shift_right(targets), encoded, decoder_mask(targets > 0), real[:, None, None, :]
    )
    return sequence_scores(logits, targets).reshape(candidates.shape[:-1])

  def generate(
    self,
    encoder_input_tokens: Array,
    max_len: int,
    prompt_ids: Array | None = None,
    decoding: Algorithm = _GREEDY,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """The best answer to each input.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      max_len: Most tokens of an answer, EOS included.
      prompt_ids: [batch] int32 or None.
      decoding: `Greedy()`, `Sampling(...)` or `Beam(...)`.
      key: PRNG key for sampling.

    Returns:
      Tokens [batch, max_len] int32, 0 after EOS, and their scores [batch] float32.
    """
    tokens, scores = self.generate_all(
      encoder_input_tokens, max_len, prompt_ids, decoding, key
    )
    return tokens[:, -1], scores[:, -1]

  def generate_all(
    self,
    encoder_input_tokens: Array,
    max_len: int,
    prompt_ids: Array | None = None,
    decoding: Algorithm = _GREEDY,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """All answers: [batch, num_decodes, max_len] and [batch, num_decodes], best last."""
    batch = encoder_input_tokens.shape[0]
    encoded, real = self.encode(encoder_input_tokens, prompt_ids)
    cache = self.model.start_cache(encoded, real, max_len, decoding.num_decodes)
    return decoding(self.model.decode_step, cache, batch, max_len, key=key)


def t5x_path(path: str) -> str:
  """The T5X name of a variable of a `PromptedT5`: "bank/prompts" is the prompt's."""
  return PATH if path == "bank/prompts" else path.removeprefix("model/")


def shift_right(targets: Array) -> Array:
  """Decoder inputs: targets shifted by one, beginning with 0 (T5's BOS)."""
  return jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]


def sequence_scores(logits: Array, targets: Array) -> Array:
  """Sum of log p(target) over real targets: [batch] float32."""
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  taken = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  return jnp.sum(jnp.where(targets > 0, taken, 0.0), axis=-1)
