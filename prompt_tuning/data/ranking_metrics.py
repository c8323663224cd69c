"""Accuracy and the like when every candidate of an example is a row with a score.

A target is (idx, is_correct, weight, target_len), as `postprocessors.rank_classification`
makes it; idx is (example, candidate). Argument names are T5X's: "scores" asks for scores.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import sklearn.metrics

from prompt_tuning.data import metrics

Target = tuple[Sequence[int], bool, float, int]


def rank_classification(
  targets: Sequence[Target],
  scores: Sequence[float],
  num_classes: int | None = None,
  normalize_by_target_length: bool = False,
) -> dict[str, float]:
  """How often the best-scored candidate is right.

  Args:
    targets: One per candidate.
    scores: Log-likelihood of each.
    num_classes: Candidates of every example; None where that varies or several are
      right, which leaves accuracy only.
    normalize_by_target_length: Whether scores are divided by the number of target tokens.

  Returns:
    accuracy; with two classes also f1, auc-roc and auc-pr of the second, with more the
    mean F1 over classes.
  """
  rows = sorted(zip(targets, scores, strict=True), key=lambda row: tuple(row[0][0]))
  groups = [list(g) for _, g in itertools.groupby(rows, key=lambda row: row[0][0][0])]
  right, weights, chosen, gold, margins = [], [], [], [], []
  for group in groups:
    values = [
      score / target[3] if normalize_by_target_length else score for target, score in group
    ]
    best = int(np.argmax(values))
    right.append(bool(group[best][0][1]))
    weights.append(float(group[best][0][2]))
    chosen.append(best)
    gold.append([bool(target[1]) for target, _ in group])
    margins.append(values)
  found = {"accuracy": 100.0 * float(np.average(right, weights=weights))}
  several = any(sum(row) > 1 for row in gold)
  if num_classes is None or several:
    return found
  label = [row.index(True) for row in gold]
  if num_classes > 2:
    return {**found, **metrics.mean_multiclass_f1(label, chosen, num_classes)}
  return {**found, **metrics.f1(label, chosen), **_areas(label, margins, weights)}


def _areas(
  label: list[int], values: list[list[float]], weights: list[float]
) -> dict[str, float]:
  """Areas under the curves of class 1; none of them where only one class occurs."""
  if len(set(label)) < 2:
    return {}
  margin = [row[1] - row[0] for row in values]
  roc = sklearn.metrics.roc_auc_score(label, margin, sample_weight=weights)
  pr = sklearn.metrics.average_precision_score(label, margin, sample_weight=weights)
  return {"auc-roc": 100.0 * float(roc), "auc-pr": 100.0 * float(pr)}


def normed_rank_classification(
  targets: Sequence[Target], scores: Sequence[float], num_classes: int | None = None
) -> dict[str, float]:
  """The same with scores per target token, each name with "normed_" in front."""
  found = rank_classification(targets, scores, num_classes, True)
  return {f"normed_{name}": value for name, value in found.items()}
