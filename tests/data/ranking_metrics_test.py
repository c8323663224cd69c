"""Ranking metrics by hand: one row per candidate, in any order."""

import random

import pytest

from prompt_tuning.data import postprocessors
from prompt_tuning.data.ranking_metrics import (
  normed_rank_classification,
  rank_classification,
)


def rows(*examples):
  """Targets and scores of examples, each a list of (score, is_correct, target_len)."""
  targets, scores = [], []
  for number, candidates in enumerate(examples):
    for i, (score, right, length) in enumerate(candidates):
      targets.append(((number, i), right, 1.0, length))
      scores.append(score)
  return targets, scores


def two(right, margin):
  """An example of two classes whose second is `margin` ahead."""
  return [(0.0, right == 0, 1), (margin, right == 1, 1)]


FOUR = [two(1, 0.9), two(0, 0.4), two(1, -0.2), two(0, -0.7)]
# Chosen 1, 1, 0, 0; right 1, 0, 1, 0. f1: precision 1/2, recall 1/2. ROC: of the four
# pairs of a 1 and a 0 three are in order. PR: 1/2 * 1/1 + 1/2 * 2/3.
EXPECTED = {"accuracy": 50.0, "f1": 50.0, "auc-roc": 75.0, "auc-pr": 250 / 3}


def test_two_classes_by_hand():
  assert rank_classification(*rows(*FOUR), 2) == pytest.approx(EXPECTED)


def test_the_order_of_rows_does_not_matter():
  pairs = list(zip(*rows(*FOUR), strict=True))
  random.Random(3).shuffle(pairs)
  targets, scores = zip(*pairs, strict=True)
  assert rank_classification(targets, scores, 2) == pytest.approx(EXPECTED)


def test_only_the_difference_of_the_two_scores_counts():
  targets, scores = rows(*FOUR)
  shifted = [
    score + 10 * target[0][0] for target, score in zip(targets, scores, strict=True)
  ]
  assert rank_classification(targets, shifted, 2) == pytest.approx(EXPECTED)


def test_three_classes_by_hand():
  right = [0, 1, 2, 0]
  chosen = [0, 1, 1, 2]
  examples = [
    [(1.0 if i == best else 0.0, i == gold, 1) for i in range(3)]
    for gold, best in zip(right, chosen, strict=True)
  ]
  # F1 of the classes: 2 * 1 * .5 / 1.5, 2 * .5 * 1 / 1.5, 0.
  assert rank_classification(*rows(*examples), 3) == pytest.approx(
    {"accuracy": 50.0, "mean_3class_f1": 100 * (2 / 3 + 2 / 3 + 0) / 3}
  )


def test_where_one_class_occurs_there_is_no_area():
  found = rank_classification(*rows(two(1, 0.5), two(1, -0.5)), 2)
  assert found == pytest.approx({"accuracy": 50.0, "f1": 200 / 3})  # 2 * 1 * .5 / 1.5


def test_any_of_several_right_candidates_will_do():
  ferry = [(-1.0, True, 1), (-2.0, False, 1), (-0.5, True, 1)]
  snow = [(-0.2, False, 1), (-3.0, True, 1)]
  assert rank_classification(*rows(ferry, snow)) == {"accuracy": 50.0}
  assert rank_classification(*rows(ferry, snow), 3) == {"accuracy": 50.0}


def test_as_many_candidates_as_an_example_has():
  one, four = [(-9.0, True, 1)], [(-i, i == 3, 1) for i in range(4)]
  assert rank_classification(*rows(one, four)) == {"accuracy": 50.0}


@pytest.mark.parametrize(("normalize", "accuracy"), [(False, 0.0), (True, 100.0)])
def test_scores_per_target_token(normalize, accuracy):
  # -2 > -3, but -2 / 1 < -3 / 2.
  targets, scores = rows([(-2.0, False, 1), (-3.0, True, 2)])
  found = rank_classification(targets, scores, 2, normalize)
  assert found["accuracy"] == accuracy


def test_normed_names_what_is_normed():
  targets, scores = rows(
    [(-2.0, False, 1), (-3.0, True, 2)], [(-1.0, True, 1), (-4.0, False, 2)]
  )
  assert normed_rank_classification(targets, scores, 2) == {
    "normed_accuracy": 100.0,
    "normed_f1": 100.0,
    "normed_auc-roc": 100.0,
    "normed_auc-pr": 100.0,
  }
  assert normed_rank_classification(targets, scores) == {"normed_accuracy": 100.0}


def test_weights_are_those_of_the_chosen_candidates():
  targets = [
    ((0, 0), True, 3.0, 1),
    ((0, 1), False, 3.0, 1),
    ((1, 0), True, 1.0, 1),
    ((1, 1), False, 1.0, 1),
  ]
  found = rank_classification(targets, [0.0, -1.0, -1.0, 0.0])
  assert found == {"accuracy": 75.0}  # right with weight 3, wrong with 1


def test_a_score_has_to_be_there_for_every_target():
  with pytest.raises(ValueError, match="shorter"):
    rank_classification([((0, 0), True, 1.0, 1), ((0, 1), False, 1.0, 1)], [0.5])


def test_targets_are_read_from_an_example():
  example = {"idx": [7, 1], "is_correct": True, "targets": [31, 8, 1]}
  post = postprocessors.rank_classification
  assert post("yes", example, is_target=True) == ((7, 1), True, 1.0, 3)
  assert post("yes", {**example, "weight": 0.5}, is_target=True) == ((7, 1), True, 0.5, 3)
  assert post(-0.25, example, is_target=False) == -0.25
