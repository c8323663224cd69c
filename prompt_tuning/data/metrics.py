"""Metrics of the tasks, in percent and under T5's names.

Each takes lists of targets and predictions, as the postprocessors of a task leave them.
"""

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics

from prompt_tuning import checks
from prompt_tuning.data import text_metrics

Values = dict[str, float]
Metric = Callable[[Sequence[Any], Sequence[Any]], Values]


def accuracy(targets: Sequence[int], predictions: Sequence[int]) -> Values:
  """Share of exact matches."""
  return {"accuracy": 100.0 * float(sklearn.metrics.accuracy_score(targets, predictions))}


def f1(targets: Sequence[int], predictions: Sequence[int]) -> Values:
  """F1 of class 1 of two; a prediction that is neither counts as the wrong one."""
  right, found = np.asarray(targets), np.asarray(predictions)
  found = np.where(np.isin(found, (0, 1)), found, 1 - right)
  score = sklearn.metrics.f1_score(right, found, zero_division=0.0)
  return {"f1": 100.0 * float(score)}


def mean_multiclass_f1(
  targets: Sequence[int], predictions: Sequence[int], num_classes: int
) -> Values:
  """Mean over the classes of the F1 of each."""
  score = sklearn.metrics.f1_score(
    targets,
    predictions,
    labels=list(range(num_classes)),
    average="macro",
    zero_division=0.0,
  )
  return {f"mean_{num_classes}class_f1": 100.0 * float(score)}


def matthews_corrcoef(targets: Sequence[int], predictions: Sequence[int]) -> Values:
  """Matthews' correlation of two classes; 0 where either side is constant."""
  if _constant(targets, predictions):
    return {"matthews_corrcoef": 0.0}
  score = sklearn.metrics.matthews_corrcoef(targets, predictions)
  return {"matthews_corrcoef": 100.0 * float(score)}


def _constant(targets: Sequence[float], predictions: Sequence[float]) -> bool:
  """Whether a correlation is not defined; who always says the same knows nothing."""
  return len(set(targets)) < 2 or len(set(predictions)) < 2


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> Values:
  """Pearson's correlation; 0 where either side is constant."""
  return {"pearson_corrcoef": _correlation(scipy.stats.pearsonr, targets, predictions)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> Values:
  """Spearman's rank correlation; 0 where either side is constant."""
  return {"spearman_corrcoef": _correlation(scipy.stats.spearmanr, targets, predictions)}


def _correlation(function: Callable, targets: Any, predictions: Any) -> float:
  if _constant(targets, predictions):
    return 0.0
  return 100.0 * float(function(targets, predictions)[0])


def labelled_only(metric: Metric) -> Metric:
  """A metric over the examples whose right answer is known; nothing where none is.

  Benchmarks keep the answers of their test sets, whose label is then -1.
  """
  return functools.partial(_where_labelled, metric=metric)


def _where_labelled(
  targets: Sequence[Any], predictions: Sequence[Any], metric: Metric
) -> Values:
  known = [
    pair for pair in zip(targets, predictions, strict=True) if not _unlabelled(pair[0])
  ]
  return metric([t for t, _ in known], [p for _, p in known]) if known else {}


def _unlabelled(target: Any) -> bool:
  value = target["value"] if isinstance(target, Mapping) else target
  return value == [] if isinstance(value, list) else value == -1


# Targets and predictions in groups: {"value": ..., "group": ...}, the group in the targets.


def values_only(
  targets: Sequence[Mapping], predictions: Sequence[Mapping], metric: Metric
) -> Values:
  """A metric over all values, whatever their groups (MultiRC's F1 over answers)."""
  return metric([t["value"] for t in targets], [p["value"] for p in predictions])


def exact_match_by_group(
  targets: Sequence[Mapping], predictions: Sequence[Mapping]
) -> Values:
  """Share of groups in which everything is right (MultiRC's exact match per question)."""
  right: dict[Any, bool] = collections.defaultdict(lambda: True)
  for target, prediction in zip(targets, predictions, strict=True):
    right[target["group"]] &= bool(target["value"] == prediction["value"])
  return {"exact_match": 100.0 * float(np.mean(list(right.values())))}


def first_of_group(
  targets: Sequence[Mapping], predictions: Sequence[Mapping], metric: Metric
) -> Values:
  """A metric over one example of each group (ReCoRD repeats a query for each answer)."""
  kept: dict[Any, tuple[Any, Any]] = {}
  for target, prediction in zip(targets, predictions, strict=True):
    kept.setdefault(target["group"], (target["value"], prediction["value"]))
  return metric([t for t, _ in kept.values()], [p for _, p in kept.values()])


_BY_NAME: dict[str, Metric] = {
  "accuracy": accuracy,
  "bleu": text_metrics.bleu,
  "exact_match": text_metrics.exact_match,
  "f1": f1,
  "matthews_corrcoef": matthews_corrcoef,
  "pearson_corrcoef": pearson_corrcoef,
  "rouge": text_metrics.rouge,
  "spearman_corrcoef": spearman_corrcoef,
  "squad": text_metrics.squad,
}
_MACRO_F1 = "macro_f1"


def named(name: str, num_classes: int | None = None) -> Metric:
  """A metric for a task of one's own.

  Args:
    name: One of accuracy, bleu, exact_match, f1, macro_f1, ...
    num_classes: How many classes there are, where there are classes.

  Raises:
    InputError: There is no metric of that name, or it needs classes.
  """
  checks.choice("metric", name, [*_BY_NAME, _MACRO_F1])
  if name != _MACRO_F1:
    return _BY_NAME[name]
  if num_classes is None:
    raise checks.InputError(
      "the metric macro_f1 is a mean over classes and there are no label words, expected "
      "some; give the label words or choose another metric"
    )
  return functools.partial(mean_multiclass_f1, num_classes=num_classes)
