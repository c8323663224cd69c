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

from collections.abc import Set

import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.models.masks import causal_mask, decoder_mask, outer_mask
from prompt_tuning.types import Array

PROMPT_TO_INPUT = "prompt->input"
PROMPT_TO_PROMPT = "prompt->prompt"
PROMPT_TO_PROMPT_CAUSAL = "prompt->prompt;causal"
ALWAYS = frozenset({"input->input", "input->prompt"})
FULL = ALWAYS | {PROMPT_TO_INPUT, PROMPT_TO_PROMPT}
KINDS = FULL | {PROMPT_TO_PROMPT_CAUSAL}


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
  visible = outer_mask(everyone, everyone)
  return visible & _prompt_rows(prompt_len, everyone.shape[1], visibility, True)


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
  rows = _prompt_rows(prompt_len, everyone.shape[1], visibility, False)
  seen = prefix[:, None, None, :] & everyone[:, None, None, :] & rows
  is_prompt = jnp.arange(everyone.shape[1])[None, None, :, None] < prompt_len
  return jnp.where(is_prompt, seen, mask)


def _prompt_rows(prompt_len: int, length: int, visibility: Set[str], others: bool) -> Array:
  """[1, 1, length, length]: what prompt rows may see; `others` for all other rows."""
  for kind in visibility:
    checks.choice("attention kind", kind, sorted(KINDS))
  if PROMPT_TO_PROMPT_CAUSAL in visibility:
    among = causal_mask(prompt_len)[0, 0]
  elif PROMPT_TO_PROMPT in visibility:
    among = jnp.ones((prompt_len, prompt_len), bool)
  else:
    among = jnp.eye(prompt_len, dtype=bool)
  to_input = jnp.full(
    (prompt_len, length - prompt_len), PROMPT_TO_INPUT in visibility, bool
  )
  rows = jnp.concatenate([among, to_input], axis=1)
  rest = jnp.full((length - prompt_len, length), others, bool)
  return jnp.concatenate([rows, rest], axis=0)[None, None]
