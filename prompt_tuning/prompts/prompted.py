"""A plain T5 with a prompt between embedding and encoder, by composition."""

from collections.abc import Set

import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.step import Algorithm
from prompt_tuning.models.context import Context, EncodedContext, Fronts
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.encoder import Entering
from prompt_tuning.models.masks import decoder_mask, outer_mask, same_segment
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import combine as combining
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.packed import EVERY, Packed
from prompt_tuning.prompts.sequences import sequence_scores, shift_right
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array

_GREEDY = Greedy()


class PromptedT5(nnx.Module):
  """A frozen T5 and the bank of prompts that steers it.

  A prompt that does not see the tokens (`masks.is_input_blind`) is encoded once, and the
  tokens of every example attend to its keys and values in each layer: the outputs are
  those of the masked computation, for less work.

  Args:
    model: The plain model, left as it is.
    bank: The prompts; None is the untuned model.
    combine: Where the prompt goes.
    visibility: Who sees whom, see `masks.encoder_mask`.
    context: What `encoded_prompts` returned for the bank before; None encodes it anew.
    steering: What else a method does.

  Raises:
    InputError: The prompts are not as wide as the model, or the rest does not go together.
  """

  def __init__(
    self,
    model: T5,
    bank: PromptBank | None = None,
    combine: combining.Combine = combining.prefix,
    visibility: Set[str] = masks.FULL,
    context: EncodedContext | None = None,
    steering: Steering | None = None,
  ):
    masks.check_visibility(visibility)
    if bank is not None:
      bank.check_width(model.config.d_model)
    if bank is not None and combine is not combining.prefix:
      _check_in_front(bank, visibility)
    if steering is not None and masks.is_input_blind(visibility):
      _check_seen(steering)
    self.model = model
    self.bank = bank
    self._combine, self._visibility = combine, frozenset(visibility)
    self._context = nnx.data(context)
    self.steering = steering or Steering()

  def embed(
    self,
    encoder_input_tokens: Array,
    prompt_ids: Array | None = None,
    prompt_slots: Array | None = None,
  ) -> Array:
    """What the encoder reads: prompt and embedded tokens, as servers take them too.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.
      prompt_slots: [batch, input_len] int32 where rows are packed, see `combine.in_slots`.

    Returns:
      [batch, prompt_len + input_len, d_model] in the activation dtype; input_len where
      rows are packed.
    """
    tokens, prompt_ids = self._asked(encoder_input_tokens, prompt_ids)
    return self._joined(self._embedded(tokens), tokens, prompt_ids, prompt_slots)

  def _asked(self, tokens: Array, prompt_ids: Array | None) -> tuple[Array, Array | None]:
    """Tokens, and which prompt each row asks for, itself where it begins with that."""
    if self.steering.sentinel is None:
      return tokens, prompt_ids
    return self.steering.sentinel(tokens)

  def _embedded(self, tokens: Array, packed: Packed | None = None) -> Array:
    """Token embeddings [batch, input_len, d_model], with what is added to them."""
    embeddings, offset = self.model.embed(tokens), self.steering.offset
    if offset is None:
      return embeddings
    length = tokens.shape[1]
    if packed is None:
      return offset(embeddings, jnp.arange(length, dtype=jnp.int32)[None], length)
    slots = 0 if packed.prompt_slots is None else self.prompt_len
    return offset(embeddings, packed.positions() - slots, length - slots)

  def _joined(
    self,
    embeddings: Array,
    tokens: Array,
    prompt_ids: Array | None,
    prompt_slots: Array | None,
  ) -> Array:
    """The embeddings with the prompt where it goes."""
    if self.bank is None:
      return embeddings
    if self.steering.router is None:
      prompt = self.bank.rows(prompt_ids, embeddings.shape[0])
    else:
      prompts = self.bank.array
      weights = self.steering.router(embeddings, tokens > 0, prompts)
      prompt = jnp.einsum("bn,npd->bpd", weights, prompts)
    if prompt_slots is not None:
      return combining.in_slots(prompt, embeddings, prompt_slots)
    return self._combine(prompt, embeddings, tokens)

  @property
  def prompt_len(self) -> int:
    """Slots in front of the tokens."""
    return 0 if self.bank is None else self.bank.prompt_len

  def encode(
    self,
    encoder_input_tokens: Array,
    prompt_ids: Array | None = None,
    dropout: Dropout | None = None,
    packed: Packed | None = None,
  ) -> tuple[Array, Array]:
    """Embeds, adds the prompt, encodes.

    Args:
      encoder_input_tokens: [batch, input_len] int32, 0 pads.
      prompt_ids: [batch] int32, the prompt of each row; None for the only one.
      dropout: None for a deterministic pass.
      packed: How the rows are packed; None where each holds one example.

    Returns:
      Encoder output [batch, prompt_len + input_len, d_model], zero at padding, and
      which of its positions are real, bool. Packed rows hold their prompts already, so
      that they stay input_len wide, unless the prompt sees no tokens.
    """
    tokens, prompt_ids = self._asked(encoder_input_tokens, prompt_ids)
    self._check_packed(packed)
    if self.steering.fronts is not None:
      context = self.steering.fronts.encoder()
      encoded, real = self._behind(context, tokens, dropout, packed)
    elif self.bank is not None and masks.is_input_blind(self._visibility):
      encoded, real = self._behind_prompts(tokens, prompt_ids, dropout, packed)
    else:
      encoded, real = self._with_prompts(tokens, prompt_ids, dropout, packed)
    return jnp.where(real[..., None], encoded, jnp.zeros((), encoded.dtype)), real

  def _with_prompts(
    self,
    tokens: Array,
    prompt_ids: Array | None,
    dropout: Dropout | None,
    packed: Packed | None,
  ) -> tuple[Array, Array]:
    """`encode` with prompts among the tokens, from the first layer or from a later one."""
    slots = None if packed is None else packed.prompt_slots
    mask, real = self._mask(tokens > 0, prompt_ids, packed)
    x, first = self._embedded(tokens, packed), self.steering.first
    if first:
      below = outer_mask(tokens > 0, tokens > 0)
      if slots is not None:
        below = mask & (slots == 0)[:, None, None, :]
      x = self.model.encode(x, below, dropout, layers=range(first))
    x = self._joined(x, tokens, prompt_ids, slots)
    layers = range(first, self.model.config.num_encoder_layers)
    entering = self._entering(slots, x.shape[1])
    encoded = self.model.encode(x, mask, dropout, layers=layers, entering=entering)
    return encoded, real

  def _entering(self, slots: Array | None, length: int) -> Entering | None:
    """What is done to the input of each layer, if anything is."""
    change = self.steering.layers
    if change is None:
      return None
    if slots is None:
      slots = jnp.asarray(masks.slots(self.prompt_len, length))
    return lambda number, x: change(number, x, slots)

  def _check_packed(self, packed: Packed | None) -> None:
    """Raises `InputError` where a method cannot tell the examples of a row apart."""
    parts = {"a sentinel": self.steering.sentinel, "a router": self.steering.router}
    found = [name for name, part in parts.items() if part is not None]
    if packed is not None and found:
      raise checks.InputError(
        f"the rows are packed and {found[0]} chooses the prompt by what a row says, "
        "expected rows of one example; set PACK = False"
      )

  def _mask(
    self, valid: Array, prompt_ids: Array | None, packed: Packed | None
  ) -> tuple[Array, Array]:
    """Who sees whom [batch, 1, length, length] and what is real [batch, length], bool."""
    if packed is not None:
      return self._packed_mask(prompt_ids, packed)
    mask = masks.encoder_mask(valid, self.prompt_len, self._visibility)
    real = masks.with_prompt(valid, self.prompt_len)
    if self.bank is not None and self.bank.lengths is not None:
      used = self.bank.used(prompt_ids, valid.shape[0])
      real = jnp.concatenate([used, valid], axis=1)
      mask = mask & real[:, None, None, :]
    return mask, real

  def _packed_mask(self, prompt_ids: Array | None, packed: Packed) -> tuple[Array, Array]:
    segments, slots = packed.segment_ids, packed.prompt_slots
    real = segments > 0
    if self.bank is None or slots is None:
      if self.bank is not None:
        raise checks.InputError(
          "the rows are packed and leave no room for the prompt, expected "
          "encoder_prompt_slots in the batch; pack them for this prompt"
        )
      return masks.packed_mask(segments, jnp.zeros_like(segments)), real
    mask = masks.packed_mask(segments, slots, self._visibility)
    if self.bank.lengths is not None:
      used = self.bank.used(prompt_ids, segments.shape[0])
      places = jnp.maximum(slots - 1, 0)
      real = real & ((slots == 0) | jnp.take_along_axis(used, places, axis=1))
    return mask & real[:, None, None, :], real

  def encoded_prompts(self, dropout: Dropout | None = None) -> EncodedContext:
    """Every prompt of the bank, encoded on its own.

    Raises:
      InputError: There is no bank, or its prompts see the tokens.
    """
    if self.bank is None or not masks.is_input_blind(self._visibility):
      raise checks.InputError(
        "there are no prompts that can be encoded on their own, expected a bank and a "
        f"visibility without {masks.PROMPT_TO_INPUT!r}; choose another visibility"
      )
    count = self.bank.num_prompts
    every = jnp.arange(count, dtype=jnp.int32)
    used = self.bank.used(every, count)
    mask = masks.prompt_mask(used, self._visibility)
    return self.model.prefill(self.bank.rows(every, count), mask, used, dropout)

  def _behind_prompts(
    self,
    tokens: Array,
    prompt_ids: Array | None,
    dropout: Dropout | None,
    packed: Packed | None,
  ) -> tuple[Array, Array]:
    """`encode` of tokens behind prompts that do not see them."""
    assert self.bank is not None
    if packed is not None and packed.prompt_slots is not None:
      raise checks.InputError(
        "the rows leave room for prompts that see no tokens and need none, expected no "
        "encoder_prompt_slots in the batch; pack them with prompt_len=0"
      )
    prompts = self._context or self.encoded_prompts(dropout)
    prompts = prompts.picked(self.bank.ids(prompt_ids, tokens.shape[0]))
    encoded, valid = self._behind(prompts.context, tokens, dropout, packed)
    return (
      jnp.concatenate([prompts.encoded, encoded], axis=1),
      jnp.concatenate([prompts.context.visible, valid], axis=1),
    )

  def _behind(
    self,
    context: Context,
    tokens: Array,
    dropout: Dropout | None,
    packed: Packed | None,
  ) -> tuple[Array, Array]:
    """What the encoder makes of tokens behind a context, and which of them are real."""
    valid, positions = tokens > 0, None
    mask = outer_mask(valid, valid)
    if packed is not None:
      valid, positions = packed.segment_ids > 0, packed.positions()
      mask = masks.packed_mask(packed.segment_ids, jnp.zeros_like(packed.segment_ids))
    visible = jnp.broadcast_to(context.visible, (valid.shape[0], context.length))
    mask = jnp.concatenate([outer_mask(valid, visible), mask], axis=-1)
    x = self._embedded(tokens, packed)
    return self.model.encode(x, mask, dropout, context, positions), valid

  def penalty(self) -> Array | None:
    """What the method adds to the loss of a batch, if anything."""
    if self.steering.penalty is None or self.bank is None:
      return None
    return self.steering.penalty(self.bank)

  def _fronts(self) -> Fronts | None:
    """What lies in front of the decoder's keys and values, if anything."""
    fronts = self.steering.fronts
    return None if fronts is None else fronts.decoder()

  def logits(
    self,
    encoder_input_tokens: Array,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    prompt_ids: Array | None = None,
    dropout_key: Array | None = None,
    encoder_segment_ids: Array | None = None,
    decoder_segment_ids: Array | None = None,
    encoder_prompt_slots: Array | None = None,
  ) -> Array:
    """Logits of every target position under teacher forcing.

    Args:
      encoder_input_tokens: See `hidden`, as the others.
      decoder_input_tokens: See `hidden`.
      decoder_target_tokens: See `hidden`.
      prompt_ids: See `hidden`.
      dropout_key: See `hidden`.
      encoder_segment_ids: See `hidden`.
      decoder_segment_ids: See `hidden`.
      encoder_prompt_slots: See `hidden`.

    Returns:
      [batch, target_len, vocab] float32; meaningless where the target is 0.
    """
    return self.logits_of(
      self.hidden(
        encoder_input_tokens,
        decoder_input_tokens,
        decoder_target_tokens,
        prompt_ids,
        dropout_key,
        encoder_segment_ids,
        decoder_segment_ids,
        encoder_prompt_slots,
      )
    )

  def logits_of(self, hidden: Array) -> Array:
    """[rows, length, d_model], from `hidden`, -> [rows, length, vocab] float32."""
    return self.model.logits(hidden)

  def hidden(
    self,
    encoder_input_tokens: Array,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    prompt_ids: Array | None = None,
    dropout_key: Array | None = None,
    encoder_segment_ids: Array | None = None,
    decoder_segment_ids: Array | None = None,
    encoder_prompt_slots: Array | None = None,
  ) -> Array:
    """`logits` without the last matrix: whoever needs few of them makes only those.

    Args:
      encoder_input_tokens: [batch, input_len] int32.
      decoder_input_tokens: [batch, target_len] int32, targets shifted right.
      decoder_target_tokens: [batch, target_len] int32; 0 masks a position.
      prompt_ids: [batch] int32 or None.
      dropout_key: A PRNG key, or None for a deterministic pass.
      encoder_segment_ids: [batch, input_len] int32 where rows are packed, see `Packed`.
      decoder_segment_ids: [batch, target_len] int32, with the former or not at all.
      encoder_prompt_slots: [batch, input_len] int32, where the prompt goes in them.

    Returns:
      [batch, target_len, d_model]; meaningless where the target is 0.
    """
    packed = Packed.given(encoder_segment_ids, decoder_segment_ids, encoder_prompt_slots)
    dropout = self.model.dropout(dropout_key)
    encoded, real = self.encode(encoder_input_tokens, prompt_ids, dropout, packed)
    targets = decoder_target_tokens
    return self._decoded(encoded, real, decoder_input_tokens, targets, dropout, packed)

  def _decoded(
    self,
    encoded: Array,
    real: Array,
    decoder_input_tokens: Array,
    decoder_target_tokens: Array,
    dropout: Dropout | None = None,
    packed: Packed | None = None,
  ) -> Array:
    """[batch, target_len, d_model] from what `encode` returned."""
    targets = decoder_target_tokens > 0
    self_mask, cross_mask = decoder_mask(targets), outer_mask(targets, real)
    fronts, positions = self._fronts(), None
    if packed is not None:
      positions = packed.decoder_positions()
      queries, keys = packed.decoder_segment_ids, packed.segment_ids
      # Prompts that see no tokens are in front of the rows, for all segments.
      front = jnp.full((keys.shape[0], real.shape[1] - keys.shape[1]), EVERY, keys.dtype)
      keys = jnp.concatenate([front, keys], axis=1)
      self_mask = self_mask & same_segment(queries, queries)
      seen = same_segment(queries, keys) | (keys == EVERY)[:, None, None, :]
      cross_mask = cross_mask & seen
    return self.model.hidden(
      decoder_input_tokens, encoded, self_mask, cross_mask, dropout, fronts, positions
    )

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
      shift_right(targets),
      encoded,
      decoder_mask(targets > 0),
      real[:, None, None, :],
      fronts=self._fronts(),
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
    cache = self.model.start_cache(
      encoded, real, max_len, decoding.num_decodes, self._fronts()
    )
    return decoding(self.model.decode_step, cache, batch, max_len, key=key)


def _check_in_front(bank: PromptBank, visibility: Set[str]) -> None:
  """Raises `InputError` for what works only with the prompt before the tokens."""
  if bank.lengths is not None:
    raise checks.InputError(
      "the bank holds prompts of different lengths, expected combine=prefix: unused "
      "slots are hidden in front; give each length a bank of its own"
    )
  if visibility != masks.FULL:
    raise checks.InputError(
      f"the prompt goes behind tokens with the visibility {sorted(visibility)}, expected "
      "combine=prefix, for which visibilities are; put it in front, or leave it out"
    )


def _check_seen(steering: Steering) -> None:
  """Raises `InputError` for what needs the prompt among the tokens."""
  parts = {"layers": steering.layers, "router": steering.router, "first": steering.first}
  if found := [name for name, part in parts.items() if part]:
    raise checks.InputError(
      f"the prompts see no tokens, and the method changes them by its {found[0]} beside "
      f"those, expected a visibility with {masks.PROMPT_TO_INPUT!r}; add it"
    )


def t5x_path(path: str) -> str:
  """The T5X name of a variable of a `PromptedT5`: "bank/prompts" is the prompt's."""
  return PATH if path == "bank/prompts" else path.removeprefix("model/")
