"""A plain decoder-only T5 with a prompt in front of inputs and targets, by composition.

Rows are T5X's: inputs and targets in one sequence, shifted right behind BOS, id 0.

  decoder_target_tokens      a b c X Y 1 _ _       a b c are the inputs
  decoder_input_tokens       0 a b c X Y 1 _
  decoder_causal_attention   1 1 1 1 . . . .       BOS and inputs

Given `decoder_causal_attention`, prompt and inputs see each other both ways (prefix-LM);
without it everything is causal. Decoding goes on behind the last input token.
"""

import jax.numpy as jnp
from flax import nnx

from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.step import Algorithm
from prompt_tuning.models.context import Context, DecoderOnlyCache
from prompt_tuning.models.decoder_only import DecoderOnlyT5
from prompt_tuning.models.masks import decoder_mask
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.combine import prefix
from prompt_tuning.prompts.masks import decoder_only_mask
from prompt_tuning.prompts.sequences import sequence_scores
from prompt_tuning.types import Array

_GREEDY = Greedy()


class PromptedDecoder(nnx.Module):
  """A frozen decoder-only T5 and the bank of prompts that steers it.

  Args:
    model: The plain model, left as it is.
    bank: The prompts; None is the untuned model.

  Raises:
    InputError: The prompts are not as wide as the model.
  """

  def __init__(self, model: DecoderOnlyT5, bank: PromptBank | None = None):
    if bank is not None:
      bank.check_width(model.config.d_model)
    self.model = model
    self.bank = bank

  def logits(
    self,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    decoder_causal_attention: Array | None = None,
    prompt_ids: Array | None = None,
    dropout_key: Array | None = None,
  ) -> Array:
    """Logits of every token under teacher forcing.

    Args:
      decoder_input_tokens: [batch, length] int32, targets shifted right.
      decoder_target_tokens: [batch, length] int32, inputs and targets; 0 masks a position.
      decoder_causal_attention: [batch, length] int32, 1 at BOS and inputs, which see each
        other and the prompt both ways; None where everything is causal.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.
      dropout_key: A PRNG key, or None for a deterministic pass.

    Returns:
      [batch, length, vocab] float32; meaningless where the target is 0.
    """
    inputs = None if decoder_causal_attention is None else decoder_causal_attention > 0
    embeddings = self._embed(decoder_input_tokens, prompt_ids)
    mask = self._mask(decoder_target_tokens > 0, inputs, prompt_ids)
    hidden = self.model.hidden(embeddings, mask, self.model.dropout(dropout_key))
    return self.model.logits(hidden[:, self._prompt_len :])

  def score(
    self,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    decoder_loss_weights: Array,
    decoder_causal_attention: Array | None = None,
    prompt_ids: Array | None = None,
  ) -> Array:
    """Log-likelihood of the targets of each row: [batch] float32, natural logarithm.

    Args:
      decoder_input_tokens: See `logits`.
      decoder_target_tokens: See `logits`.
      decoder_loss_weights: [batch, length] int32, 0 at inputs and padding.
      decoder_causal_attention: See `logits`.
      prompt_ids: See `logits`.
    """
    logits = self.logits(
      decoder_input_tokens, decoder_target_tokens, decoder_causal_attention, prompt_ids
    )
    counted = jnp.where(decoder_loss_weights > 0, decoder_target_tokens, 0)
    return sequence_scores(logits, counted)

  def generate(
    self,
    decoder_input_tokens: Array,
    max_len: int,
    decoder_causal_attention: Array | None = None,
    prompt_ids: Array | None = None,
    decoding: Algorithm = _GREEDY,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """The best continuation of each row.

    Args:
      decoder_input_tokens: [batch, length] int32, BOS and inputs, 0 pads.
      max_len: Most tokens of a continuation, EOS included.
      decoder_causal_attention: [batch, length] int32, 1 at BOS and inputs, which see each
        other both ways; tokens behind them are ignored. None continues the whole row,
        and everything is causal.
      prompt_ids: [batch] int32 or None.
      decoding: `Greedy()`, `Sampling(...)` or `Beam(...)`.
      key: PRNG key for sampling.

    Returns:
      Tokens [batch, max_len] int32, 0 after EOS, and their scores [batch] float32.
    """
    tokens, scores = self.generate_all(
      decoder_input_tokens, max_len, decoder_causal_attention, prompt_ids, decoding, key
    )
    return tokens[:, -1], scores[:, -1]

  def generate_all(
    self,
    decoder_input_tokens: Array,
    max_len: int,
    decoder_causal_attention: Array | None = None,
    prompt_ids: Array | None = None,
    decoding: Algorithm = _GREEDY,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """All of them: [batch, num_decodes, max_len] and [batch, num_decodes], best last."""
    last, cache = self.start(
      decoder_input_tokens,
      max_len,
      decoder_causal_attention,
      prompt_ids,
      decoding.num_decodes,
    )

    def step(tokens: Array, cache: DecoderOnlyCache) -> tuple[Array, DecoderOnlyCache]:
      tokens = jnp.where(cache.index == 0, last, tokens)
      return self.model.decode_step(tokens, cache)

    return decoding(step, cache, decoder_input_tokens.shape[0], max_len, key=key)

  def start(
    self,
    decoder_input_tokens: Array,
    max_len: int,
    decoder_causal_attention: Array | None = None,
    prompt_ids: Array | None = None,
    num_decodes: int = 1,
  ) -> tuple[Array, DecoderOnlyCache]:
    """What decoding continues from: prompt and inputs are computed here, once.

    Returns:
      The last token of each row's input [batch * num_decodes] int32, which the first
      step is given, and the cache for it.
    """
    tokens, causal = decoder_input_tokens, decoder_causal_attention is None
    inputs = _inputs(tokens, decoder_causal_attention)
    end = jnp.maximum(jnp.sum(inputs.astype(jnp.int32), axis=1) - 1, 0)
    # The first step computes the last token, so that later ones see it there.
    before = jnp.arange(tokens.shape[1])[None] < end[:, None]
    if causal:
      contexts = self._causal_contexts(tokens, before, prompt_ids)
    else:
      contexts = self._mutual_context(tokens, inputs, before, prompt_ids)
    cache = self.model.start_cache(
      contexts, self._prompt_len + end, tokens.shape[0] * num_decodes, max_len
    )
    last = jnp.take_along_axis(tokens, end[:, None], axis=1)[:, 0]
    return jnp.repeat(last, num_decodes), cache

  def _mutual_context(
    self, tokens: Array, inputs: Array, before: Array, prompt_ids: Array | None
  ) -> tuple[Context, ...]:
    """Prompt and inputs that see each other, [batch, prompt_len + length, ...]."""
    embeddings = self._embed(tokens, prompt_ids)
    mask = self._mask(inputs, inputs, prompt_ids)
    visible = self._behind_prompt(before, prompt_ids)
    return (self.model.prefill(embeddings, mask, visible),)

  def _causal_contexts(
    self, tokens: Array, before: Array, prompt_ids: Array | None
  ) -> tuple[Context, ...]:
    """The prompt, [1, prompt_len, ...] if rows have it in common, and the inputs."""
    prompts = self._prompt_contexts(tokens.shape[0], prompt_ids)
    embeddings = self.model.embed(tokens)
    return *prompts, self.model.prefill(embeddings, decoder_mask(before), before, prompts)

  def _prompt_contexts(self, batch: int, prompt_ids: Array | None) -> tuple[Context, ...]:
    """The prompt alone, which what follows does not change: one context, or none."""
    if self.bank is None:
      return ()
    if self.bank.num_prompts == 1:
      return (self._prompt_context(self.bank, None, 1),)
    if prompt_ids is None or self.bank.num_prompts > batch:
      return (self._prompt_context(self.bank, prompt_ids, batch),)
    every = jnp.arange(self.bank.num_prompts, dtype=jnp.int32)
    context = self._prompt_context(self.bank, every, self.bank.num_prompts)
    return (context.picked(prompt_ids),)

  def _prompt_context(
    self, bank: PromptBank, prompt_ids: Array | None, rows: int
  ) -> Context:
    used = bank.used(prompt_ids, rows)
    return self.model.prefill(bank.rows(prompt_ids, rows), decoder_mask(used), used)

  @property
  def _prompt_len(self) -> int:
    return 0 if self.bank is None else self.bank.prompt_len

  def _embed(self, tokens: Array, prompt_ids: Array | None) -> Array:
    """[batch, prompt_len + length, d_model] in the activation dtype."""
    embeddings = self.model.embed(tokens)
    if self.bank is None:
      return embeddings
    return prefix(self.bank.rows(prompt_ids, tokens.shape[0]), embeddings, tokens)

  def _behind_prompt(self, valid: Array, prompt_ids: Array | None) -> Array:
    """[batch, length] bool -> [batch, prompt_len + length], with the slots in use."""
    if self.bank is None:
      return valid
    used = self.bank.used(prompt_ids, valid.shape[0])
    return jnp.concatenate([used, valid], axis=1)

  def _mask(self, valid: Array, inputs: Array | None, prompt_ids: Array | None) -> Array:
    """Who sees whom, [batch, 1, prompt_len + length, prompt_len + length] bool."""
    mask = decoder_only_mask(valid, inputs, self._prompt_len)
    return mask & self._behind_prompt(valid, prompt_ids)[:, None, None, :]


def _inputs(tokens: Array, decoder_causal_attention: Array | None) -> Array:
  """[batch, length] bool, BOS (real, although its id is that of padding) and inputs."""
  if decoder_causal_attention is not None:
    return decoder_causal_attention > 0
  return jnp.pad(tokens[:, 1:] > 0, ((0, 0), (1, 0)), constant_values=True)
