"""One task, looked at: its examples as text and tokens, how long they are, its labels."""

import collections
import dataclasses
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from prompt_tuning import checks
from prompt_tuning.data import label_words
from prompt_tuning.progress import Progress

_SHOWN_LABELS = 20  # more are no classification


@dataclasses.dataclass(frozen=True)
class Look:
  """What is looked at.

  Attributes:
    split: Of the task.
    examples: Examples that are shown.
    limit: Most examples that are counted.
    lengths: {feature: tokens} at which a run would cut.
  """

  split: str
  examples: int
  limit: int
  lengths: Mapping[str, int]


def lines(task: seqio.Task, look: Look) -> Iterator[str]:
  """The report of a split.

  Raises:
    InputError: The task has no such split, or the split no example.
  """
  checks.choice(f"split of {task.name}", look.split, list(task.splits))
  read = _read(task, look)
  if not read:
    raise checks.InputError(
      f"the split {look.split!r} of {task.name} yields no example, expected at least one; "
      "check the data"
    )
  more = " or more" if len(read) == look.limit else ""
  yield f"{look.split}: {len(read):,}{more} examples"
  yield from _lengths(read, look.lengths)
  yield from _labels(task, read)
  for number, row in enumerate(read[: look.examples]):
    yield f"  example {number}"
    for feature in task.output_features:
      yield f"    {feature} ({_size(row, feature)} tokens): {_text(row, feature)}"


def _read(task: seqio.Task, look: Look) -> list[dict[str, Any]]:
  dataset = task.get_dataset(
    dict(look.lengths) if _needs_lengths(task) else None, look.split, shuffle=False
  )
  known = int(dataset.cardinality())
  bar = Progress(f"read {look.split}", min(look.limit, known) if known > 0 else look.limit)
  found: list[dict[str, Any]] = []
  for row in itertools.islice(dataset.as_numpy_iterator(), look.limit):
    found.append(row)
    bar.update(len(found))
  bar.close()
  return found


def _needs_lengths(task: seqio.Task) -> bool:
  """Whether an example depends on how long it may be, as in pretraining."""
  parameters = (inspect.signature(step).parameters for step in task.preprocessors)
  lengths = (found.get("sequence_length") for found in parameters)
  return any(p is not None and p.default is inspect.Parameter.empty for p in lengths)


def _lengths(
  read: Sequence[Mapping[str, Any]], lengths: Mapping[str, int]
) -> Iterator[str]:
  yield f"  {'tokens':<10}{'median':>8}{'95 %':>8}{'longest':>9}"
  for feature, limit in lengths.items():
    sizes = np.array([_size(row, feature) for row in read])
    cut = int(np.sum(sizes > limit))
    median, most = (int(np.percentile(sizes, q)) for q in (50, 95))
    yield (
      f"  {feature:<10}{median:>8}{most:>8}{sizes.max():>9}   longer than {limit}: "
      f"{cut:,} ({100 * cut / len(read):.1f} %), which are cut"
    )


def _labels(task: seqio.Task, read: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  if task.output_features["targets"].rank != 1:
    return  # every example brings all of its candidates
  counts = collections.Counter(_text(row, "targets") for row in read)
  words = label_words.of(task.name)
  if words is None and len(counts) > _SHOWN_LABELS:
    yield f"  {len(counts):,} different targets"
    return
  for label in dict.fromkeys([*(words or ()), *sorted(counts)]):
    share = 100 * counts[label] / len(read)
    yield f"  {label or '(empty)':<20}{counts[label]:>9,}{share:>7.1f} %"


def _size(row: Mapping[str, Any], feature: str) -> int:
  return int(np.shape(row[feature])[0])


def _text(row: Mapping[str, Any], feature: str) -> str:
  value = row.get(f"{feature}_pretokenized", row[feature])
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  return str(np.asarray(value).tolist())
