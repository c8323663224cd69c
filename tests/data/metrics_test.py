"""Metrics of classes, numbers and groups, against values worked out by hand."""

import functools

import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.data import metrics


def constant(targets, predictions):
  return {"count": float(len(targets)), "sum": float(sum(predictions))}


@pytest.mark.parametrize(
  ("targets", "predictions", "percent"),
  [
    ([1, 0, 1], [1, 0, 1], 100.0),
    ([1, 0, 1, 1], [1, 1, -1, 1], 50.0),
    ([0], [-1], 0.0),
    (["Tom", "jar"], ["Tom", "Jar"], 50.0),
  ],
)
def test_accuracy_is_the_share_of_exact_matches(targets, predictions, percent):
  assert metrics.accuracy(targets, predictions) == {"accuracy": percent}
  assert metrics.accuracy(np.array(targets), np.array(predictions))["accuracy"] == percent


@pytest.mark.parametrize(
  ("targets", "predictions", "percent"),
  [
    # 2 found, 1 missed, 1 too many: 4 / (4 + 1 + 1)
    ([1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 100 * 4 / 6),
    # the same with answers that are no class: each is the wrong one
    ([1, 1, 1, 0, 0], [1, 1, -1, -1, 0], 100 * 4 / 6),
    ([1, 1, 0], [1, 1, 2], 80.0),  # 2 found, 1 too many: 4 / 5
    ([1, 0], [-1, -1], 0.0),
    ([0, 0], [0, 0], 0.0),  # nothing to find
    ([1, 0], [1, 0], 100.0),
  ],
)
def test_f1_of_the_second_class(targets, predictions, percent):
  assert metrics.f1(targets, predictions) == pytest.approx({"f1": percent})


@pytest.mark.parametrize(
  ("targets", "predictions", "classes", "percent"),
  [
    ([0, 1, 2], [0, 1, 2], 3, 100.0),
    # of 0: 2 found, 1 too many, 4/5; of 1: 1 missed, 0; of 2: 1 found, 2/2
    ([0, 0, 1, 2], [0, 0, 0, 2], 3, 100 * (4 / 5 + 0 + 1) / 3),
    # of 0: 1 found, 1 missed, 2/3; of 1: 1 found, 1; of 2: not there, 0
    ([0, 0, 1], [0, -1, 1], 3, 100 * (2 / 3 + 1 + 0) / 3),
    ([0, 1, 2], [-1, -1, -1], 3, 0.0),
    ([0, 1], [0, 0], 2, 100 * (2 / 3 + 0) / 2),
  ],
)
def test_mean_f1_over_classes(targets, predictions, classes, percent):
  found = metrics.mean_multiclass_f1(targets, predictions, classes)
  assert found == pytest.approx({f"mean_{classes}class_f1": percent})


@pytest.mark.parametrize(
  ("targets", "predictions", "percent"),
  [
    ([1, 0, 1, 0], [1, 0, 1, 0], 100.0),
    ([1, 0, 1, 0], [0, 1, 0, 1], -100.0),
    # 2 and 1 right, 1 missed: (2*1 - 0*1) / sqrt(2 * 3 * 1 * 2)
    ([1, 1, 1, 0], [1, 1, 0, 0], 100 * 2 / 12**0.5),
    # three classes -1 0 1: (1*2 - 1*1) / sqrt((4 - 2) * (4 - 2))
    ([1, 0], [1, -1], 50.0),
    ([1, 0, 1], [1, 1, 1], 0.0),
    ([1, 0, 1], [-1, -1, -1], 0.0),
  ],
)
def test_matthews_correlation(targets, predictions, percent):
  found = metrics.matthews_corrcoef(targets, predictions)
  assert found == pytest.approx({"matthews_corrcoef": percent})


@pytest.mark.parametrize(
  ("targets", "predictions", "pearson", "spearman"),
  [
    ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 100.0, 100.0),
    ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -100.0, -100.0),
    # deviations -1 0 1 and -5 -4 9: (5 + 9) / sqrt(2 * 122); in the same order
    ([1.0, 2.0, 3.0], [0.0, 1.0, 14.0], 100 * 14 / 244**0.5, 100.0),
    # ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6, and the values are ranks
    ([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], 60.0, 60.0),
    ([1.0, 2.0, 3.0], [-1.0, -1.0, -1.0], 0.0, 0.0),
    ([2.0, 2.0], [1.0, 3.0], 0.0, 0.0),
  ],
)
def test_correlations(targets, predictions, pearson, spearman):
  found = metrics.pearson_corrcoef(targets, predictions)
  assert found == pytest.approx({"pearson_corrcoef": pearson})
  found = metrics.spearman_corrcoef(targets, predictions)
  assert found == pytest.approx({"spearman_corrcoef": spearman})


def grouped(values, groups):
  pairs = zip(values, groups, strict=True)
  return [{"value": value, "group": group} for value, group in pairs]


def bare(values):
  return [{"value": value} for value in values]


def test_groups_are_right_where_all_of_them_is():
  targets = grouped([1, 0, 1, 0], [5, 5, 6, 7])
  for predictions, percent in (([1, 1, 1, 0], 200 / 3), ([1, 0, 0, -1], 100 / 3)):
    found = metrics.exact_match_by_group(targets, bare(predictions))
    assert found == pytest.approx({"exact_match": percent})
  apart = grouped([1, 0, 1, 0], [5, 6, 5, 6])  # members need not be neighbours
  found = metrics.exact_match_by_group(apart, bare([1, 0, 0, 0]))
  assert found == {"exact_match": 50.0}


def test_values_without_their_groups_and_the_first_of_each():
  targets = grouped([1, 0, 1], ["a", "a", "b"])
  found = metrics.values_only(targets, bare([1, 1, 0]), metrics.accuracy)
  assert found == pytest.approx({"accuracy": 100 / 3})
  targets = grouped([1, 0, 1, 1], [(0, 0), (0, 0), (0, 1), (1, 0)])
  found = metrics.first_of_group(targets, bare([4, 100, 20, 300]), constant)
  assert found == {"count": 3.0, "sum": 324.0}


@pytest.mark.parametrize(
  ("targets", "predictions"), [(bare([1, 0]), bare([1])), (bare([]), bare([1]))]
)
@pytest.mark.parametrize(
  "metric",
  [
    metrics.exact_match_by_group,
    functools.partial(metrics.first_of_group, metric=metrics.accuracy),
  ],
)
def test_a_prediction_too_few_or_too_many_is_an_error(metric, targets, predictions):
  with pytest.raises(ValueError, match="argument 2 is"):
    metric([{**target, "group": 0} for target in targets], predictions)


@pytest.mark.parametrize(
  ("targets", "predictions", "found"),
  [
    ([3, -1, 5], [10, 100, -1], {"count": 2.0, "sum": 9.0}),
    ([-1.0, 0.0], [1.0, 2.0], {"count": 1.0, "sum": 2.0}),
    ([[], ["Bo"]], [1, 2], {"count": 1.0, "sum": 2.0}),
    (["Bo", "Ann"], [1, 2], {"count": 2.0, "sum": 3.0}),
    ([-1, -1], [1, 2], {}),
  ],
)
def test_examples_without_a_known_answer_do_not_count(targets, predictions, found):
  assert metrics.labelled_only(constant)(targets, predictions) == found
  metric = metrics.labelled_only(functools.partial(metrics.values_only, metric=constant))
  groups = grouped(targets, range(len(targets)))
  assert metric(groups, bare(predictions)) == found


@pytest.mark.parametrize(
  ("name", "targets", "predictions", "found"),
  [
    ("accuracy", [1, 0], [1, 1], {"accuracy": 50.0}),
    ("exact_match", ["Yes"], ["yes"], {"exact_match": 0.0}),
    ("f1", [1, 0], [1, 1], {"f1": 200 / 3}),
    ("macro_f1", [0, 1], [0, 0], {"mean_2class_f1": 100 / 3}),
    ("matthews_corrcoef", [1, 0], [1, 0], {"matthews_corrcoef": 100.0}),
    ("pearson_corrcoef", [1.0, 2.0], [3.0, 4.0], {"pearson_corrcoef": 100.0}),
    ("spearman_corrcoef", [1.0, 2.0], [4.0, 3.0], {"spearman_corrcoef": -100.0}),
    ("squad", [["The cat"]], ["cat!"], {"em": 100.0, "f1": 100.0}),
    ("rouge", ["a"], ["a"], {"rouge1": 100.0, "rouge2": 0.0, "rougeLsum": 100.0}),
    ("bleu", ["a b c d"], ["a b c d"], {"bleu": 100.0}),
  ],
)
def test_metrics_by_name(name, targets, predictions, found):
  metric = metrics.named(name, num_classes=2)
  assert metric(targets, predictions) == pytest.approx(found)


def test_a_name_that_is_none_is_refused():
  with pytest.raises(checks.InputError, match=r"acuracy.*accuracy"):
    metrics.named("acuracy")
  with pytest.raises(checks.InputError, match="macro_f1 is a mean over classes"):
    metrics.named("macro_f1")
