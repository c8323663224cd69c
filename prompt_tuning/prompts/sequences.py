"""Target sequences: what a decoder is given for them, and how likely they are."""

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array


def shift_right(targets: Array) -> Array:
  """Decoder inputs: targets shifted by one, beginning with 0 (T5's BOS)."""
  return jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]


def sequence_scores(logits: Array, targets: Array) -> Array:
  """Sum of log p(target) over real targets: [batch] float32."""
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  taken = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  return jnp.sum(jnp.where(targets > 0, taken, 0.0), axis=-1)
