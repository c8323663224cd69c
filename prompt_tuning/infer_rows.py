"""Inference over rows of one's own: read, asked, answered, written, a window at a time.

A window is a few batches of rows, and begins at the same rows in every run. The model
therefore sees the same batches after an interruption, and answers the same to the last
bit; a window that was cut is answered again as a whole, and the lines that are there are
not written twice.
"""

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from prompt_tuning import checks, formats
from prompt_tuning.answers_file import AnswerLines, Seen
from prompt_tuning.data import rows
from prompt_tuning.data.rows import Row
from prompt_tuning.predictor import Predictor
from prompt_tuning.predictor_config import PredictorConfig
from prompt_tuning.progress import Progress
from prompt_tuning.queries import Answer, Prepared
from prompt_tuning.row_queries import RowQueries

_BATCHES = 8  # of a window
_DIGITS = 16  # of a digest that is shown


class Outcome(NamedTuple):
  """What a run left.

  Attributes:
    rows: Lines in all.
    new: Those that this run wrote.
    failed: Those in all that hold an error.
  """

  rows: int
  new: int
  failed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferRows:
  """One pass over rows.

  Attributes:
    predictor: The model and its prompts.
    queries: What is asked.
    source: Where the rows are, see `rows.read`.
    format: Of the source.
    window: Rows that are read before the first of them is answered; None takes eight
      batches.
  """

  predictor: PredictorConfig
  queries: RowQueries
  source: str
  format: str
  window: int | None = None

  @property
  def window_rows(self) -> int:
    """Rows of a window."""
    return _BATCHES * self.predictor.batch_size if self.window is None else self.window

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.predictor.check()
    self.queries.check()
    checks.whole("--window", self.window_rows, 1, "give a number of rows")

  def fitted(self) -> "InferRows":
    """The same with a bank that has room for the prompts given and no more.

    Raises:
      InputError: A prompt cannot be read, or none has labels and rows are to be ranked.
    """
    model = self.predictor
    found = {name: formats.read_prompt(path) for name, path in model.prompts.items()}
    labels = {name: file.metadata.get("labels") for name, file in found.items()}
    self.queries.check_ranking({**labels, **model.labels}.get)
    lengths = [file.prompt.shape[-2] for file in found.values()]
    predictor = dataclasses.replace(
      model, capacity=max(1, len(lengths)), max_prompt_len=max([1, *lengths])
    )
    return dataclasses.replace(self, predictor=predictor)

  def identity(self) -> dict[str, str]:
    """{what the answers depend on: in words}, apart from the rows.

    Raises:
      InputError: The checkpoint or a prompt cannot be read.
    """
    model, asked = self.predictor, self.queries
    checkpoint = formats.load(model.checkpoint.path)
    found: dict[str, object] = {
      "checkpoint": f"{checkpoint.path}, step {checkpoint.step}",
      "dtype": model.checkpoint.dtype,
      "model": model.model,
      "vocabulary": model.vocabulary.fingerprint()[:_DIGITS],
      "decoding": model.decoding,
      "batch size": model.batch_size,
      "window": self.window_rows,
      "longest input": model.max_input_len,
      "longest output": model.max_output_len,
      **{f"prompt {name!r}": _digest(path) for name, path in model.prompts.items()},
      **{f"labels of {name!r}": list(words) for name, words in model.labels.items()},
      "format": self.format,
      "template": asked.template.text,
    }
    for field in dataclasses.fields(asked):
      if field.name not in ("template", "prompts"):
        found[field.name.replace("_", " ")] = getattr(asked, field.name)
    return {key: str(value) for key, value in found.items()}


def infer_rows(run: InferRows, answers: AnswerLines) -> Outcome:
  """Answers every row that has no line yet; the model is loaded where there is one.

  Args:
    run: The pass.
    answers: Where the lines go.

  Raises:
    InputError: The source cannot be read to its end, is not the one whose rows have lines
      already, or nothing in it can be asked; or the model is not the one that answered
      before. What was read has lines all the same.
  """
  trail = _Trail(run.source, answers)
  readable = _Readable(rows.read(run.source, run.format, run.queries.columns()))
  source = trail.following(readable)
  asker, failed = None, answers.failed
  bar = Progress("infer", 0, done=answers.done)
  try:
    for number, window in enumerate(_windows(source, run.window_rows)):
      if number == 0:
        rows.check_columns(run.source, window, run.queries.columns())
      new = [row for row in window if row.number >= answers.done]
      if not new:
        continue
      if asker is None:
        asker = _Asker(run)
        answers.check_model(asker.fingerprint)
      lines = asker.lines(window)[-len(new) :]
      answers.append([line for line, _ in lines])
      answers.note(trail.seen())
      failed += sum(not answered for _, answered in lines)
      bar.update(trail.rows, asker.rates(len(new)))
  finally:
    bar.close()
  if readable.problem is None:
    trail.check_end()
  answers.note(trail.seen(), last=True)
  if readable.problem is not None:
    raise readable.problem
  return Outcome(trail.rows, trail.rows - answers.done, failed)


class _Asker:
  """The model, and how fast it answers."""

  def __init__(self, run: InferRows):
    self._predictor: Predictor = run.predictor.load()
    self._queries = run.queries
    for labels in run.queries.all_labels():  # else every row would have the same error
      self._predictor.check_labels(labels)
    self.fingerprint: str = self._predictor.base.fingerprint
    self._rows = self._tokens = 0
    self._began = time.monotonic()

  def lines(self, window: Sequence[Row]) -> list[tuple[str, bool]]:
    """(line, whether it is an answer) of every row."""
    asked = [self._prepared(row) for row in window]
    prepared = [one for one in asked if isinstance(one, Prepared)]
    answers = iter(self._predictor.answer(prepared))
    return [self._line(row, one, answers) for row, one in zip(window, asked, strict=True)]

  def _line(
    self,
    row: Row,
    asked: Prepared | Exception,
    answers: Iterator[Answer | Exception],
  ) -> tuple[str, bool]:
    try:
      if isinstance(asked, Exception):
        raise asked
      answer = next(answers)
      if isinstance(answer, Exception):
        raise answer
      self._tokens += answer.tokens
      return self._queries.line(row, asked.query, answer), True
    except checks.InputError as error:
      return self._queries.problem_line(row, str(error)), False

  def _prepared(self, row: Row) -> Prepared | checks.InputError:
    try:
      query = self._queries.query(row, self._predictor.labels)
      return self._predictor.prepare(query)
    except checks.InputError as error:
      return error

  def rates(self, count: int) -> dict[str, float]:
    """Rows and tokens a second, after `count` more rows."""
    self._rows += count
    elapsed = max(time.monotonic() - self._began, 1e-9)
    return {"rows/s": self._rows / elapsed, "tokens/s": self._tokens / elapsed}


class _Readable:
  """Rows up to where the source cannot be read on: those before it are to have lines.

  Attributes:
    problem: What ended the rows before the source's end, or None.
  """

  def __init__(self, source: Iterable[Row]):
    self.problem: checks.InputError | None = None
    self._source = source

  def __iter__(self) -> Iterator[Row]:
    try:
      yield from self._source
    except checks.InputError as error:
      self.problem = error


class _Trail:
  """The rows that were read, compared with those that have lines already."""

  def __init__(self, source: str, answers: AnswerLines):
    self.rows = 0
    self._source, self._answers = rows.place(source), answers
    self._before = answers.seen
    self._digest = hashlib.sha256()

  def following(self, source: Iterable[Row]) -> Iterator[Row]:
    """The rows, each of them noted."""
    for row in source:
      self._digest.update(repr((row.values, row.problem)).encode(errors="surrogatepass"))
      self.rows += 1
      if self._before is not None and self.rows == self._before.rows:
        self._check(self.seen() == self._before)
      yield row

  def seen(self) -> Seen:
    """The rows so far."""
    return Seen(self.rows, self._digest.hexdigest())

  def check_end(self) -> None:
    """Raises `InputError` where there were fewer rows than before."""
    noted = 0 if self._before is None else self._before.rows
    self._check(self.rows >= max(noted, self._answers.done))

  def _check(self, is_same: bool) -> None:
    if not is_same:
      raise checks.InputError(
        f"the first {self._answers.done:,} rows of {self._source} are not those that "
        f"{self._answers.name} answers, expected the same to continue it; restore them, "
        "choose another --output, or remove the file to begin again"
      )


def _windows(source: Iterator[Row], size: int) -> Iterator[list[Row]]:
  while window := list(itertools.islice(source, size)):
    yield window


def _digest(path: str) -> str:
  """What a prompt's file says, shortened."""
  found = formats.read_prompt(path)
  digest = hashlib.sha256(repr((found.prompt.shape, found.metadata)).encode())
  digest.update(found.prompt.tobytes())
  return digest.hexdigest()[:_DIGITS]
