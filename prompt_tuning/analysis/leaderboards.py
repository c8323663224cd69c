"""The scores of GLUE and SuperGLUE by their own rule.

The score of a task is the mean of its metrics, that of the benchmark the mean over its
tasks (Wang et al. 2018, section 4; Wang et al. 2019, section 4). MNLI is one task with two
test sets. The diagnostic sets do not count.
"""

import dataclasses
from collections.abc import Mapping, Sequence

_ACCURACY = ("accuracy",)
_BOTH = ("f1", "accuracy")

# benchmark -> task -> TFDS config -> the metrics that count
BENCHMARKS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
  "SuperGLUE": {
    "BoolQ": {"super_glue/boolq": _ACCURACY},
    "CB": {"super_glue/cb": ("mean_3class_f1", "accuracy")},
    "COPA": {"super_glue/copa": _ACCURACY},
    "MultiRC": {"super_glue/multirc": ("f1", "exact_match")},
    "ReCoRD": {"super_glue/record": ("f1", "em")},
    "RTE": {"super_glue/rte": _ACCURACY},
    "WiC": {"super_glue/wic": _ACCURACY},
    "WSC": {"super_glue/wsc.fixed": _ACCURACY},
  },
  "GLUE": {
    "CoLA": {"glue/cola": ("matthews_corrcoef",)},
    "SST-2": {"glue/sst2": _ACCURACY},
    "MRPC": {"glue/mrpc": _BOTH},
    "STS-B": {"glue/stsb": ("pearson_corrcoef", "spearman_corrcoef")},
    "QQP": {"glue/qqp": _BOTH},
    "MNLI": {"glue/mnli_matched": _ACCURACY, "glue/mnli_mismatched": _ACCURACY},
    "QNLI": {"glue/qnli": _ACCURACY},
    "RTE": {"glue/rte": _ACCURACY},
    "WNLI": {"glue/wnli": _ACCURACY},
  },
}


@dataclasses.dataclass(frozen=True)
class Standing:
  """What a model achieved on a benchmark.

  Attributes:
    tasks: {task: score} of those that were evaluated.
    missing: The others.
  """

  tasks: dict[str, float]
  missing: list[str]

  @property
  def score(self) -> float | None:
    """The benchmark's score, None unless every task was evaluated."""
    return None if self.missing else _mean(list(self.tasks.values()))


def standings(
  metrics: Mapping[str, Mapping[str, float]], datasets: Mapping[str, str | None]
) -> dict[str, Standing]:
  """Where a model stands on the benchmarks of which it answered at least two tasks.

  Args:
    metrics: {seqio task: {metric: value}}.
    datasets: {seqio task: its dataset in TFDS, "glue/cola:2.0.0"}.
  """
  by_config: dict[str, Mapping[str, float]] = {}
  for task, found in metrics.items():
    by_config.setdefault((datasets.get(task) or "").partition(":")[0], found)
  standing = {
    benchmark: _standing(tasks, by_config) for benchmark, tasks in BENCHMARKS.items()
  }
  return {name: found for name, found in standing.items() if len(found.tasks) > 1}


def _standing(
  tasks: Mapping[str, Mapping[str, tuple[str, ...]]],
  by_config: Mapping[str, Mapping[str, float]],
) -> Standing:
  scores = {
    task: _mean([_mean([by_config[c][m] for m in names]) for c, names in parts.items()])
    for task, parts in tasks.items()
    if all(set(names) <= by_config.get(c, {}).keys() for c, names in parts.items())
  }
  return Standing(scores, [task for task in tasks if task not in scores])


def _mean(values: Sequence[float]) -> float:
  return sum(values) / len(values)
