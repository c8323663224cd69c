"""A plain decoder-only model with a prompt in front of inputs and targets, by composition.

It takes the features of `PromptedT5` and answers the same questions, so that whatever
trains, evaluates or serves the one does so with the other.

  P P P  a b c  X Y 1          prompt, inputs, targets: each sees what lies before it

Hence a prompt never sees tokens: it runs through the layers once for a whole batch, and the
rows attend to its keys and values.
"""

from collections.abc import Set

import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.step import Algorithm
from prompt_tuning.models.context import Context, DecoderOnlyCache, for_rows
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.llama import Llama
from prompt_tuning.models.masks import decoder_mask
from prompt_tuning.prompts import joined, masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.joined import Part
from prompt_tuning.prompts.packed import Packed
from prompt_tuning.prompts.sequences import sequence_scores, shift_right
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array

_GREEDY = Greedy()


class PromptedLM(nnx.Module):
  """A frozen decoder-only model and the bank of prompts that steers it.

  Args:
    model: The plain model, left as it is.
    bank: The prompts; None is the untuned model.
    visibility: `masks.CAUSAL`, there is no other.
    context: What `encoded_prompts` returned for the bank before; None computes it anew.

  Raises:
    InputError: The prompts are not as wide as the model, or should see what they cannot.
  """

  def __init__(
    self,
    model: Llama,
    bank: PromptBank | None = None,
    visibility: Set[str] = masks.CAUSAL,
    context: Context | None = None,
  ):
    if frozenset(visibility) != masks.CAUSAL:
      raise checks.InputError(
        f"the visibility is {sorted(visibility)} for a decoder-only model, whose prompt "
        f"sees only itself, expected {sorted(masks.CAUSAL)}; set PROMPT_VISIBILITY = "
        f"[{masks.PROMPT_TO_PROMPT_CAUSAL!r}]"
      )
    if bank is not None:
      bank.check_width(model.config.d_model)
    self.model = model
    self.bank = bank
    self._context = nnx.data(context)
    self.steering = Steering()  # of methods for encoders, none of which fits here

  @property
  def prompt_len(self) -> int:
    """Slots in front of the tokens."""
    return 0 if self.bank is None else self.bank.prompt_len

  def embed(self, tokens: Array, prompt_ids: Array | None = None) -> Array:
    """What the layers read: prompt and embedded tokens, as servers take them too.

    Args:
      tokens: [batch, length] int32.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.

    Returns:
      [batch, prompt_len + length, d_model] in the activation dtype.
    """
    embeddings = self.model.embed(tokens)
    if self.bank is None:
      return embeddings
    prompts = self.bank.rows(prompt_ids, tokens.shape[0])
    return jnp.concatenate([prompts.astype(embeddings.dtype), embeddings], axis=1)

  def penalty(self) -> None:
    """See `PromptedT5`: nothing."""

  def logits_of(self, hidden: Array) -> Array:
    """[rows, length, d_model], from `hidden`, -> [rows, length, vocab] float32."""
    return self.model.logits(hidden)

  def logits(self, *features: Array, **more: Array) -> Array:
    """Logits of every target position; arguments as in `hidden`."""
    return self.logits_of(self.hidden(*features, **more))

  def hidden(
    self,
    encoder_input_tokens: Array,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    prompt_ids: Array | None = None,
    dropout_key: Array | None = None,
    encoder_segment_ids: Array | None = None,
    decoder_segment_ids: Array | None = None,
  ) -> Array:
    """What `logits_of` makes the logits of the targets of.

    Args:
      encoder_input_tokens: [batch, input_len] int32, 0 pads.
      decoder_input_tokens: [batch, target_len] int32, targets shifted right.
      decoder_target_tokens: [batch, target_len] int32; 0 masks a position.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.
      dropout_key: A PRNG key, or None for a deterministic pass.
      encoder_segment_ids: [batch, input_len] int32 where rows are packed, see `Packed`.
      decoder_segment_ids: [batch, target_len] int32, with the former or not at all.

    Returns:
      [batch, target_len, d_model]; meaningless where the target is 0.
    """
    packed = Packed.given(encoder_segment_ids, decoder_segment_ids)
    if packed is None:
      inputs, last, end = joined.of_inputs(encoder_input_tokens)
      targets = joined.of_targets(decoder_input_tokens, decoder_target_tokens, last, end)
    else:
      inputs, targets = joined.of_packed(encoder_input_tokens, decoder_input_tokens, packed)
    dropout = self.model.dropout(dropout_key)
    contexts = self._prompts(inputs.tokens.shape[0], prompt_ids, dropout)
    hidden = self._behind(inputs.before(targets), contexts, dropout)
    return hidden[:, inputs.tokens.shape[1] :]

  def _behind(
    self, part: Part, contexts: tuple[Context, ...], dropout: Dropout | None = None
  ) -> Array:
    """Hidden states [rows, length, d_model] of a part behind contexts."""
    mask, positions = self._seen(part, contexts), part.positions + self.prompt_len
    x = self.model.embed(part.tokens)
    return self.model.hidden(x, mask, positions, contexts, dropout)

  def _seen(self, part: Part, contexts: tuple[Context, ...]) -> Array:
    """Who sees whom: [rows, 1, length, keys] bool, contexts in front."""
    rows, length = part.tokens.shape
    front = [for_rows(context.visible, rows) for context in contexts]
    seen = [
      jnp.broadcast_to(x[:, None, None], (rows, 1, length, x.shape[-1])) for x in front
    ]
    return jnp.concatenate([*seen, part.mask(part)], axis=-1)

  def encoded_prompts(self, dropout: Dropout | None = None) -> Context:
    """The keys and values of every prompt of the bank.

    Raises:
      InputError: There is no bank.
    """
    if self.bank is None:
      raise checks.InputError(
        "there are no prompts that can be encoded, expected a bank; give one"
      )
    every = jnp.arange(self.bank.num_prompts, dtype=jnp.int32)
    return self._prompt_context(every, dropout)

  def _prompt_context(self, prompt_ids: Array | None, dropout: Dropout | None) -> Context:
    """Keys and values of some prompts, or of the only one."""
    assert self.bank is not None
    rows = 1 if prompt_ids is None else prompt_ids.shape[0]
    prompts, used = self.bank.rows(prompt_ids, rows), self.bank.used(prompt_ids, rows)
    positions = jnp.arange(self.prompt_len, dtype=jnp.int32)[None]
    return self.model.prefill(prompts, decoder_mask(used), positions, used, (), dropout)

  def _prompts(
    self, batch: int, prompt_ids: Array | None, dropout: Dropout | None = None
  ) -> tuple[Context, ...]:
    """What lies in front of the rows: one context, of one group if all have it."""
    if self.bank is None:
      return ()
    ids = self.bank.ids(prompt_ids, batch)
    if self._context is not None:
      return (self._context if prompt_ids is None else self._context.picked(ids),)
    if self.bank.num_prompts == 1:
      return (self._prompt_context(None, dropout),)
    if self.bank.num_prompts > batch:
      return (self._prompt_context(ids, dropout),)
    return (self.encoded_prompts(dropout).picked(ids),)

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
    """Log-likelihoods of several targets of each input, which is read once.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      candidates: [batch, num_candidates, target_len] int32, 0 pads.
      prompt_ids: [batch] int32 or None.

    Returns:
      [batch, num_candidates] float32; 0 for an empty candidate.
    """
    contexts, last, end = self._read(encoder_input_tokens, prompt_ids)
    count = candidates.shape[1]
    targets = candidates.reshape(-1, candidates.shape[-1])
    last, end = jnp.repeat(last, count), jnp.repeat(end, count)
    part = joined.of_targets(shift_right(targets), targets, last, end)
    logits = self.logits_of(self._behind(part, contexts))
    return sequence_scores(logits, targets).reshape(candidates.shape[:-1])

  def _read(
    self, encoder_input_tokens: Array, prompt_ids: Array | None
  ) -> tuple[tuple[Context, ...], Array, Array]:
    """Prompt and inputs without the last token; that token, and its position."""
    part, last, end = joined.of_inputs(encoder_input_tokens)
    prompts = self._prompts(part.tokens.shape[0], prompt_ids)
    read = self.model.prefill(
      self.model.embed(part.tokens),
      self._seen(part, prompts),
      part.positions + self.prompt_len,
      part.segments > 0,
      prompts,
    )
    return (*prompts, read), last, end

  def generate(
    self,
    encoder_input_tokens: Array,
    max_len: int,
    prompt_ids: Array | None = None,
    decoding: Algorithm = _GREEDY,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """The best answer to each input; see `PromptedT5.generate`."""
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
    batch, decodes = encoder_input_tokens.shape[0], decoding.num_decodes
    contexts, last, end = self._read(encoder_input_tokens, prompt_ids)
    first, rows = self.prompt_len + end, batch * decodes
    cache = self.model.start_cache(contexts, first, rows, max_len)
    last = jnp.repeat(last, decodes)

    def step(tokens: Array, cache: DecoderOnlyCache) -> tuple[Array, DecoderOnlyCache]:
      tokens = jnp.where(cache.index == 0, last, tokens)
      return self.model.decode_step(tokens, cache)

    return decoding(step, cache, batch, max_len, key=key)
