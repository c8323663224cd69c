"""Files of one's own as a task: data about data, no TensorFlow needed.

reviews = Table(
  name="reviews", train="train.csv", validation="dev.csv", inputs="review: {text}",
  targets="label", labels={"0": "negative", "1": "positive"},
)
reviews.register()
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning import checks
from prompt_tuning.data import quiet, table_rows

SPLITS = ("train", "validation", "test")
_PIECE = re.compile(r"\{(?P<column>[^{}]+)\}|\{\{|\}\}|[^{}]+")
_NAME = re.compile(r"[\w.:#]+")
_HASH_LENGTH = 16  # hexadecimal digits of an identity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Rows with named columns that become a text-to-text task.

  Attributes:
    name: Of the task that is registered.
    train: A .csv, .tsv, .jsonl or .parquet file, a folder that Hugging Face `datasets`
      saved, a `datasets.Dataset` or a dict of columns; None where there is no such split.
    validation: The same.
    test: The same.
    inputs: Template of the input, `"review: {text}"`: names of columns in braces, and
      `{{` and `}}` for braces.
    targets: The column with the target.
    labels: {value in the column: label word}, or the words themselves where the column
      holds them; None for free text. Values are compared as text: 1 is "1".
    metrics: Names that `data.metrics.named` knows.
    answers: The column with all right answers, for the metric "squad": a list, or a list
      as JSON, or text with "|||" between them; None where the target is the only one.
  """

  name: str
  train: Any = None
  validation: Any = None
  test: Any = None
  inputs: str
  targets: str
  labels: Mapping[Any, str] | Sequence[str] | None = None
  metrics: Sequence[str] = ("accuracy",)
  answers: str | None = None

  def register(self) -> None:
    """Reads the rows and adds the task to seqio's registry; nothing where it is there.

    Raises:
      InputError: A file, a row or a setting cannot be used.
    """
    quiet.import_seqio()
    from prompt_tuning.data import table_task

    table_task.register(self)

  def identity(self, splits: Sequence[str] = SPLITS) -> str:
    """What the examples of some splits are made from: it changes when they do.

    Raises:
      InputError: A file or the template cannot be used.
    """
    settings = [self.inputs, self.targets, self.by_value(), self.answers]
    parts = {"settings": hashlib.sha256(json.dumps(settings).encode()).hexdigest()}
    for split, source in self.sources().items():
      if split in splits:
        parts[split] = table_rows.fingerprint(source, split, self.columns())
    return ", ".join(f"{part} {value[:_HASH_LENGTH]}" for part, value in parts.items())

  def sources(self) -> dict[str, Any]:
    """{split: where its rows are}, of the splits that there are."""
    splits = {split: getattr(self, split) for split in SPLITS}
    return {split: source for split, source in splits.items() if source is not None}

  def template(self) -> list[tuple[str, bool]]:
    """The parts of the input: text, and whether it is the name of a column.

    Raises:
      InputError: The braces do not match, or there are none.
    """
    found = list(_PIECE.finditer(self.inputs)) if isinstance(self.inputs, str) else []
    whole = "".join(piece[0] for piece in found) == self.inputs
    if not whole or not any(piece["column"] for piece in found):
      raise checks.InputError(
        f"the input template is {self.inputs!r}, expected names of columns in braces, as "
        "in 'review: {text}'; write {{ and }} for braces that are text"
      )
    return [_part(piece) for piece in found]

  def columns(self) -> list[str]:
    """The columns that are needed, each once."""
    names = [part for part, is_column in self.template() if is_column]
    more = [] if self.answers is None else [self.answers]
    return list(dict.fromkeys([*names, self.targets, *more]))

  def words(self) -> tuple[str, ...] | None:
    """The label words in the order of the classes, or None for free text."""
    found = self.by_value()
    return None if found is None else tuple(dict.fromkeys(found.values()))

  def by_value(self) -> dict[str, str] | None:
    """{a value of the target column as text: its label word}, or None for free text.

    Raises:
      InputError: Two values have one word, or they are no labels at all.
    """
    if self.labels is None:
      return None
    if not _are_words(_words(self.labels)):
      raise checks.InputError(
        f"the label words are {self.labels!r}, expected two or more as a list or as "
        "{value: word}; correct them"
      )
    values = self.labels if isinstance(self.labels, Mapping) else _words(self.labels)
    spellings = [_spellings(value) for value in values]
    found = {
      spelling: word
      for one, word in zip(spellings, _words(self.labels), strict=True)
      for spelling in one
    }
    if len({word.strip() for word in found.values()}) < len(spellings):
      raise checks.InputError(
        f"the label words are {self.labels!r}, expected another word for every value and "
        "every value once; correct them"
      )
    return found

  def check(self) -> None:
    """Raises `InputError` for settings that no file can make good."""
    if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
      raise checks.InputError(
        f"the table's name is {self.name!r}, expected letters, digits and _ . : # only; "
        "choose another"
      )
    for what, column, macro in (
      ("target", self.targets, "TARGET_COLUMN"),
      ("answers", self.answers or "", "ANSWERS_COLUMN"),
    ):
      if not isinstance(column, str):
        raise checks.InputError(
          f"the {what} column of {self.name} is {column!r}, expected its name; set it, "
          f"e.g. {macro}"
        )
    if not self.sources():
      raise checks.InputError(
        f"the table {self.name} has no rows, expected a file or a data set for train, "
        "validation or test; give one, e.g. TRAIN_FILE"
      )
    if not isinstance(self.metrics, list | tuple) or not all(
      isinstance(name, str) for name in self.metrics or [None]
    ):
      raise checks.InputError(
        f"the metrics of {self.name} are {self.metrics!r}, expected a list of names; write "
        "['accuracy']"
      )


def _part(piece: re.Match[str]) -> tuple[str, bool]:
  if piece["column"]:
    return piece["column"], True
  return (piece[0][0] if piece[0] in ("{{", "}}") else piece[0]), False


def _words(labels: Mapping[Any, str] | Sequence[str]) -> Sequence[str]:
  return list(labels.values()) if isinstance(labels, Mapping) else labels


def _are_words(words: Any) -> bool:
  several = isinstance(words, list | tuple) and len(words) > 1
  return several and all(isinstance(word, str) and word.strip() for word in words)


def _spellings(value: Any) -> list[str]:
  """A value as text; truth in the three ways that programs write it."""
  text = str(value)
  if text.lower() not in ("true", "false"):
    return [text]
  return [text.lower(), text.title(), text.upper()]
