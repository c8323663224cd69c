"""The best state of a run: which evaluation it was, and how many were worse since."""

import dataclasses

import numpy as np

from prompt_tuning import checks

Metrics = dict[str, dict[str, float]]  # {task: {metric: value}}


@dataclasses.dataclass
class Best:
  """What a run remembers of its evaluations; JSON keeps it with the run state.

  Attributes:
    step: Of the best state, or None before the first evaluation.
    score: Its score.
    metrics: Its metrics by task.
    worse: Evaluations since then.
    stopped: Whether patience ran out.
  """

  step: int | None = None
  score: float = float("-inf")
  metrics: Metrics = dataclasses.field(default_factory=dict)
  worse: int = 0
  stopped: bool = False

  def keep(self, step: int, score: float, metrics: Metrics) -> None:
    """A state is the best by decree."""
    self.step, self.score, self.metrics, self.worse = step, score, metrics, 0

  def sees(self, step: int, score: float, metrics: Metrics, patience: int | None) -> bool:
    """Takes note of an evaluation and says whether it is the best so far."""
    if self.step is None or score > self.score:
      self.keep(step, score, metrics)
      return True
    self.worse += 1
    self.stopped = patience is not None and self.worse >= patience
    return False


def overall(found: Metrics, metric: str | None) -> float:
  """One number for an evaluation: a named metric, or the mean of all.

  Raises:
    InputError: There is no metric of that name.
  """
  values = {f"{t}/{m}": v for t, row in found.items() for m, v in row.items()}
  if metric is not None:
    checks.choice("metric", metric, list(values))
    return values[metric]
  return float(np.mean(list(values.values()))) if values else 0.0
