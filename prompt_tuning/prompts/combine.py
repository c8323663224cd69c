"""Where the prompt goes among the embedded tokens.

With a prompt of two (P), three tokens, EOS (e) and one pad (_):

  tokens             a b c e _
  prefix             P P a b c e _
  prefix_after_bos   a P P b c e _
  suffix             a b c e P P _
  suffix_before_eos  a b c P P e _

Wherever it goes, its positions count as real and padding stays at the end.
"""

from collections.abc import Callable

import jax.numpy as jnp

from prompt_tuning.types import Array

# (prompt [batch, prompt_len, d_model], embeddings [batch, input_len, d_model],
#  tokens [batch, input_len]) -> [batch, prompt_len + input_len, d_model]
Combine = Callable[[Array, Array, Array], Array]


def prefix(prompt: Array, embeddings: Array, tokens: Array) -> Array:
  """The prompt before everything (Lester et al. 2021)."""
  del tokens
  return jnp.concatenate([prompt.astype(embeddings.dtype), embeddings], axis=1)


def prefix_after_bos(prompt: Array, embeddings: Array, tokens: Array) -> Array:
  """The prompt after the first token, for decoders that begin with BOS."""
  del tokens
  prompt = prompt.astype(embeddings.dtype)
  return jnp.concatenate([embeddings[:, :1], prompt, embeddings[:, 1:]], axis=1)


def suffix(prompt: Array, embeddings: Array, tokens: Array) -> Array:
  """The prompt after the last real token, EOS included."""
  return _insert(prompt, embeddings, _lengths(tokens))


def suffix_before_eos(prompt: Array, embeddings: Array, tokens: Array) -> Array:
  """The prompt after the last real token but before EOS."""
  return _insert(prompt, embeddings, jnp.maximum(_lengths(tokens) - 1, 0))


def suffix_after_bos(prompt: Array, embeddings: Array, tokens: Array) -> Array:
  """`suffix` for shifted decoder inputs, whose first token is BOS with id 0."""
  return _insert(prompt, embeddings, _lengths(tokens) + 1)


def in_slots(prompt: Array, embeddings: Array, slots: Array) -> Array:
  """The prompt where a packer has left room for it.

  Args:
    prompt: [batch, prompt_len, d_model].
    embeddings: [batch, length, d_model] of rows in which the slots hold no token.
    slots: [batch, length] int32, 1 + the place in the prompt; 0 at tokens.

  Returns:
    [batch, length, d_model].
  """
  places = jnp.maximum(slots - 1, 0)[..., None]
  placed = jnp.take_along_axis(prompt.astype(embeddings.dtype), places, axis=1)
  return jnp.where(slots[..., None] > 0, placed, embeddings)


def _lengths(tokens: Array) -> Array:
  return jnp.sum((tokens > 0).astype(jnp.int32), axis=1)


def _insert(prompt: Array, embeddings: Array, at: Array) -> Array:
  """Inserts the prompt before position `at` [batch] of each row."""
  prompt = prompt.astype(embeddings.dtype)
  prompt_len = prompt.shape[1]
  position = jnp.arange(prompt_len + embeddings.shape[1])[None, :]
  at = jnp.minimum(at, embeddings.shape[1])[:, None]
  before = position < at
  inside = ~before & (position < at + prompt_len)
  from_tokens = jnp.where(before, position, position - prompt_len)
  joined = jnp.concatenate([prompt, embeddings], axis=1)
  source = jnp.where(inside, position - at, prompt_len + jnp.maximum(from_tokens, 0))
  return jnp.take_along_axis(joined, source[..., None], axis=1)
