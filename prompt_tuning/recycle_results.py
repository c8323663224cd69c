"""What recycled prompts achieve, in tables: every metric that evaluations wrote."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from prompt_tuning import files, metrics_log
from prompt_tuning.recycle_config import Experiment, recycled, spaceless

Row = dict[str, Any]
_STEP = r"(\d+)"


def write(experiment: Experiment) -> list[epath.Path]:
  """Writes the tables for which there are results, and returns their paths.

  recycling-<dataset>.tsv   Recycler Init Run "Source Model" "Target Model" Step, metrics
  training-<dataset>.tsv    Model Init Run Step, metrics, of the prompts before
  """
  tables = {"training": trained(experiment), "recycling": evaluated(experiment)}
  written = []
  for name, rows in tables.items():
    if rows:
      path = experiment.root_dir / f"{name}-{experiment.dataset}.tsv"
      files.write_atomically(path, table(rows).encode())
      written.append(path)
  return written


def trained(experiment: Experiment) -> list[Row]:
  """What the prompts achieved on the models that they were trained for."""
  return [
    {"Model": source, "Init": init, "Run": run, **_step_first(row)}
    for source, inits in experiment.prompts.items()
    for init, runs in inits.items()
    for run, folder in runs.items()
    for row in _metrics(experiment, files.path(folder))
    if experiment.steps is None or row.get("step") in experiment.steps
  ]


def evaluated(experiment: Experiment) -> list[Row]:
  """What was written into the folders of evaluations; the last time counts."""
  return [
    {
      "Recycler": method,
      "Init": init,
      "Run": run,
      "Source Model": source,
      "Target Model": target,
      "Step": step,
      **{name: value for name, value in rows[-1].items() if name != "step"},
    }
    for method in experiment.methods
    for source, inits in experiment.prompts.items()
    for target in experiment.targets(source)
    for init, runs in inits.items()
    for run in runs
    for step, folder in _folders(experiment, method, init, run, (source, target))
    if (rows := _metrics(experiment, folder))
  ]


def table(rows: Sequence[Row]) -> str:
  """Rows as TSV; a column for each name that any of them has."""
  sink = io.StringIO()
  names = list(dict.fromkeys(name for row in rows for name in row))
  writer = csv.DictWriter(sink, names, delimiter="\t", lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return sink.getvalue()


def _folders(
  experiment: Experiment, method: str, init: str, run: str, models: tuple[str, str]
) -> Iterator[tuple[int, epath.Path]]:
  """(step, folder) of the evaluations of a run's prompts between two models, in order."""
  place = experiment.run(method, init, run) / "eval"
  source, target = (re.escape(spaceless(name)) for name in models)
  named = re.compile(recycled(source, _STEP, target))
  children = list(place.iterdir()) if place.is_dir() else []
  found = [(match, child) for child in children if (match := named.fullmatch(child.name))]
  steps = sorted((int(match[1]), child) for match, child in found)
  wanted = experiment.steps
  yield from (pair for pair in steps if wanted is None or pair[0] in wanted)


def _metrics(experiment: Experiment, folder: epath.Path) -> list[Row]:
  path = folder / "inference_eval" / f"{experiment.task_name}-metrics.jsonl"
  return metrics_log.read(path) if path.exists() else []


def _step_first(row: Row) -> Row:
  return {"Step": row.get("step"), **{n: v for n, v in row.items() if n != "step"}}
