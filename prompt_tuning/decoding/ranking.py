"""Rank classification: which of a few candidate strings is the most probable."""

from collections.abc import Callable

import jax.numpy as jnp

from prompt_tuning.types import Array


def rank(
  score: Callable[[Array], Array], candidates: Array, length_normalized: bool = False
) -> tuple[Array, Array]:
  """Scores every candidate of every row and picks the best.

  Args:
    score: (candidates [batch, num_candidates, target_len]) -> log-likelihoods
      [batch, num_candidates].
    candidates: [batch, num_candidates, target_len] int32, 0 pads, EOS included. Rows
      with fewer candidates end in empty ones, which never win.
    length_normalized: Whether scores are per token.

  Returns:
    The tokens of the best candidate [batch, target_len] int32, and all scores
    [batch, num_candidates] float32, -inf for empty ones.
  """
  lengths = jnp.sum((candidates > 0).astype(jnp.float32), axis=-1)
  scores = score(candidates)
  if length_normalized:
    scores = scores / jnp.maximum(lengths, 1.0)
  scores = jnp.where(lengths > 0, scores, -jnp.inf)
  best = jnp.argmax(scores, axis=1)[:, None, None]
  return jnp.take_along_axis(candidates, best, axis=1)[:, 0], scores
