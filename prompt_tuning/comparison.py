"""What a run achieved on its tasks, next to what needs no training."""

from collections.abc import Mapping
from typing import Any

from prompt_tuning import summary
from prompt_tuning.prediction import Answers

_SAMPLES = 5  # predictions shown


def compare(
  evaluation: Any, contestants: Mapping[str, tuple[Answers, dict]], step: int
) -> dict[str, dict[str, Any]]:
  """Evaluates several models on one split.

  Args:
    evaluation: A `data.evaluation.Evaluation`.
    contestants: {name: (answers, params)}; the predictions of the last are shown.
    step: Named in logs.

  Returns:
    {task: {"examples", "majority", a row of metrics per contestant, "samples"}}.
  """
  found = {
    name: evaluation.run(
      lambda batch, task, a=answers, p=params: a.predict(p, batch, task),
      lambda batch, task, a=answers, p=params: a.score(p, batch, task),
      step,
    )
    for name, (answers, params) in contestants.items()
  }
  _, shown = found[list(contestants)[-1]]
  results = {}
  for task in evaluation.task_names:
    examples = evaluation.examples(task)
    word, share = evaluation.majority(task)
    results[task] = {
      "examples": len(examples),
      "majority": {"target": word, "accuracy": share},
      **{name: metrics[task] for name, (metrics, _) in found.items()},
      "samples": summary.samples(
        _spread(examples), _spread(evaluation.targets(task)), _spread(shown.get(task, []))
      ),
    }
  return results


def _spread(rows: list) -> list:
  """A few rows from all over a split."""
  return rows[:: max(1, len(rows) // _SAMPLES)][:_SAMPLES]


def report(run: Mapping[str, Any]) -> str:
  """The summary of a training run as a person reads it."""
  lines, name = [], run["learned"]
  for task, found in run.get("tasks", {}).items():
    majority = found["majority"]
    rows = [
      (f"majority ({majority['target']})", {"accuracy": majority["accuracy"]}),
      ("untuned model", found["untuned"]),
      (f"{name.replace('_', ' ')}, step {run['best_step']}", found[name]),
    ]
    count = found["examples"]
    lines += [
      f"\n{task}, {run['split']} split, {count} examples (95 % interval)",
      summary.table(rows, count),
      "\nSome predictions (+ right, - wrong)",
      found["samples"],
    ]
  lines.append(f"\nThe {name.replace('_', ' ')} is in {run[name]}")
  return "\n".join(lines)
