"""Who may attend to whom, as boolean masks [batch, 1, query, key].

For a row of three tokens and one pad (x = may attend):

  encoder          decoder (causal)     prefix-LM, prefix of two
    t t t _          t t t _              t t t _
  t x x x .        t x . . .            t x x . .
  t x x x .        t x x . .            t x x . .
  t x x x .        t x x x .            t x x x .
  _ . . . .        _ . . . .            _ . . . .
"""

import jax.numpy as jnp

from prompt_tuning.types import Array

# Added to the attention logits of what may not be seen. In float32 it swallows the
# logit, so that a row that sees nothing attends evenly to everything, as in T5X.
MASKED = -1e10


def outer_mask(query: Array, key: Array) -> Array:
  """Both sides real: [batch, q], [batch, k] bool -> [batch, 1, q, k]."""
  return (query[:, :, None] & key[:, None, :])[:, None]


def same_segment(query_segments: Array, key_segments: Array) -> Array:
  """Equal segment ids, for packed rows: [batch, q], [batch, k] -> [batch, 1, q, k]."""
  return (query_segments[:, :, None] == key_segments[:, None, :])[:, None]


def causal_mask(length: int) -> Array:
  """A query sees keys at or before its own position: [1, 1, length, length]."""
  return jnp.tril(jnp.ones((length, length), bool))[None, None]


def decoder_mask(valid: Array, prefix: Array | None = None) -> Array:
  """Causal, or bidirectional inside a prefix, among real tokens.

  Args:
    valid: [batch, length] bool, real target tokens.
    prefix: [batch, length] bool, the part that sees itself both ways (prefix-LM).

  Returns:
    [batch, 1, length, length] bool.
  """
  visible = causal_mask(valid.shape[1])
  if prefix is not None:
    visible = visible | outer_mask(prefix, prefix)
  return visible & outer_mask(valid, valid)


def mask_bias(mask: Array, dtype: jnp.dtype) -> Array:
  """0 where `mask`, `MASKED` elsewhere, to be added to attention logits."""
  return jnp.where(mask, 0.0, MASKED).astype(dtype)


def visible_front(mask: Array, front: int) -> Array:
  """The mask [..., k] with `front` keys before the others that everybody sees."""
  return jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(front, 0)], constant_values=True)
