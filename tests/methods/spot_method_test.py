"""SPoT: similarity by the paper's formulas, who is retrieved, what a start is made of."""

import itertools

import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.methods import spot

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=(length, 6)).astype(np.float32) + 0.3 for length in (3, 4))


def cosine(one, other):
  return one @ other / np.sqrt((one @ one) * (other @ other))


# Two tasks with two prompts each; those of a task differ by little.
KINDS = RNG.normal(size=(2, 3, 6))
PROMPTS = {
  name: (KINDS[kind] + 0.1 * RNG.normal(size=(3, 6))).astype(np.float32)
  for name, kind in (("a", 0), ("b", 1), ("a again", 0), ("b again", 1))
}


def test_average_is_the_cosine_of_the_average_tokens():
  expected = cosine(A.mean(axis=0), B.mean(axis=0))
  assert spot.similarity(A, B) == pytest.approx(expected, rel=1e-6)


def test_tokens_is_the_average_cosine_of_every_pair_of_tokens():
  pairs = [cosine(one, other) for one, other in itertools.product(A, B)]
  assert len(pairs) == 12
  assert spot.similarity(A, B, "tokens") == pytest.approx(np.mean(pairs), rel=1e-6)


@pytest.mark.parametrize("measure", spot.MEASURES)
def test_similarity_is_the_product_of_embeddings(measure):
  one, other = (spot.embedding(prompt, measure) for prompt in (A, B))
  assert one.shape == (6,)
  assert spot.similarity(A, B, measure) == pytest.approx(one @ other)
  np.testing.assert_allclose(spot.similarity(A, 3 * B, measure), one @ other)


@pytest.mark.parametrize("measure", spot.MEASURES)
def test_the_matrix_holds_every_pair(measure):
  found = spot.similarities(PROMPTS, measure)
  assert found.shape == (4, 4)
  for (i, one), (j, other) in itertools.product(enumerate(PROMPTS.values()), repeat=2):
    assert found[i, j] == pytest.approx(spot.similarity(one, other, measure))
  assert measure == "tokens" or found.diagonal() == pytest.approx(1)


def test_the_order_of_tokens_tells_nothing_of_a_task():
  for measure in spot.MEASURES:
    assert spot.embedding(A[::-1], measure) == pytest.approx(spot.embedding(A, measure))


def test_the_sources_most_like_a_target_come_first():
  target = KINDS[1] + 0.1 * RNG.normal(size=(3, 6))
  every = spot.retrieve(target, PROMPTS)
  assert set(list(every)[:2]) == {"b", "b again"}
  assert list(every.values()) == sorted(every.values(), reverse=True)
  for name, similar in every.items():
    assert similar == pytest.approx(spot.similarity(target, PROMPTS[name]))
  assert spot.retrieve(target, PROMPTS, 2) == dict(list(every.items())[:2])


def test_a_start_is_the_best_source_or_the_average_by_similarity():
  target = KINDS[1]
  (first, one), (second, other) = spot.retrieve(target, PROMPTS, 2).items()
  np.testing.assert_array_equal(spot.best(target, PROMPTS), PROMPTS[first])
  found = spot.weighted_average(target, PROMPTS, 2)
  expected = (one * PROMPTS[first] + other * PROMPTS[second]) / (one + other)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(spot.weighted_average(target, PROMPTS, 1), PROMPTS[first])


def test_weights_are_shares_of_similarity():
  assert spot.weights({"a": 0.6, "b": 0.2}) == pytest.approx({"a": 0.75, "b": 0.25})


def test_similar_tasks_stand_together_and_join_first():
  found = spot.clustering(spot.similarities(PROMPTS))
  assert {frozenset(found.order[:2]), frozenset(found.order[2:])} == {
    frozenset({0, 2}),
    frozenset({1, 3}),
  }
  low, high = found.joints[:2], found.joints[2]
  assert sorted(places for places, _ in low) == [[0, 0, 1, 1], [2, 2, 3, 3]]
  assert high[0] == [0.5, 0.5, 2.5, 2.5]
  assert max(h for _, heights in low for h in heights) < max(high[1]) / 3


def test_the_diagonal_and_rounding_do_not_count_in_a_tree():
  matrix = np.array([[0.1, 1.0 + 1e-12], [1.0 + 1e-12, 0.2]])
  ((places, heights),) = spot.clustering(matrix).joints
  assert places == [0, 0, 1, 1] and heights == [0, 0, 0, 0]
  assert spot.clustering(np.ones((1, 1))) == spot.Clustering([0], [])


WIDE = np.ones((3, 7), np.float32)
ZERO = np.concatenate([A, -A])  # tokens that cancel
HOLE = np.concatenate([A, 0 * A[:1]])


@pytest.mark.parametrize(
  ("act", "message"),
  [
    (lambda: spot.similarity(A, B, "median"), "unknown measure 'median'"),
    (lambda: spot.similarities({"x": A, "y": WIDE}), r"y has shape \[3, 7\].*6\] as x"),
    (lambda: spot.retrieve(WIDE, {"x": A}), r"x has shape .* as the target"),
    (lambda: spot.embedding(A[None]), r"shape \[1, 3, 6\]"),
    (lambda: spot.retrieve(A, {"x": A}, 2), "2 of 1 sources are asked for"),
    (lambda: spot.retrieve(A, {"x": A}, 0), "0 of 1 sources are asked for"),
    (lambda: spot.retrieve(A, {}), "0 of 0 sources"),
    (lambda: spot.similarities({"x": A, "y": ZERO}), "y has no direction"),
    (lambda: spot.similarities({"x": A, "y": HOLE}, "tokens"), "y has no direction"),
    (lambda: spot.embedding(A * np.nan), "no direction"),
    (lambda: spot.weights({"x": 0.4, "y": -0.1}), "y is unlike the target"),
    (lambda: spot.weighted_average(A, {"x": A, "y": A[:2]}, 2), "expected one shape"),
  ],
)
def test_what_cannot_be_compared_is_refused(act, message):
  with pytest.raises(checks.InputError, match=message):
    act()


def test_a_zero_token_is_no_hindrance_to_the_average():
  assert spot.similarity(A, HOLE) == pytest.approx(1)
