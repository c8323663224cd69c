"""How far a prompt is from another."""

import jax.numpy as jnp

from prompt_tuning.types import Array


def squared_l2_distance(prompt: Array, other: Array) -> Array:
  """Squared distance per position, averaged (Khashabi et al. 2022, equation 2).

  Args:
    prompt: [prompt_len, d_model].
    other: [prompt_len, d_model], e.g. the embeddings of a text.

  Returns:
    float32 scalar.
  """
  return jnp.sum(jnp.square(prompt - other)) / prompt.shape[0]
