"""Rank classification: the best candidate, and the scores of a model that shares inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import partitioning
from prompt_tuning.decoding.ranking import rank
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5

IDS = np.array([2, 0, 1, 2], np.int32)
# [4 inputs, 3 candidates, 5 tokens]; the third input has two, the last has one.
CANDIDATES = np.zeros((4, 3, 5), np.int32)
CANDIDATES[:, 0, :2] = [[7, 1], [9, 1], [8, 1], [30, 1]]
CANDIDATES[:3, 1, :4] = [[7, 8, 9, 1], [20, 21, 22, 1], [12, 13, 14, 1]]
CANDIDATES[:2, 2, :5] = [[40, 41, 42, 43, 1], [50, 51, 52, 53, 1]]


def given(scores):
  return lambda candidates: jnp.asarray(scores, jnp.float32)


@pytest.fixture(scope="module")
def model(tiny_t5):
  return PromptedT5(tiny_t5, PromptBank(jax.random.normal(jax.random.key(3), (3, 4, 16))))


@pytest.fixture(scope="module")
def scored(model):
  """(tokens, candidates, ids) -> scores, compiled once per shape."""
  return jax.jit(model.score_candidates)


def test_it_takes_the_best_candidate_of_each_row():
  candidates = np.array([[[7, 1, 0], [8, 9, 1]], [[5, 1, 0], [6, 1, 0]]], np.int32)
  scores = [[-1.0, -5.0], [-3.0, -2.0]]
  best, found = rank(given(scores), jnp.asarray(candidates))
  np.testing.assert_array_equal(best, [[7, 1, 0], [6, 1, 0]])
  np.testing.assert_array_equal(found, np.float32(scores))


def test_an_empty_candidate_never_wins():
  scores = np.full((4, 3), -1e6)
  scores[CANDIDATES[..., 0] == 0] = 0.0  # what a model says of a candidate without tokens
  for normalized in (False, True):
    best, found = rank(given(scores), jnp.asarray(CANDIDATES), normalized)
    np.testing.assert_array_equal(np.isneginf(found), CANDIDATES[..., 0] == 0)
    assert np.all(best[:, 0] > 0)


def test_length_normalized_scores_are_per_token_with_eos():
  scores = np.array([[-2.0, -3.0, -9.0]] * 4, np.float32)
  best, found = rank(given(scores), jnp.asarray(CANDIDATES), True)
  np.testing.assert_allclose(found[0], [-1.0, -0.75, -1.8], rtol=1e-6)
  np.testing.assert_array_equal(best[0], CANDIDATES[0, 1])
  best, found = rank(given(scores), jnp.asarray(CANDIDATES))
  np.testing.assert_array_equal(best[0], CANDIDATES[0, 0])


def test_the_first_of_equals_wins():
  best, _ = rank(given([[-1.0, -1.0, -2.0]] * 4), jnp.asarray(CANDIDATES))
  np.testing.assert_array_equal(best, CANDIDATES[:, 0])


def test_candidates_scored_together_are_those_scored_alone(model, scored, batch):
  tokens = batch["encoder_input_tokens"]
  together = scored(tokens, CANDIDATES, IDS)
  alone = jax.jit(model.score)
  for place in range(3):
    each = alone(tokens, CANDIDATES[:, place], IDS)
    np.testing.assert_allclose(together[:, place], each, rtol=1e-5, atol=1e-5)
  assert np.all(together[CANDIDATES[..., 0] == 0] == 0)


def test_scores_are_log_likelihoods_of_teacher_forcing(model, scored, batch):
  tokens, targets = batch["encoder_input_tokens"], CANDIDATES[:, 0]
  inputs = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  logits = jax.jit(model.logits)(tokens, inputs, targets, IDS)
  log_probs = jax.device_get(jax.nn.log_softmax(logits, axis=-1))
  found = scored(tokens, CANDIDATES, IDS)[:, 0]
  for row in range(4):
    expected = log_probs[row, 0, targets[row, 0]] + log_probs[row, 1, targets[row, 1]]
    np.testing.assert_allclose(found[row], expected, rtol=1e-5)


def test_the_order_of_candidates_permutes_their_scores(scored, batch):
  tokens, order = batch["encoder_input_tokens"], [2, 0, 1]
  found = scored(tokens, CANDIDATES, IDS)
  others = scored(tokens, CANDIDATES[:, order], IDS)
  np.testing.assert_allclose(others, found[:, order], rtol=1e-5, atol=1e-5)


def test_padding_and_empty_candidates_change_no_score(scored, batch):
  tokens = batch["encoder_input_tokens"]
  found = scored(tokens, CANDIDATES, IDS)
  padded = np.pad(CANDIDATES, ((0, 0), (0, 1), (0, 3)))
  others = scored(np.pad(tokens, ((0, 0), (0, 5))), padded, IDS)
  np.testing.assert_allclose(others[:, :3], found, rtol=1e-5, atol=1e-5)
  assert np.all(others[:, 3] == 0)


def test_eight_devices_score_as_one(scored, batch):
  rows = {
    "inputs": np.tile(batch["encoder_input_tokens"], (2, 1)),
    "candidates": np.tile(CANDIDATES, (2, 1, 1)),
    "ids": np.tile(IDS, 2),
  }
  one = scored(*rows.values())
  shared = partitioning.shard_batch(rows, partitioning.Partitioner().mesh(8))
  eight = scored(shared["inputs"], shared["candidates"], shared["ids"])
  assert len(eight.sharding.device_set) == 8
  np.testing.assert_allclose(eight, one, rtol=1e-5, atol=1e-5)
