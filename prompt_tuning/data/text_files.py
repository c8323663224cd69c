"""Finding and reading files of plain text, one document per line.

Bytes that are not UTF-8 become U+FFFD; `invalid_lines` counts the lines that had some.
"""

import glob
import os
import pathlib
from collections.abc import Iterator, Sequence

from prompt_tuning import checks, files


def find(text: str, suffix: str = ".txt") -> list[pathlib.Path]:
  """The files that a file, a folder (all of `suffix`) or a pattern names, in order.

  Raises:
    InputError: There is none.
  """
  place = pathlib.Path(os.path.expanduser(text))
  if place.is_dir():
    found = list(place.rglob(f"*{suffix}"))
  elif place.is_file():
    found = [place]
  else:
    found = [pathlib.Path(name) for name in glob.glob(str(place), recursive=True)]
  found = [path for path in found if path.is_file()]
  if not found:
    raise checks.InputError(
      f"TEXT {text!r} names no file, expected a file, a folder of {suffix} files or a "
      "pattern; correct TEXT"
    )
  return sorted(found)


def lines(paths: list[pathlib.Path]) -> Iterator[str]:
  """The lines of some files that are not blank; see `invalid_lines` for bad bytes."""
  for path in paths:
    with path.open(encoding="utf-8-sig", errors="replace") as rows:
      yield from (row.strip() for row in rows if not row.isspace())


def hashes(paths: Sequence[pathlib.Path]) -> dict[str, str]:
  """SHA-256 of some files, by their path below the folder that they share."""
  if not paths:
    return {}
  shared = os.path.commonpath([path.parent for path in paths])
  return {os.path.relpath(path, shared): files.sha256(path) for path in paths}


def invalid_lines(paths: list[pathlib.Path]) -> int:
  """Lines that are not UTF-8, which `lines` repairs."""
  found = 0
  for path in paths:
    with path.open("rb") as rows:
      found += sum(not _is_utf8(row) for row in rows)
  return found


def _is_utf8(row: bytes) -> bool:
  try:
    row.decode("utf-8")
  except UnicodeDecodeError:
    return False
  return True


def empty(text: str) -> checks.InputError:
  """The error for a place without text."""
  return checks.InputError(
    f"the text {text!r} is empty, expected one document per line; correct TEXT or run "
    "`prompt-tuning corpus`"
  )
