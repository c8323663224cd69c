"""Decoding over a table of logits: no model needed."""

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning.decoding.greedy import greedy
from prompt_tuning.decoding.ranking import rank

# Row t holds the logits after token t: 0 -> 3 -> 4 -> 1 (EOS).
TABLE = np.full((6, 6), -4.0, np.float32)
TABLE[0, 3] = TABLE[3, 4] = TABLE[4, 1] = TABLE[5, 5] = TABLE[2, 5] = 2.0


def step(tokens, cache):
  return jnp.asarray(TABLE)[tokens], cache + 1


def test_greedy_follows_the_best_token_and_stops_at_eos():
  tokens, scores = jax.jit(lambda: greedy(step, jnp.zeros(()), 2, 5))()
  np.testing.assert_array_equal(tokens, [[3, 4, 1, 0, 0]] * 2)
  log_probs = jax.nn.log_softmax(TABLE, axis=-1)
  expected = log_probs[0, 3] + log_probs[3, 4] + log_probs[4, 1]
  np.testing.assert_allclose(scores, [expected] * 2, rtol=1e-6)


def test_greedy_stops_at_the_longest_answer():
  tokens, _ = greedy(step, jnp.zeros(()), 1, 2)
  np.testing.assert_array_equal(tokens, [[3, 4]])


def test_greedy_does_not_decode_after_the_last_row_has_ended():
  counted = []

  def counting(tokens, cache):
    jax.debug.callback(lambda: counted.append(1))
    return step(tokens, cache)

  greedy(counting, jnp.zeros(()), 1, 50)
  jax.effects_barrier()
  assert len(counted) == 3


def test_rank_takes_the_best_candidate_of_each_row():
  scores = jnp.asarray([[-1.0, -5.0], [-3.0, -2.0]])
  candidates = jnp.asarray([[7, 1, 0], [8, 9, 1]], jnp.int32)

  def score(targets):
    return jnp.where(targets[:, 0] == 7, scores[:, 0], scores[:, 1])

  best, found = rank(score, candidates, 2)
  np.testing.assert_array_equal(best, candidates)
  np.testing.assert_array_equal(found, scores)
