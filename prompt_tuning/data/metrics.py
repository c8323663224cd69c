"""Metrics of the tasks, in percent as T5 reports them."""

from collections.abc import Sequence

import numpy as np


def accuracy(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
  """Share of exact matches."""
  right = np.asarray(targets) == np.asarray(predictions)
  return {"accuracy": 100.0 * int(np.sum(right)) / right.size}
