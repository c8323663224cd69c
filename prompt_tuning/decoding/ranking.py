"""Rank classification: which of a few candidate strings is the most probable."""

from collections.abc import Callable

import jax.numpy as jnp

from prompt_tuning.types import Array


def rank(
  score: Callable[[Array], Array], candidates: Array, batch: int
) -> tuple[Array, Array]:
  """Scores every candidate for every row and picks the best.

  Args:
    score: (targets [batch, target_len]) -> log-likelihoods [batch].
    candidates: [num_candidates, target_len] int32, 0 pads, EOS included.
    batch: Rows.

  Returns:
    The tokens of the best candidate [batch, target_len] int32, and all scores
    [batch, num_candidates] float32.
  """
  scores = jnp.stack(
    [
      score(jnp.broadcast_to(candidate, (batch, candidate.shape[0])))
      for candidate in candidates
    ],
    axis=1,
  )
  return jnp.take(candidates, jnp.argmax(scores, axis=1), axis=0), scores
