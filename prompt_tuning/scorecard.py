"""What prompts achieved: their tasks, and where they stand on the benchmarks.

{"dataset": ..., "split": ...,
 "prompts": [{"prompt": file, "step": n, "tasks": {task: {metric: value}},
              "benchmarks": {"GLUE": {"score": 71.2, "tasks": {...}, "missing": []}},
              "submission": [files]}]}
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning.analysis import leaderboards

Metrics = Mapping[str, Mapping[str, float]]  # {task: {metric: value}}


def card(
  prompt: str,
  step: int,
  metrics: Metrics,
  datasets: Mapping[str, str | None],
  submission: Sequence[str],
) -> dict[str, Any]:
  """The results of one prompt as JSON.

  Args:
    prompt: Its file.
    step: At which it was saved.
    metrics: Of its tasks.
    datasets: As `leaderboards.standings` takes them.
    submission: Files with its answers.
  """
  standings = leaderboards.standings(metrics, datasets)
  return {
    "prompt": prompt,
    "step": step,
    "tasks": metrics,
    "benchmarks": {
      name: {"score": found.score, **dataclasses.asdict(found)}
      for name, found in standings.items()
    },
    "submission": list(submission),
  }


def report(results: Mapping[str, Any]) -> str:
  """The results as a person reads them."""
  head = f"{results['dataset']}, {results['split']} split"
  return "\n".join([head, *(line for one in results["prompts"] for line in _lines(one))])


def _lines(one: Mapping[str, Any]) -> list[str]:
  rows = {task: _values(found) for task, found in one["tasks"].items()}
  rows |= {name: _standing(found) for name, found in one["benchmarks"].items()}
  width = max(map(len, rows), default=0)
  lines = [f"\n{one['prompt']}, step {one['step']}"]
  lines += [f"  {name:<{width}}  {text}" for name, text in rows.items()]
  return lines + [f"  handed in: {path}" for path in one["submission"]]


def _values(found: Mapping[str, float]) -> str:
  values = "  ".join(f"{name} {value:.2f}" for name, value in found.items())
  return values or "no labels to compare with"


def _standing(found: Mapping[str, Any]) -> str:
  tasks, missing = found["tasks"], found["missing"]
  total = len(tasks) + len(missing)
  if found["score"] is None:
    return f"no score: {len(tasks)} of {total} tasks, without {', '.join(missing)}"
  return f"score {found['score']:.2f}, the mean of {total} tasks"
