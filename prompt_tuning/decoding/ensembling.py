"""How several members of an ensemble answer as one.

Each rule takes the members' log-likelihoods of the same candidates,
[batch, num_members, num_candidates], and gives each candidate a score
[batch, num_candidates]; the best one is the answer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array

Rule = Callable[[Array], Array]


def majority_vote(likelihoods: Array) -> Array:
  """Members whose best candidate it is; the mean log-likelihood decides between equals."""
  count = likelihoods.shape[-1]
  votes = jax.nn.one_hot(jnp.argmax(likelihoods, axis=-1), count).sum(axis=1)
  ranks = jnp.argsort(jnp.argsort(mean_log_likelihood(likelihoods), axis=-1), axis=-1)
  return votes + ranks.astype(votes.dtype) / count


def mean_probability(likelihoods: Array) -> Array:
  """Mean over members of the probability among the candidates, which add up to 1."""
  return jnp.mean(jax.nn.softmax(likelihoods, axis=-1), axis=1)


def mean_log_likelihood(likelihoods: Array) -> Array:
  """Mean over members of the log-likelihood."""
  return jnp.mean(likelihoods, axis=1)


RULES: dict[str, Rule] = {
  "majority vote": majority_vote,
  "mean probability": mean_probability,
  "mean log-likelihood": mean_log_likelihood,
}


def voted(tokens: Array, scores: Array) -> Array:
  """The decoded answer that most members gave; the best score decides between equals.

  Args:
    tokens: [batch, num_members, length] int32.
    scores: [batch, num_members] float32.

  Returns:
    [batch, length] int32.
  """
  alike = jnp.all(tokens[:, :, None] == tokens[:, None], axis=-1)
  votes = jnp.sum(alike.astype(jnp.float32), axis=-1)
  ranks = jnp.argsort(jnp.argsort(scores, axis=-1), axis=-1).astype(jnp.float32)
  best = jnp.argmax(votes + ranks / tokens.shape[1], axis=-1)
  return jnp.take_along_axis(tokens, best[:, None, None], axis=1)[:, 0]
