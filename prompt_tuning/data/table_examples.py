"""From the rows of a table to pairs of texts, or to everything that is wrong with them."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prompt_tuning import checks
from prompt_tuning.data import cells, row_problems, table_metrics, table_rows
from prompt_tuning.data.table import Table

_BETWEEN_ANSWERS = "|||"


class Example(NamedTuple):
  """One row as text.

  Attributes:
    inputs: The filled template.
    targets: The label word, or the target as it is.
    answers: All right answers, where answers are compared.
  """

  inputs: str
  targets: str
  answers: list[str]


def read(table: Table) -> dict[str, list[Example]]:
  """The examples of every split, in the order of the rows.

  Raises:
    InputError: A source cannot be read or has no row, or rows cannot be used; those of
      all sources are named together.
  """
  problems = row_problems.Problems(table.name)
  columns, example = table.columns(), _reader(table)
  found: dict[str, list[Example]] = {}
  for split, source in table.sources().items():
    found[split] = []
    place = table_rows.place(source, split)
    for number, row in table_rows.read(source, split, columns, problems):
      try:
        found[split].append(example(row))
      except cells.Unusable as error:
        problems.add(place, number, str(error))
  problems.check()
  for split, source in table.sources().items():
    if not found[split]:
      raise checks.InputError(
        f"{table_rows.place(source, split)} has no rows, expected at least one; correct "
        f"it or leave {split} out"
      )
  return found


def _reader(table: Table) -> Callable[[Mapping[str, Any]], Example]:
  """From the values of a row to an example."""
  template, words, kind = table.template(), table.by_value(), table_metrics.compared(table)
  fields = [name for name, is_column in template if is_column]

  def read(row: Mapping[str, Any]) -> Example:
    texts = {name: cells.text(name, row[name]) for name in fields}
    if not any(map(str.strip, texts.values())):
      raise cells.Unusable(f"its input is empty: {', '.join(map(repr, fields))}")
    inputs = "".join(texts[part] if is_column else part for part, is_column in template)
    targets = _target(table.targets, row[table.targets], words, kind)
    if table.answers is None:
      return Example(inputs, targets, [targets] if kind == table_metrics.ANSWERS else [])
    return Example(inputs, targets, _answers(table.answers, row[table.answers]))

  return read


def _target(column: str, value: Any, words: Mapping[str, str] | None, kind: str) -> str:
  text = cells.text(column, value)
  if words is not None and text in words:
    return words[text]
  if not text.strip():
    raise cells.Unusable(f"its target {column!r} is empty")
  if words is not None:
    raise cells.Unusable(
      f"its target {column!r} is {text!r}, none of {', '.join(map(repr, words))}"
    )
  if kind == table_metrics.NUMBERS and not _is_number(text):
    raise cells.Unusable(f"its target {column!r} is {text!r}, no number")
  return text


def _is_number(text: str) -> bool:
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def _answers(column: str, value: Any) -> list[str]:
  """The right answers in one cell."""
  if not isinstance(value, list | tuple):
    text = cells.text(column, value)
    try:
      value = json.loads(text)
    except (ValueError, RecursionError):
      value = text
    if not isinstance(value, list):
      value = text.split(_BETWEEN_ANSWERS)
  found = [cells.text(column, answer).strip() for answer in value]
  if not found or not all(found):
    raise cells.Unusable(f"an answer in {column!r} is empty, or there is none")
  return found
