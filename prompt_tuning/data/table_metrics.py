"""What the metrics of a table compare, and how a text becomes that."""

import functools
from collections.abc import Callable
from typing import Any

from prompt_tuning import checks
from prompt_tuning.data import metrics, postprocessors
from prompt_tuning.data.table import Table

CLASSES, ANSWERS, NUMBERS, TEXTS = "label words", "lists of answers", "numbers", "texts"
_CORRELATIONS = ("pearson_corrcoef", "spearman_corrcoef")
_ABLE = {  # what is compared -> the metrics that can
  CLASSES: (
    *("accuracy", "exact_match", "f1", "macro_f1", "matthews_corrcoef"),
    *_CORRELATIONS,
  ),
  ANSWERS: ("squad",),
  NUMBERS: _CORRELATIONS,
  TEXTS: ("accuracy", "bleu", "exact_match", "rouge"),
}


def compared(table: Table) -> str:
  """One of `CLASSES`, `ANSWERS`, `NUMBERS` and `TEXTS`."""
  if table.labels is not None:
    return CLASSES
  if table.answers is not None or "squad" in table.metrics:
    return ANSWERS
  return NUMBERS if set(_CORRELATIONS) & set(table.metrics) else TEXTS


def functions(table: Table) -> list[metrics.Metric]:
  """The metrics that a table names.

  Raises:
    InputError: There is none of a name, or it cannot compare what the table has.
  """
  words, kind = table.words() or (), compared(table)
  found = [metrics.named(name, len(words) or None) for name in table.metrics]
  able = [name for name in _ABLE[kind] if name != "f1" or len(words) == 2]
  unable = [name for name in table.metrics if name not in able]
  if unable:
    what = f"{len(words)} {kind}" if words else kind
    raise checks.InputError(
      f"the metrics of {table.name} are {', '.join(table.metrics)} and its targets {what}, "
      f"expected of {', '.join(able)}; remove {', '.join(unable)} or change the label words"
    )
  return found


def postprocessor(table: Table) -> Callable[..., Any] | None:
  """From the text of a target or an answer to what is compared; None leaves it."""
  words = table.words()
  if words is not None:
    return functools.partial(postprocessors.string_label_to_class_id, label_classes=words)
  if compared(table) == ANSWERS:
    return postprocessors.qa
  return postprocessors.string_to_float if compared(table) == NUMBERS else None
