"""Plain text from files, one document per line, as a seqio data source.

Every hundredth document is the validation split.
"""

import json
from collections.abc import Iterator
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import text_files, token_arrays

TFDS = "tfds:"
VALIDATION_EVERY = 100
TEXT_SUFFIX, LABELLED_SUFFIX = ".txt", ".jsonl"  # in a folder


def source(text: str, *, labelled: bool = False) -> seqio.DataSource:
  """The documents that `text` names: a file, a folder, a pattern or "tfds:NAME".

  Examples are {"text": document}, or {"prefix", "inputs", "targets"} where `labelled`.

  Raises:
    InputError: It names no file, or the files hold no document.
  """
  if text.startswith(TFDS):
    return _tfds(text, labelled)
  paths = text_files.find(text, LABELLED_SUFFIX if labelled else TEXT_SUFFIX)
  names = ("prefix", "inputs", "targets") if labelled else ("text",)
  parse = _labelled if labelled else _plain
  if next(text_files.lines(paths), None) is None:
    raise text_files.empty(text)
  if labelled:
    for line in text_files.lines(paths):
      _labelled(line)  # TensorFlow would bury the error

  def dataset(split: str, shuffle_files: bool = False, seed: int | None = None):
    def generate() -> Iterator[dict[str, str]]:
      for i, line in enumerate(text_files.lines(paths)):
        held_out = i % VALIDATION_EVERY == VALIDATION_EVERY - 1
        if held_out == (split == "validation"):
          yield parse(line)

    signature = {name: tf.TensorSpec([], tf.string) for name in names}
    found = tf.data.Dataset.from_generator(generate, output_signature=signature)
    # The pipeline shuffles once more, but through a small buffer.
    return found.shuffle(100_000, seed=seed) if shuffle_files else found

  return seqio.FunctionDataSource(dataset, splits=token_arrays.SPLITS)


def _tfds(text: str, labelled: bool) -> seqio.DataSource:
  """A data set of TFDS, which must be known and have a version in its name."""
  try:
    found = seqio.TfdsDataSource(text.removeprefix(TFDS))
    known = bool(found.splits)
  except ValueError as error:
    raise checks.InputError(
      f"TEXT {text!r} cannot be used ({str(error).splitlines()[0]}), expected "
      "'tfds:NAME:VERSION', e.g. 'tfds:c4/en:3.1.0'; correct TEXT"
    ) from error
  if not known or labelled:
    raise checks.InputError(
      f"TEXT {text!r} is not prepared on this machine or holds no labelled lines, expected "
      "text; set --tfds_data_dir to where it lies, or TEXT to files"
    )
  return found


def _plain(line: str) -> dict[str, Any]:
  return {"text": line}


def _labelled(line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
    return {name: str(row[name]) for name in ("prefix", "inputs", "targets")}
  except (ValueError, KeyError, TypeError) as error:
    raise checks.InputError(
      f"a labelled line is {line[:60]!r} ({error}), expected "
      '{"prefix": ..., "inputs": ..., "targets": ...}; correct the file'
    ) from error
