"""Saying what is wrong with rows and columns: all of it at once, by place and number."""

import collections
from collections.abc import Sequence

from prompt_tuning import checks

_SHOWN = 5  # rows of each place that an error names


class Problems:
  """Rows that cannot be used: the first few in words, all of them counted.

  Args:
    what: Of whose rows.
  """

  def __init__(self, what: str):
    self._what = what
    self._found: dict[str, list[str]] = collections.defaultdict(list)

  def add(self, place: str, row: int, problem: str) -> None:
    """Says what is wrong with a row."""
    self._found[place].append(f"  {place} row {row}: {problem}")

  def check(self) -> None:
    """Raises `InputError` where there was a problem."""
    if not self._found:
      return
    lines: list[str] = []
    for place, found in self._found.items():
      lines += found[:_SHOWN]
      if len(found) > _SHOWN:
        lines.append(f"  {place}: {len(found) - _SHOWN:,} more")
    count = sum(map(len, self._found.values()))
    raise checks.InputError(
      f"{count:,} row{'s' if count > 1 else ''} of {self._what} cannot be used, expected "
      "an input and a target in every one; correct or remove them\n" + "\n".join(lines)
    )


def check_columns(place: str, there: Sequence[str], wanted: Sequence[str]) -> None:
  """Raises `InputError` unless all of `wanted` is `there`, and no name twice."""
  odd = [name for name in there if not _is_text(name)]
  if odd:
    raise checks.InputError(
      f"{place} has a column {odd[0]!r}, expected names in UTF-8; save it as UTF-8"
    )
  twice = [name for name, count in collections.Counter(there).items() if count > 1]
  if twice:
    raise checks.InputError(
      f"{place} has more than one column {_quoted(twice)}, expected every name once; "
      "rename them"
    )
  missing = [name for name in wanted if name not in there]
  if missing:
    close = [name for one in missing for name in checks.nearest(one, there)]
    raise checks.InputError(
      f"{place} has no column {_quoted(missing)}, expected one of its own: "
      f"{_quoted(dict.fromkeys([*close, *there]))}; correct the input template, the target "
      "column or the file"
    )


def _is_text(name: str) -> bool:
  whole = name.encode(errors="ignore").decode() == name
  return whole and "\0" not in name


def _quoted(names: Sequence[str] | dict[str, None]) -> str:
  return ", ".join(map(repr, names))
