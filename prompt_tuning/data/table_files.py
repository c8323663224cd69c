"""Rows of .csv, .tsv, .jsonl and .parquet files.

A row's number is the line where it begins, the first line being 1; in Parquet it is a count
from 1. Lines without any character are no rows. Text that is no UTF-8 keeps its bytes, as
surrogates or as they are, for whoever reads the value.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from prompt_tuning import checks
from prompt_tuning.data import row_problems

Rows = Iterator[tuple[int, dict[str, Any]]]
# (path, what messages call it, needed columns, takes the rows that are left out) -> rows
Reader = Callable[[epath.Path, str, Sequence[str], row_problems.Problems], Rows]
_LONGEST_CELL = 2**31 - 1  # characters; the csv module stops at 131,072


def _separated(delimiter: str) -> Reader:
  """A reader of cells between delimiters, quoted as RFC 4180 says."""

  def read(
    path: epath.Path, place: str, columns: Sequence[str], problems: row_problems.Problems
  ) -> Rows:
    header: list[str] = []
    with _opened(path, newline="") as text:
      for number, cells in separated_cells(text, delimiter):
        if isinstance(cells, str):
          problems.add(place, number, cells)
        elif not header:
          header = cells
          row_problems.check_columns(place, header, columns)
        elif len(cells) != len(header):
          counts = f"it has {len(cells)} cells, the header {len(header)}"
          problems.add(place, number, counts)
        else:
          row = dict(zip(header, cells, strict=True))
          yield number, {name: row[name] for name in columns}

  return read


def separated_cells(
  text: io.TextIOWrapper, delimiter: str
) -> Iterator[tuple[int, list[str] | str]]:
  """(line, cells), or last of all (line, what is wrong) where quotes do not match."""
  reader = csv.reader(text, delimiter=delimiter, strict=True)
  while True:
    begins = reader.line_num + 1
    limit = csv.field_size_limit(_LONGEST_CELL)  # it is the process's
    try:
      cells = next(reader, None)
    except csv.Error as error:
      yield begins, f"its quotes do not match ({error}), and nothing behind was read"
      return
    finally:
      csv.field_size_limit(limit)
    if cells is None:
      return
    if cells:
      yield begins, cells


def _json_lines(
  path: epath.Path, place: str, columns: Sequence[str], problems: row_problems.Problems
) -> Rows:
  """A reader of JSON objects, one per line."""
  rows: list[tuple[int, dict[str, Any]]] = []
  with _opened(path, newline=None) as text:
    for number, line in enumerate(text, 1):
      try:
        if not line.isspace():
          rows.append((number, json_object(line)))
      except (ValueError, RecursionError) as error:
        problems.add(place, number, str(error))
  if rows:
    there = dict.fromkeys(name for _, row in rows for name in row)
    row_problems.check_columns(place, list(there), columns)
  for number, row in rows:
    lacking = [repr(name) for name in columns if name not in row]
    if lacking:
      problems.add(place, number, f"it has no field {', '.join(lacking)}")
    else:
      yield number, {name: row[name] for name in columns}


def json_object(line: str) -> dict[str, Any]:
  """The object in a line; `ValueError` says what it is instead."""
  try:
    row = json.loads(line, object_pairs_hook=_unique)
  except json.JSONDecodeError as error:
    raise ValueError(f"it is no JSON ({error.msg}, character {error.colno})") from error
  if not isinstance(row, dict):
    raise ValueError(f"it is a {type(row).__name__}, expected a JSON object")
  return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError(f"it names a field twice: {', '.join(name for name, _ in pairs)}")
  return found


def _opened(path: epath.Path, newline: str | None) -> io.TextIOWrapper:
  content = io.BytesIO(path.read_bytes())
  return io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline)


def _parquet(
  path: epath.Path, place: str, columns: Sequence[str], problems: row_problems.Problems
) -> Rows:
  """A reader of Parquet's columns, text as bytes: nobody has checked that it is UTF-8."""
  del problems  # a file is whole or it is not
  import pyarrow
  import pyarrow.parquet

  try:
    source = pyarrow.parquet.ParquetFile(io.BytesIO(path.read_bytes()))
    row_problems.check_columns(place, source.schema_arrow.names, columns)
    table = source.read(columns=list(columns))
  except (pyarrow.ArrowException, OSError) as error:
    raise checks.InputError(
      f"{place} cannot be read ({str(error)[:120]}), expected a Parquet file; write it "
      "again"
    ) from error
  values = [_values(table[name]) for name in columns]
  for number, row in enumerate(zip(*values, strict=True), 1):
    yield number, dict(zip(columns, row, strict=True))


def _values(column: Any) -> list[Any]:
  from pyarrow import types

  if types.is_dictionary(column.type):
    column = column.cast(column.type.value_type)
  if types.is_string(column.type) or types.is_large_string(column.type):
    column = column.cast("large_binary")
  return column.to_pylist()


READERS: dict[str, Reader] = {
  ".csv": _separated(","),
  ".tsv": _separated("\t"),
  ".jsonl": _json_lines,
  ".parquet": _parquet,
}
