"""From a row to what is asked of the model, and from the answer to a line."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prompt_tuning import checks
from prompt_tuning.data import rows
from prompt_tuning.data.rows import Row, Template
from prompt_tuning.queries import Answer, Query

MODES = ("predict", "score", "rank")
_OWN_FIELDS = ("row", "prompt", "prediction", "score", "scores", "error")
_BETWEEN_LABELS = "|"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_DECIMALS = 6  # of scores; float32 has no more
_Fields = dict[str, Any]  # of a line

# {a prompt: what it chooses from}; None is the untuned model
LabelsOf = Callable[[str | None], tuple[str, ...] | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowQueries:
  """What is asked about every row.

  Attributes:
    mode: "predict" chooses where a prompt has labels and decodes where it has none, "rank"
      chooses, "score" gives the log-likelihood of a target.
    template: Of the text.
    prompts: Names of the prompts that there are.
    prompt_column: Which of them a row is for, empty for the untuned model; None where
      there is one prompt, or none, for all.
    target_column: The target of "score".
    labels: What rows choose from, whatever their prompt.
    prompt_labels: {prompt: what its rows choose from}, before `labels`.
    label_column: A row's own labels, before all others: a list, or one as JSON, or text
      with "|" between them.
    length_normalized: Whether scores are per target token.
    keep: Columns that are copied to the answers.
  """

  mode: str = "predict"
  template: Template
  prompts: Sequence[str] = ()
  prompt_column: str | None = None
  target_column: str | None = None
  labels: tuple[str, ...] | None = None
  prompt_labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  label_column: str | None = None
  length_normalized: bool = False
  keep: Sequence[str] = ()

  def check(self) -> None:
    """Raises `InputError` for settings that no row can be answered with."""
    checks.choice("mode", self.mode, MODES)
    self._check_prompts()
    self._check_labels()
    if (self.mode == "score") != (self.target_column is not None):
      raise checks.InputError(
        f"the mode is {self.mode} and --target-column {self.target_column}, expected a "
        "column of targets for the mode score and for no other; correct one of them"
      )
    own = [name for name in self.keep if name in _OWN_FIELDS]
    if own:
      raise checks.InputError(
        f"--keep names {own[0]!r}, expected none of the answer's own fields: "
        f"{', '.join(_OWN_FIELDS)}; rename the column"
      )

  def _check_prompts(self) -> None:
    if self.prompt_column is None and len(self.prompts) > 1:
      raise checks.InputError(
        f"there are {len(self.prompts)} prompts, {', '.join(self.prompts)}, expected one "
        "for all rows or a column that says which; give --prompt-column"
      )
    if self.prompt_column is not None and not self.prompts:
      raise checks.InputError(
        f"--prompt-column {self.prompt_column} is given and no prompt, expected those that "
        "it names; give --prompt NAME=PATH"
      )

  def _check_labels(self) -> None:
    for name in self.prompt_labels:
      if name not in self.prompts:
        raise checks.unknown("prompt in --labels", name, list(self.prompts))
    if self.mode == "score" and (self.labels or self.prompt_labels or self.label_column):
      raise checks.InputError(
        "labels are given for the mode score, expected a --target-column only; choose the "
        "mode rank or leave them out"
      )
    for labels in self.all_labels():
      _check_words(labels)

  def check_ranking(self, labels_of: Callable[[str], Any]) -> None:
    """Raises `InputError` where rows are to be ranked and none can have labels."""
    if self.mode != "rank" or self.label_column is not None or self.labels is not None:
      return
    if not any(self.prompt_labels.get(name) or labels_of(name) for name in self.prompts):
      raise checks.InputError(
        "the mode is rank and there are no labels, neither given nor in a prompt's file; "
        "expected what to choose from; give --labels or --label-column"
      )

  def all_labels(self) -> list[tuple[str, ...]]:
    """The lists of labels that are given here."""
    general = [] if self.labels is None else [self.labels]
    return [*general, *self.prompt_labels.values()]

  def columns(self) -> list[str]:
    """The columns that are read, each once."""
    given = (self.prompt_column, self.target_column, self.label_column)
    named = [name for name in given if name is not None]
    return list(dict.fromkeys([*self.template.columns, *named, *self.keep]))

  def query(self, row: Row, labels_of: LabelsOf) -> Query:
    """What is asked about a row.

    Args:
      row: The row.
      labels_of: What a prompt chooses from where nothing given here says it.

    Raises:
      InputError: Nothing can be asked.
    """
    if row.problem is not None:
      raise checks.InputError(row.problem)
    text = self.template.fill(row.values)
    prompt = self._prompt(row)
    return Query(
      text=text,
      prompt=prompt,
      candidates=self._candidates(row, prompt, labels_of),
      length_normalized=self.length_normalized,
    )

  def _prompt(self, row: Row) -> str | None:
    if self.prompt_column is None:
      return self.prompts[0] if self.prompts else None
    if row.values.get(self.prompt_column, "") is None:
      return None
    name = rows.cell(row.values, self.prompt_column).strip()
    if name and name not in self.prompts:
      raise checks.unknown("prompt", name, list(self.prompts))
    return name or None

  def _candidates(
    self, row: Row, prompt: str | None, labels_of: LabelsOf
  ) -> tuple[str, ...] | None:
    if self.target_column is not None:
      return (rows.cell(row.values, self.target_column),)
    found = self._own_labels(row)
    if found is None and prompt is not None:
      found = self.prompt_labels.get(prompt)
    found = found or self.labels or labels_of(prompt)
    if found is None and self.mode == "rank":
      whose = "the untuned model" if prompt is None else f"the prompt {prompt!r}"
      raise checks.InputError(
        f"{whose} has no labels, expected what to choose from; give --labels or "
        "--label-column"
      )
    return found

  def _own_labels(self, row: Row) -> tuple[str, ...] | None:
    """The labels in the row; None where there are none."""
    if self.label_column is None:
      return None
    value = row.values.get(self.label_column, "")
    if value is None or value == []:
      return None
    if isinstance(value, list):
      return _check_words(tuple(value))
    text = rows.cell(row.values, self.label_column)
    return words(text, _BETWEEN_LABELS) if text.strip() else None

  def line(self, row: Row, query: Query, answer: Answer) -> str:
    """The line of an answer.

    Raises:
      InputError: It cannot be written as JSON.
    """
    if not all(map(math.isfinite, (answer.score, *answer.scores))):
      raise checks.InputError(f"its score is {answer.score}, expected a finite number")
    found: _Fields = {"row": row.number, "prompt": query.prompt}
    if self.target_column is None:
      found["prediction"] = answer.text
    found["score"] = round(answer.score, _DECIMALS)
    if self.target_column is None and query.candidates is not None:
      scores = [round(score, _DECIMALS) for score in answer.scores]
      found["scores"] = dict(zip(query.candidates, scores, strict=True))
    kept = {name: row.values.get(name) for name in self.keep}
    try:
      return _json({**found, **kept})
    except (ValueError, RecursionError) as error:  # NaN, or a number of 5,000 digits
      raise checks.InputError(
        f"a column to keep cannot be written as JSON ({error})"
      ) from error

  def problem_line(self, row: Row, problem: str) -> str:
    """The line of a row that cannot be answered, with the columns to keep that it has."""
    found: _Fields = {"row": row.number, "error": problem}
    line = _json(found)
    if row.problem is not None:  # its values could not be read
      return line
    for name in self.keep:
      more = {**found, name: row.values.get(name)}
      with contextlib.suppress(ValueError, RecursionError):  # the line goes without it
        line, found = _json(more), more
    return line


def words(text: str, separator: str) -> tuple[str, ...]:
  """Labels in text: a JSON list, or with a separator between them.

  Raises:
    InputError: They are none.
  """
  if text.lstrip().startswith("["):
    try:
      found = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise checks.InputError(
        f"the labels {text!r} are no JSON list ({error}), expected one, or words with "
        f"{separator!r} between them; correct them"
      ) from error
    return _check_words(tuple(found))
  return _check_words(tuple(word.strip() for word in text.split(separator)))


def _check_words(labels: tuple[Any, ...]) -> tuple[str, ...]:
  """The labels, or `InputError`."""
  are_text = all(isinstance(word, str) and word.strip() for word in labels)
  if not labels or not are_text or len(set(labels)) < len(labels):
    raise checks.InputError(
      f"the labels are {list(labels)!r}, expected words, each once; correct them"
    )
  return labels


def _json(fields: Mapping[str, Any]) -> str:
  """A line of JSON; bytes that are no UTF-8 are written as escapes."""
  line = _ENCODER.encode(fields) + "\n"
  try:
    line.encode()
  except UnicodeEncodeError:
    return json.dumps(fields, allow_nan=False) + "\n"
  return line
