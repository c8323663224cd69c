"""The files of the MRQA 2019 shared task as a table of questions.

In, JSON lines, one a passage:  {"context", "qas": [{"qid", "question", "answers"}, ...]}
Out, tab-separated, one a question:  id  context  question  answer  answers

Punctuation is set apart as in the tasks `squad_*` and `mrqa_*`, and answers are joined by
"|||", which is what `Table.answers` takes apart.
"""

import csv
import gzip
import io
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from prompt_tuning import checks, files

COLUMNS = ("id", "context", "question", "answer", "answers")
_SEPARATOR = "|||"
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def convert(source: pathlib.Path, target: pathlib.Path) -> int:
  """Writes a row for every question of a file; returns how many there are.

  Raises:
    InputError: A line is no passage, or the target exists.
  """
  if target.exists():
    raise files.taken(target)
  sink = io.StringIO(newline="")
  writer = csv.writer(sink, delimiter="\t", lineterminator="\n")
  writer.writerow(COLUMNS)
  count = 0
  for number, passage in _passages(source):
    for row in _questions(passage, f"{source}, line {number}"):
      writer.writerow(row)
      count += 1
  with files.writing(target):
    files.write_atomically(files.path(target), sink.getvalue().encode())
  return count


def _passages(source: pathlib.Path) -> Iterator[tuple[int, Any]]:
  opened = gzip.open if source.suffix == ".gz" else open
  try:
    with opened(source, "rt", encoding="utf-8") as lines:
      for number, line in enumerate(lines, 1):
        passage = json.loads(line)
        if not (isinstance(passage, dict) and "header" in passage):
          yield number, passage
  except (OSError, EOFError, ValueError) as error:
    raise checks.InputError(
      f"{source} cannot be read ({error}), expected a file of MRQA, .jsonl or .jsonl.gz"
    ) from error


def _questions(passage: Any, place: str) -> Iterator[tuple[str, ...]]:
  try:
    context = spaced(passage["context"])
    for question in passage["qas"]:
      answers = list(dict.fromkeys(map(spaced, question["answers"])))
      text = spaced(question["question"])
      yield question["qid"], context, text, answers[0], _SEPARATOR.join(answers)
  except (KeyError, IndexError, TypeError) as error:
    raise checks.InputError(
      f"{place} is no passage of MRQA ({type(error).__name__} {error}), expected context "
      "and qas with qid, question and answers; correct the line"
    ) from error


def spaced(text: str) -> str:
  """A space on both sides of every punctuation mark, and no more than one anywhere."""
  return " ".join(_PUNCTUATION.sub(r" \1 ", text).split())
