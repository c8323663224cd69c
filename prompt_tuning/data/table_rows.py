"""Rows of whatever a table may be made of, each with the number a person finds it by.

`table_files` says what that is in files; in data sets it is a count from 1.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.data import row_problems, table_files

_SAVED = "state.json"  # in a folder that Hugging Face `datasets` saved
_KINDS = f"{', '.join(table_files.READERS)} or a folder that Hugging Face datasets saved"


def place(source: Any, split: str) -> str:
  """What messages call a source: its path, or its type and split."""
  if isinstance(source, str | os.PathLike):
    return os.fspath(source)
  return f"the {split} {type(source).__name__}"


def read(
  source: Any, split: str, columns: Sequence[str], problems: row_problems.Problems
) -> table_files.Rows:
  """The rows of a source with the values of `columns`.

  Args:
    source: As `Table.train`.
    split: What it is, for messages.
    columns: The names that are needed.
    problems: Takes the rows that are left out.

  Raises:
    InputError: There is no such file, it is of another kind, or a column is missing.
  """
  name = place(source, split)
  if not isinstance(source, str | os.PathLike):
    yield from _in_memory(source, name, columns)
    return
  with _reading(name):
    path = _existing(source)
    if path.is_dir():
      yield from _in_memory(_saved(path), name, columns)
    else:
      read_file = table_files.READERS[path.suffix.lower()]
      yield from read_file(path, name, columns, problems)


def fingerprint(source: Any, split: str, columns: Sequence[str]) -> str:
  """SHA-256 of the files, or what a data set says of itself, or SHA-256 of its rows.

  Raises:
    InputError: As `read`.
  """
  name = place(source, split)
  if not isinstance(source, str | os.PathLike):
    rows = _in_memory(source, name, columns)
    known = getattr(source, "_fingerprint", None)
    return known or _sha256(json.dumps(row, default=repr) for row in rows)
  with _reading(name):
    path = _existing(source)
    if not path.is_dir():
      return files.sha256(path)
    parts = [path / _SAVED, *sorted(path.glob("*.arrow"))]
    return _sha256(f"{part.name} {files.sha256(part)}\n" for part in parts)


def _sha256(texts: Iterable[str]) -> str:
  digest = hashlib.sha256()
  for text in texts:
    digest.update(text.encode())
  return digest.hexdigest()


def _existing(source: str | os.PathLike) -> epath.Path:
  """The path of a file or folder of a kind that can be read."""
  path = files.path(source)
  if path.is_dir():
    if (path / _SAVED).exists():
      return path
    splits = ", ".join(sorted(found.parent.name for found in path.glob(f"*/{_SAVED}")))
    raise checks.InputError(
      f"{source} is a folder, expected {_KINDS}; "
      + (f"name one of the splits in it: {splits}" if splits else "name a file")
    )
  if not path.exists():
    raise checks.InputError(
      f"there is no file {source}, expected {_KINDS}; correct its path"
    )
  if path.suffix.lower() not in table_files.READERS:
    raise checks.InputError(
      f"{source} has the suffix {path.suffix!r}, expected {_KINDS}; convert or rename it"
    )
  return path


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
  """Turns what goes wrong with a file into `InputError`."""
  try:
    yield
  except checks.InputError:
    raise
  except Exception as error:  # a bucket's client has errors of its own
    if not isinstance(error, OSError) and not files.is_remote(name):
      raise
    why = getattr(error, "strerror", None) or str(error)[:120]
    raise checks.InputError(
      f"{name} cannot be read ({why}), expected a whole file; copy it again or correct its "
      "path or permissions"
    ) from error


def _saved(path: epath.Path) -> Any:
  """A data set that `save_to_disk` of Hugging Face `datasets` wrote.

  Raises:
    InputError: The package is not installed, or the folder is damaged.
  """
  try:
    import datasets
  except ImportError as error:
    raise checks.InputError(
      f"{path} was saved by Hugging Face datasets, which is not installed; "
      "pip install 'prompt-tuning[datasets]'"
    ) from error
  try:
    return datasets.load_from_disk(str(path))
  except (KeyError, TypeError, ValueError) as error:  # pyarrow's are ValueErrors
    raise checks.InputError(
      f"{path} cannot be read ({str(error)[:120]}), expected a folder that save_to_disk "
      "wrote; save it again"
    ) from error


def _in_memory(source: Any, name: str, columns: Sequence[str]) -> table_files.Rows:
  """Rows of what has named columns."""
  names = source if isinstance(source, Mapping) else getattr(source, "column_names", None)
  in_splits = isinstance(getattr(source, "column_names", None), Mapping)
  if names is None or in_splits or not hasattr(source, "__len__"):
    raise checks.InputError(
      f"{name} cannot be used, expected a path, one split of a datasets.Dataset in memory "
      "or a dict of columns; give one of these"
    )
  row_problems.check_columns(name, list(map(str, names)), columns)
  if hasattr(source, "with_format"):
    source = source.with_format(None)  # no tensors
  found = [_listed(source[column]) for column in columns]
  if len(set(map(len, found))) > 1:
    counts = ", ".join(str(len(values)) for values in found)
    raise checks.InputError(
      f"{name} has columns of {counts} values, expected as many in each; correct them"
    )
  for number, values in enumerate(zip(*found, strict=True), 1):
    yield number, dict(zip(columns, values, strict=True))


def _listed(column: Any) -> list[Any]:
  """The values of a column as Python has them."""
  for method in ("to_pylist", "tolist"):  # pyarrow's, NumPy's and pandas'
    if hasattr(column, method):
      return getattr(column, method)()
  return list(column)
