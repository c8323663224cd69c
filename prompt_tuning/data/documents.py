"""Plain text from files, one document per line, as a seqio data source.

Every hundredth document is the validation split.
"""

import json
from collections.abc import Iterator
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import text_files

TFDS = "tfds:"
VALIDATION_EVERY = 100
SPLITS = ("train", "validation")
SUFFIX = {False: ".txt", True: ".jsonl"}  # labelled or not, in a folder


def source(text: str, *, labelled: bool = False) -> seqio.DataSource:
  """The documents that `text` names: a file, a folder, a pattern or "tfds:NAME".

  Examples are {"text": document}, or {"prefix", "inputs", "targets"} where `labelled`.

  Raises:
    InputError: It names no file, or the files hold no document.
  """
  if text.startswith(TFDS):
    return seqio.TfdsDataSource(text.removeprefix(TFDS))
  paths = text_files.find(text, SUFFIX[labelled])
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

  return seqio.FunctionDataSource(dataset, splits=SPLITS)


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
