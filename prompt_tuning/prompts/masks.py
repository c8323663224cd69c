"""Masks that cover prompt and tokens, and who sees whom between the two.

A visibility is a set of kinds "query->key". Tokens always see tokens and the prompt;
the rest is a choice. For a prompt of two and two tokens (x = may attend):

  prompt->input + prompt->prompt   prompt->prompt;causal    (neither)
      P P t t                          P P t t                P P t t
    P x x x x                        P x . . .              P x . . .
    P x x x x                        P x x . .              P . x . .
    t x x x x                        t x x x x              t x x x x
    t x x x x                        t x x x x              t x x x x
"""

from collections.abc import Iterable, Set

import jax.numpy as jnp
import numpy as np

from prompt_tuning import checks
from prompt_tuning.models.masks import decoder_mask, outer_mask, same_segment
from prompt_tuning.types import Array, ArrayLike

PROMPT_TO_INPUT = "prompt->input"
PROMPT_TO_PROMPT = "prompt->prompt"
PROMPT_TO_PROMPT_CAUSAL = "prompt->prompt;causal"
ALWAYS = frozenset({"input->input", "input->prompt"})
FULL = ALWAYS | {PROMPT_TO_INPUT, PROMPT_TO_PROMPT}
CAUSAL = ALWAYS | {PROMPT_TO_PROMPT_CAUSAL}  # the only one of decoder-only models
KINDS = FULL | CAUSAL


def with_prompt(valid: Array, prompt_len: int) -> Array:
  """[batch, length] bool -> [batch, prompt_len + length] with the prompt real."""
  real = jnp.ones((valid.shape[0], prompt_len), valid.dtype)
  return jnp.concatenate([real, valid], axis=1)


def encoder_mask(valid: Array, prompt_len: int, visibility: Set[str] = FULL) -> Array:
  """Encoder self-attention over prompt and tokens.

  Args:
    valid: [batch, input_len] bool, real tokens.
    prompt_len: Length of the prompt, which goes in front.
    visibility: A subset of `KINDS`; "prompt->prompt;causal" wins over
      "prompt->prompt", and without either a prompt position sees itself only.

  Returns:
    [batch, 1, prompt_len + input_len, prompt_len + input_len] bool.

  Raises:
    InputError: An unknown kind.
  """
  everyone = with_prompt(valid, prompt_len)
  places = slots(prompt_len, everyone.shape[1])
  return outer_mask(everyone, everyone) & _prompt_rows(places, visibility, True)


def packed_mask(
  segment_ids: Array, prompt_slots: Array, visibility: Set[str] = FULL
) -> Array:
  """Encoder self-attention in rows of several examples, each with its own prompt slots.

  For segments of a prompt of one and two tokens, then of one token, and one pad:

      P t t P t _
    P x x x . . .
    t x x x . . .
    t x x x . . .
    P . . . x x .
    t . . . x x .
    _ . . . . . .

  Args:
    segment_ids: [batch, length] int32, from 1; 0 at padding.
    prompt_slots: [batch, length] int32, 1 + the place in the prompt; 0 at tokens.
    visibility: See `encoder_mask`.

  Returns:
    [batch, 1, length, length] bool.
  """
  real = segment_ids > 0
  mask = outer_mask(real, real) & same_segment(segment_ids, segment_ids)
  return mask & _prompt_rows(prompt_slots, visibility, True)


def prompt_mask(used: Array, visibility: Set[str]) -> Array:
  """Who sees whom inside a prompt alone.

  Args:
    used: [num_prompts, prompt_len] bool, the slots in use.
    visibility: See `encoder_mask`.

  Returns:
    [num_prompts, 1, prompt_len, prompt_len] bool.
  """
  places = slots(used.shape[1], used.shape[1])
  return outer_mask(used, used) & _prompt_rows(places, visibility, True)


def is_input_blind(visibility: Set[str]) -> bool:
  """Whether a prompt sees no tokens, so that one pass over it serves all examples."""
  return PROMPT_TO_INPUT not in visibility


def decoder_only_mask(
  valid: Array,
  prefix: Array | None,
  prompt_len: int,
  visibility: Set[str] | None = None,
) -> Array:
  """Decoder self-attention with the prompt in front of inputs and targets.

  Args:
    valid: [batch, length] bool, real tokens.
    prefix: [batch, length] bool, the inputs, which see each other both ways; None
      makes everything, prompt included, causal.
    prompt_len: Length of the prompt.
    visibility: What prompt rows see of prompt and prefix; None for all of it.

  Returns:
    [batch, 1, prompt_len + length, prompt_len + length] bool.
  """
  everyone = with_prompt(valid, prompt_len)
  if prefix is None:
    return decoder_mask(everyone)
  prefix = with_prompt(prefix, prompt_len)
  mask = decoder_mask(everyone, prefix)
  if visibility is None:
    return mask
  places = slots(prompt_len, everyone.shape[1])
  rows = _prompt_rows(places, visibility, False)
  seen = prefix[:, None, None, :] & everyone[:, None, None, :] & rows
  return jnp.where(places[:, None, :, None] > 0, seen, mask)


def slots(prompt_len: int, length: int) -> np.ndarray:
  """[1, length]: 1 + the place in the prompt, which is in front; 0 behind it."""
  return np.pad(np.arange(1, prompt_len + 1), (0, length - prompt_len))[None]


def _prompt_rows(slots: ArrayLike, visibility: Set[str], others: bool) -> Array:
  """What prompt rows may see; `others` for all other rows.

  Args:
    slots: [batch, length] int, 1 + the place in the prompt; 0 at tokens.
    visibility: See `encoder_mask`.
    others: Whether other rows see everything or nothing.

  Returns:
    [batch, 1, length, length] bool.
  """
  check_visibility(visibility)
  queries, keys = slots[:, None, :, None], slots[:, None, None, :]
  if PROMPT_TO_PROMPT_CAUSAL in visibility:
    among = keys <= queries
  elif PROMPT_TO_PROMPT in visibility:
    among = jnp.ones_like(keys, bool)
  else:
    among = keys == queries
  rows = jnp.where(keys > 0, among, not is_input_blind(visibility))
  return jnp.where(queries > 0, rows, others)


def check_visibility(visibility: Iterable[str]) -> None:
  """Raises `InputError` for an unknown kind."""
  if isinstance(visibility, str):
    raise checks.InputError(
      f"the visibility is {visibility!r}, expected a list of kinds, e.g. "
      f"[{PROMPT_TO_PROMPT!r}]; put it in brackets"
    )
  for kind in visibility:
    checks.choice("attention kind", kind, sorted(KINDS))
