"""What is registered, a line each: splits with sizes, metrics, whether data are here."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import seqio

from prompt_tuning.data import example_metrics, tfds_store

Row = tuple[str, str, str, str]  # name, splits, metrics, data
HEAD: Row = ("name", "splits", "metrics", "data")


def rows(names: list[str]) -> Iterator[Row]:
  """A row for each name, in order."""
  counted = functools.cache(_counts)
  for name in names:
    provider = seqio.get_mixture_or_task(name)
    if isinstance(provider, seqio.Mixture):
      yield _mixture(provider, counted)
    else:
      counts = counted(name)
      yield name, splits(provider, counts), metrics(provider), data(provider, counts)


def _counts(name: str) -> Mapping[str, int] | None:
  return tfds_store.counts(seqio.TaskRegistry.get(name))


def _mixture(mixture: seqio.Mixture, counted: Callable[[str], Any]) -> Row:
  tasks = seqio.get_subtasks(mixture)
  missing = sum(
    tfds_store.dataset_name(task) is not None and counted(task.name) is None
    for task in tasks
  )
  names = ", ".join(dict.fromkeys(split for task in tasks for split in task.splits))
  found = f"{missing} of {len(tasks)} missing" if missing else "present"
  return mixture.name, names, f"of {len(tasks)} tasks", found


def splits(task: seqio.Task, counts: Mapping[str, int] | None) -> str:
  """The splits with the number of records, where that is known."""
  known = counts or {}
  return ", ".join(
    f"{split} {known[split]}" if split in known else split for split in task.splits
  )


def metrics(task: seqio.Task) -> str:
  """The metrics of a task by name."""
  named = (_name(metric) for metric in task.metric_fns)
  return ", ".join(name for name in named if name) or "-"


def _name(metric: Any) -> str | None:
  """What a metric measures, None for one that only shows examples."""
  while isinstance(metric, functools.partial):
    if metric.func is example_metrics.text_examples:
      return None
    metric = metric.keywords.get("metric", metric.func)
  return getattr(metric, "__name__", str(metric))


def data(task: seqio.Task, counts: Mapping[str, int] | None) -> str:
  """Whether the records are on this machine, and what they are called in TFDS."""
  name = tfds_store.dataset_name(task)
  if name is None:
    return "no TFDS data needed"
  return f"{name} {'missing' if counts is None else 'present'}"
