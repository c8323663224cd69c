"""Passes over rows of any length: padding is nowhere to be seen."""

import jax
import numpy as np
import pytest

from prompt_tuning import partitioning
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.decoding.sampling import Sampling
from prompt_tuning.passes import Passes, candidates_shape
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.live_bank import LiveBank
from prompt_tuning.prompts.prompted import PromptedT5

BATCH_SIZE, MAX_INPUT_LEN, MAX_OUTPUT_LEN = 8, 32, 4
PLACES = [2, 0, 1, 2, 1]


@pytest.fixture(scope="module")
def prompts():
  rng = np.random.default_rng(5)
  return [rng.normal(size=(length, 16)).astype(np.float32) for length in (2, 5)]


@pytest.fixture(scope="module")
def bank(prompts):
  """Place 0 is no prompt, 1 has two tokens and 2 five."""
  found = LiveBank(4, 6, 16)
  for name, prompt in zip("ab", prompts, strict=True):
    found.add(name, prompt)
  return found.select([])[0]


@pytest.fixture(scope="module")
def inputs():
  rng = np.random.default_rng(6)
  return [rng.integers(3, 64, length).astype(np.int32) for length in (7, 1, 20, 3, 32)]


@pytest.fixture(scope="module")
def candidates():
  return [
    np.array([[7, 1, 0], [9, 8, 1]], np.int32),
    np.array([[7, 1]], np.int32),
    np.array([[5, 1, 0, 0], [6, 5, 1, 0], [6, 7, 8, 1]], np.int32),
    np.array([[30, 1], [31, 1]], np.int32),
    np.array([[50, 51, 1], [40, 1, 0], [41, 42, 1]], np.int32),
  ]


@pytest.fixture(scope="module")
def passes(tiny_t5):
  return Passes(tiny_t5, BATCH_SIZE, MAX_INPUT_LEN, MAX_OUTPUT_LEN)


def alone(tiny_t5, prompts, place):
  return PromptedT5(tiny_t5, PromptBank(prompts[place - 1]) if place else None)


def test_likelihoods_are_those_of_each_row_alone(
  passes, tiny_t5, bank, prompts, inputs, candidates
):
  found = passes.likelihoods(bank, inputs, PLACES, candidates)
  assert [len(each) for each in found] == [len(each) for each in candidates]
  score = jax.jit(lambda model, *asked: model.score_candidates(*asked))
  for row in (0, 1, 2):  # one of each prompt; every row alone is compiled anew
    model = alone(tiny_t5, prompts, PLACES[row])
    each = score(model, inputs[row][None], candidates[row][None])[0]
    np.testing.assert_allclose(found[row], each, rtol=1e-5, atol=1e-5)


def test_answers_are_those_of_each_row_alone(passes, tiny_t5, bank, prompts, inputs):
  found = passes.decoded(bank, inputs, PLACES)
  assert len(found) == 5
  generate = jax.jit(lambda model, tokens: model.generate(tokens, MAX_OUTPUT_LEN))
  for row in (0, 1):
    tokens, score = generate(alone(tiny_t5, prompts, PLACES[row]), inputs[row][None])
    np.testing.assert_array_equal(found[row][0], tokens[0])
    np.testing.assert_allclose(found[row][1], score[0], rtol=1e-5)


def test_neither_order_nor_neighbours_matter(passes, bank, inputs, candidates):
  order = [3, 0, 2]
  places = [PLACES[row] for row in order]
  some = [inputs[row] for row in order]
  together = passes.likelihoods(bank, inputs, PLACES, candidates)
  fewer = passes.likelihoods(bank, some, places, [candidates[row] for row in order])
  for row, scores in zip(order, fewer, strict=True):
    np.testing.assert_allclose(scores, together[row], rtol=1e-5, atol=1e-5)
  together = passes.decoded(bank, inputs, PLACES)
  for row, (tokens, score) in zip(order, passes.decoded(bank, some, places), strict=True):
    np.testing.assert_array_equal(tokens, together[row][0])
    np.testing.assert_allclose(score, together[row][1], rtol=1e-5)


@pytest.mark.parametrize(
  "decoding",
  [None, Sampling(topk=0), Beam(num_decodes=2)],
  ids=lambda decoding: type(decoding).__name__,
)
def test_eight_devices_answer_as_one(tiny_t5, bank, inputs, candidates, decoding):
  mesh = partitioning.Partitioner().mesh(BATCH_SIZE)
  assert mesh.devices.size == 8
  limits = (BATCH_SIZE, MAX_INPUT_LEN, MAX_OUTPUT_LEN, decoding)
  one, eight = Passes(tiny_t5, *limits), Passes(tiny_t5, *limits, mesh)
  one.row_counts = [BATCH_SIZE]  # draws differ with the number of rows
  shared = jax.device_put(bank, partitioning.replicated(mesh))
  for found, expected in zip(
    eight.decoded(shared, inputs, PLACES), one.decoded(bank, inputs, PLACES), strict=True
  ):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-5)
  if decoding is None:
    found = eight.likelihoods(shared, inputs, PLACES, candidates)
    expected = one.likelihoods(bank, inputs, PLACES, candidates)
    for row in range(5):
      np.testing.assert_allclose(found[row], expected[row], rtol=1e-5, atol=1e-5)


def test_an_answer_that_is_drawn_is_drawn_the_same_again(tiny_t5, bank, inputs):
  passes = Passes(tiny_t5, 8, MAX_INPUT_LEN, MAX_OUTPUT_LEN, Sampling(topk=0))
  first = passes.decoded(bank, inputs, PLACES)
  passes.decoded(bank, inputs[::-1], PLACES)
  for one, other in zip(first, passes.decoded(bank, inputs, PLACES), strict=True):
    np.testing.assert_array_equal(one[0], other[0])


def test_draws_come_from_the_texts_of_a_batch(tiny_t5, inputs):
  sampling = Sampling(topk=0)
  passes = Passes(tiny_t5, 4, MAX_INPUT_LEN, MAX_OUTPUT_LEN, sampling)
  untuned = LiveBank(1, 1, 16).select([])[0]
  padded = np.stack([np.pad(each, (0, 32 - len(each))) for each in inputs[:4]])

  @jax.jit
  def by_hand(key):
    return PromptedT5(tiny_t5).generate(padded, MAX_OUTPUT_LEN, None, sampling, key)

  key = jax.random.fold_in(jax.random.key(0), padded.sum())
  expected, _ = by_hand(key)
  found = [tokens for tokens, _ in passes.decoded(untuned, inputs[:4], [0] * 4)]
  np.testing.assert_array_equal(found, expected)
  assert np.any(expected != by_hand(jax.random.key(0))[0])


def test_candidates_are_padded_to_powers_of_two():
  shapes = {
    (1, 1): (1, 2),
    (2, 2): (2, 2),
    (3, 5): (4, 8),
    (4, 8): (4, 8),
    (5, 9): (8, 16),
  }
  for shape, expected in shapes.items():
    assert candidates_shape([np.zeros(shape, np.int32)]) == expected
  both = [np.zeros((3, 2), np.int32), np.zeros((1, 7), np.int32)]
  assert candidates_shape(both) == (4, 8)


def test_rows_with_very_many_candidates_are_fewer(passes):
  assert passes.most_rows(None) == BATCH_SIZE
  assert passes.most_rows((2, 4)) == BATCH_SIZE
  assert passes.most_rows((16, 4)) == 4
  assert passes.most_rows((32, 4)) == 1  # two would be padded to four
  assert passes.most_rows((512, 16)) == 1
