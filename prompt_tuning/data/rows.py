"""Rows of a file or a pipe one after another, whatever its length: none is kept.

What a row is, is as in training (`table_files`): lines without any character are no rows,
except in plain text, where every line is one. Here lines of text and of JSON end in LF or
CRLF and nowhere else, so that a row's number is that of other programs. A row that cannot
be read stands in its place, with what is wrong with it; quotes that do not match end the
rows, since nobody can say where the next one begins.
"""

import contextlib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prompt_tuning import checks, files
from prompt_tuning.data import cells, row_problems, table_files
from prompt_tuning.data.table import Table

STDIN = "-"
TEXT_COLUMN = "text"  # what the lines of plain text are called
_SUFFIXES = {
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".csv": "csv",
  ".tsv": "tsv",
  ".txt": "text",
}
# text -> (line from 1, values or what is wrong with them); may check the columns
_Reader = Callable[[io.TextIOWrapper, str, Sequence[str]], Iterator[tuple[int, Any]]]


class Row(NamedTuple):
  """A row.

  Attributes:
    number: From 0.
    values: {column: value}; {} where it cannot be read.
    problem: What is wrong with it, or None.
  """

  number: int
  values: Mapping[str, Any]
  problem: str | None = None


def format_of(source: str, format: str | None = None) -> str:
  """The format of a source, "jsonl", "csv", "tsv" or "text": as given, or by its suffix.

  Raises:
    InputError: It is none of these.
  """
  if format is not None:
    return checks.choice("format", format, list(FORMATS))
  if source == STDIN:
    return "jsonl"
  name = source.lower().removesuffix(".gz")
  found = _SUFFIXES.get(os.path.splitext(name)[1])
  if found is None:
    raise checks.InputError(
      f"the rows {source} are of no known kind, expected {', '.join(_SUFFIXES)}, with .gz "
      f"behind it or not; rename the file or give --format, one of {', '.join(FORMATS)}"
    )
  return found


def read(source: str, format: str, columns: Sequence[str] = ()) -> Iterator[Row]:
  """The rows of a source, read as they are asked for.

  Args:
    source: A path, compressed where it ends in .gz, or "-" for stdin.
    format: One of `FORMATS`.
    columns: Those that a header must have.

  Raises:
    InputError: It cannot be read, its header lacks a column, or a row's quotes do not
      match; the rows before it have been given by then.
  """
  newline = "" if FORMATS[format] in (_comma, _tab) else "\n"
  with _reading(source), _opened(source) as content:
    text = io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline)
    found = FORMATS[format](text, place(source), columns)
    for number, (line, values) in enumerate(found):
      if isinstance(values, str):
        yield Row(number, {}, f"line {line}: {values}")
      else:
        yield Row(number, values)
    text.detach()  # stdin is not ours to close


def check_columns(source: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
  """Raises `InputError` where a column is in none of some rows."""
  there = dict.fromkeys(name for row in rows for name in row.values)
  missing = [name for name in columns if name not in there]
  if there and missing:
    # Other columns may have any name, also one that cannot be printed: nobody reads them.
    names = dict.fromkeys(name if name.isprintable() else ascii(name) for name in there)
    row_problems.check_columns(place(source), list(names), missing)


def place(source: str) -> str:
  """What messages call a source."""
  return "stdin" if source == STDIN else source


class Template:
  """Names of columns in braces, to be filled with a row's values.

  Args:
    text: As `Table.inputs`, "review: {text}".

  Raises:
    InputError: The braces do not match, or there are none.
  """

  def __init__(self, text: str):
    self.text = text
    self._parts = Table(name="rows", inputs=text, targets="").template()
    self.columns = list(dict.fromkeys(part for part, is_column in self._parts if is_column))

  def fill(self, values: Mapping[str, Any]) -> str:
    """The text of a row.

    Raises:
      InputError: A column is missing or is no text, or all are empty.
    """
    texts = {name: cell(values, name) for name in self.columns}
    if not any(map(str.strip, texts.values())):
      raise checks.InputError(f"its text is empty: {', '.join(map(repr, self.columns))}")
    return "".join(texts[part] if is_column else part for part, is_column in self._parts)


def cell(values: Mapping[str, Any], column: str) -> str:
  """A value of a row as text.

  Raises:
    InputError: There is none, or it is no text that can be encoded.
  """
  if column not in values:
    raise checks.InputError(f"it has no column {column!r}")
  try:
    return cells.text(column, values[column])
  except cells.Unusable as error:
    raise checks.InputError(str(error)) from error


@contextlib.contextmanager
def _opened(source: str) -> Iterator[Any]:
  if source == STDIN:
    yield sys.stdin.buffer
    return
  with files.path(source).open("rb") as content:
    if source.lower().endswith(".gz"):
      with gzip.open(content) as unpacked:
        yield unpacked
    else:
      yield content


@contextlib.contextmanager
def _reading(source: str) -> Iterator[None]:
  """Turns what goes wrong with a source into `InputError`."""
  try:
    yield
  except checks.InputError:
    raise
  except Exception as error:  # a bucket's client has errors of its own
    expected = isinstance(error, OSError | EOFError | zlib.error)
    if not expected and not files.is_remote(source):
      raise
    why = getattr(error, "strerror", None) or str(error)[:120]
    raise checks.InputError(
      f"{place(source)} cannot be read ({why}), expected a whole file of rows; correct its "
      "path or permissions, or copy it again"
    ) from error


def _separated(delimiter: str) -> _Reader:
  def read_cells(
    text: io.TextIOWrapper, name: str, columns: Sequence[str]
  ) -> Iterator[tuple[int, Any]]:
    header: list[str] = []
    for line, found in table_files.separated_cells(text, delimiter):
      if isinstance(found, str):
        raise checks.InputError(
          f"{name} line {line}: {found}, expected cells with quotes in them to stand in "
          "quotes, each of their own doubled; correct the line and give the same command "
          "again"
        )
      elif not header:
        header = found
        row_problems.check_columns(name, header, columns)
      elif len(found) != len(header):
        yield line, f"it has {len(found)} cells, the header {len(header)}"
      else:
        yield line, dict(zip(header, found, strict=True))

  return read_cells


def _json_lines(
  text: io.TextIOWrapper, name: str, columns: Sequence[str]
) -> Iterator[tuple[int, Any]]:
  del name, columns  # there is no header
  for number, line in enumerate(text, 1):
    if line.isspace():
      continue
    try:
      yield number, table_files.json_object(line)
    except (ValueError, RecursionError) as error:
      yield number, str(error)


def _lines(
  text: io.TextIOWrapper, name: str, columns: Sequence[str]
) -> Iterator[tuple[int, Any]]:
  row_problems.check_columns(name, [TEXT_COLUMN], columns)
  for number, line in enumerate(text, 1):
    yield number, {TEXT_COLUMN: line.removesuffix("\n").removesuffix("\r")}


_comma, _tab = _separated(","), _separated("\t")
FORMATS: dict[str, _Reader] = {
  "jsonl": _json_lines,
  "csv": _comma,
  "tsv": _tab,
  "text": _lines,
}
