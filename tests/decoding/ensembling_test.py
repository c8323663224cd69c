"""Rules of ensembles on likelihoods that are small enough to work out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.decoding import ensembling

# Three members, two candidates: two members hardly prefer the first, one is sure of the
# second; so votes and means disagree.
PROBABILITIES = np.array([[[0.55, 0.45], [0.55, 0.45], [0.01, 0.99]]])
LIKELIHOODS = jnp.asarray(np.log(PROBABILITIES) - 3.0, jnp.float32)


def best(rule, likelihoods):
  return np.argmax(jax.jit(rule)(likelihoods), axis=-1).tolist()


def test_votes_count_members():
  assert best(ensembling.majority_vote, LIKELIHOODS) == [0]


def test_means_weigh_how_sure_members_are():
  found = ensembling.mean_probability(LIKELIHOODS)
  np.testing.assert_allclose(found, PROBABILITIES.mean(axis=1), rtol=1e-5)
  assert best(ensembling.mean_probability, LIKELIHOODS) == [1]
  found = ensembling.mean_log_likelihood(LIKELIHOODS)
  np.testing.assert_allclose(found, LIKELIHOODS.mean(axis=1), rtol=1e-5)
  assert best(ensembling.mean_log_likelihood, LIKELIHOODS) == [1]


@pytest.mark.parametrize("sure", [0, 1])
def test_a_split_vote_is_decided_by_the_mean_log_likelihood(sure):
  rows = np.array([[0.45, 0.55], [0.45, 0.55]])
  rows[sure] = [0.9, 0.1]
  assert best(ensembling.majority_vote, jnp.log(jnp.asarray(rows[None]))) == [0]
  rows[sure] = [0.51, 0.49]
  assert best(ensembling.majority_vote, jnp.log(jnp.asarray(rows[None]))) == [1]


@pytest.mark.parametrize("rule", ensembling.RULES.values())
def test_one_member_answers_as_it_does_alone(rule):
  likelihoods = jax.random.normal(jax.random.key(0), (40, 1, 5))
  assert best(rule, likelihoods) == np.argmax(likelihoods[:, 0], axis=-1).tolist()


@pytest.mark.parametrize("rule", ensembling.RULES.values())
def test_the_order_of_members_is_of_no_account(rule):
  likelihoods = jax.random.normal(jax.random.key(1), (40, 5, 4))
  assert best(rule, likelihoods) == best(rule, likelihoods[:, ::-1])


def test_decoded_answers_are_voted_on():
  a, b, c = [5, 1, 0], [6, 7, 1], [8, 1, 0]
  tokens = jnp.asarray([[a, b, b, c], [a, b, c, a], [a, a, b, b], [c, b, a, a]], jnp.int32)
  scores = jnp.asarray(
    [
      [-0.1, -9.0, -9.0, -0.2],
      [-0.1] * 4,
      [-3.0, -3.0, -9.0, -2.0],
      [-0.1, -0.1, -5.0, -6.0],
    ]
  )
  found = jax.jit(ensembling.voted)(tokens, scores)
  np.testing.assert_array_equal(found, [b, a, b, a])
