"""Lines that answer rows, in the order of the rows, in a file that can be continued.

  answers.jsonl            line n answers row n
  answers.jsonl.run.json   what the answers depend on: settings, model, the rows so far

Every call of `append` is handed to the operating system before it returns, so that
`kill -9` loses no line that was written, and cuts at most the last one. Only `close` waits
for the disk: a power cut may take the lines of the last seconds or leave a hole in them,
and what is there is therefore read back and cut at the first line that is not whole. What
is lost is answered again.
"""

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

from etils import epath

from prompt_tuning import checks, files

STDOUT = "-"
_SECONDS_BETWEEN_NOTES = 1.0


class Seen(NamedTuple):
  """The rows that were read when lines were written.

  Attributes:
    rows: How many.
    sha256: Digest of them all.
  """

  rows: int
  sha256: str


class AnswerLines(Protocol):
  """Where lines go.

  Attributes:
    name: What messages call it.
    done: Lines that were there already.
    failed: Those of them that hold an error.
    seen: The rows behind them, as far as that was noted.
  """

  name: str
  done: int
  failed: int
  seen: Seen | None

  def check_model(self, fingerprint: str) -> None:
    """Remembers the model, or raises `InputError` where another one gave the lines."""

  def append(self, lines: Sequence[str]) -> None:
    """Writes lines, each with its end."""

  def note(self, seen: Seen, last: bool = False) -> None:
    """Remembers the rows that the lines so far belong to, now and then and at the last."""


class Printed:
  """Lines to stdout; there is nothing to continue."""

  name = "stdout"
  done = failed = 0
  seen: Seen | None = None

  def check_model(self, fingerprint: str) -> None:
    """Remembers nothing."""

  def append(self, lines: Sequence[str]) -> None:
    """Prints lines and flushes them, for whoever reads along."""
    sys.stdout.buffer.write("".join(lines).encode())
    sys.stdout.buffer.flush()

  def note(self, seen: Seen, last: bool = False) -> None:
    """Remembers nothing."""


class AnswersFile:
  """Lines in a file, after those that a run with the same settings left there.

  Args:
    name: Path of the file, on a disk of this machine.
    settings: {what the answers depend on: in words}.

  Raises:
    InputError: The file is another's, is being written, or was written with other
      settings.
  """

  def __init__(self, name: str, settings: Mapping[str, str]):
    if files.is_remote(name):
      raise checks.InputError(
        f"the answers are to be written to {name}, expected a disk of this machine, since "
        "nothing can be appended to in a bucket; write them here and copy them"
      )
    self.name, self._settings = name, dict(settings)
    self._model: str | None = None  # fingerprint of the one that gave the lines
    self._path = path = files.path(name)
    self._notes = path.parent / f"{path.name}.run.json"
    if os.path.exists(path) and not os.path.isfile(path):
      raise checks.InputError(
        f"{name} is no ordinary file, expected one that can be continued, or - for stdout; "
        "choose another --output"
      )
    with files.writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      self._file: BinaryIO = open(path, "ab+", buffering=0)  # noqa: SIM115
    try:
      self._continue()
    except BaseException:
      self._file.close()
      raise
    self._noted = time.monotonic()

  def _continue(self) -> None:
    """Keeps what is there, cut at the last whole line."""
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise checks.InputError(
        f"{self.name} is being written by another process, expected one at a time; wait "
        "for it or choose another --output"
      ) from error
    except OSError:
      pass  # a file system without locks
    empty = self._file.seek(0, 2) == 0
    self.seen = None if empty else self._check_notes()
    self._file.seek(0)
    self.done, self.failed, size = _whole_lines(self._file)
    self._file.truncate(size)
    if empty:
      self._write_notes(None)

  def _check_notes(self) -> Seen | None:
    """What was noted of the rows, once the settings were found to be the same."""
    settings, self._model, seen = _read_notes(self._notes, self.name)
    differing = [
      f"  {key}: {settings.get(key)} before, {self._settings.get(key)} now"
      for key in {**settings, **self._settings}
      if settings.get(key) != self._settings.get(key)
    ]
    if differing:
      raise checks.InputError(
        f"{self.name} holds answers of a run with other settings, expected the same to "
        "continue it; restore them, choose another --output, or remove the file to begin "
        "again\n" + "\n".join(differing)
      )
    return seen

  def check_model(self, fingerprint: str) -> None:
    """Remembers the model that gives the lines; to be called before the first `append`.

    Settings name a checkpoint by path and step, where another model may have come to lie.

    Raises:
      InputError: Another one gave the lines that are there.
    """
    if self._model == fingerprint:
      return
    if self.done and self._model is not None:
      raise checks.InputError(
        f"{self.name} holds answers of a model whose fingerprint is {self._model}, and the "
        f"checkpoint's is {fingerprint} now, expected the same to continue it; restore the "
        "checkpoint, choose another --output, or remove the file to begin again"
      )
    self._model = fingerprint
    self._write_notes(self.seen)

  def append(self, lines: Sequence[str]) -> None:
    """Writes lines; they are the operating system's when this returns.

    Raises:
      InputError: The disk is full or gone.
    """
    content = memoryview("".join(lines).encode())
    with self._room():
      while content:
        content = content[self._file.write(content) :]

  def note(self, seen: Seen, last: bool = False) -> None:
    """Remembers the rows, at most once a second; never fewer than before."""
    due = last or time.monotonic() - self._noted >= _SECONDS_BETWEEN_NOTES
    if not due or (self.seen is not None and seen.rows <= self.seen.rows):
      return
    self._noted, self.seen = time.monotonic(), seen
    self._write_notes(seen)

  def _write_notes(self, seen: Seen | None) -> None:
    notes: dict[str, Any] = {"settings": self._settings, "model": self._model}
    notes["rows"] = None if seen is None else seen._asdict()
    content = json.dumps(notes, indent=2, ensure_ascii=False) + "\n"
    with files.writing(self._notes):
      files.write_atomically(self._notes, content.encode())

  def close(self) -> None:
    """Waits until all is on the disk."""
    with self._room(), self._file:
      os.fsync(self._file.fileno())

  @contextlib.contextmanager
  def _room(self) -> Iterator[None]:
    """Turns what goes wrong with the disk into `InputError`."""
    try:
      yield
    except OSError as error:
      raise checks.InputError(
        f"{self.name} cannot be written to its end ({error.strerror or error}), expected "
        "room on the disk; make some and give the same command again, which continues"
      ) from error


@contextlib.contextmanager
def opened(name: str, settings: Mapping[str, str]) -> Iterator[AnswerLines]:
  """Where lines go: a file, or stdout for "-"; see `AnswersFile`."""
  if name == STDOUT:
    yield Printed()
    return
  with contextlib.closing(AnswersFile(name, settings)) as answers:
    yield answers


def _whole_lines(source: BinaryIO) -> tuple[int, int, int]:
  """(lines, those with an error, bytes) up to the first that is not whole."""
  count = failed = size = 0
  with open(source.fileno(), "rb", closefd=False) as lines:
    for line in lines:
      found = _parsed(line)
      if found is None or found.get("row") != count:
        break
      count, size = count + 1, size + len(line)
      failed += "error" in found
  return count, failed, size


def _parsed(line: bytes) -> dict[str, Any] | None:
  """The object in a line, or None where the line is damaged or has no end."""
  try:
    found = json.loads(line) if line.endswith(b"\n") else None
  except (ValueError, RecursionError):
    return None
  return found if isinstance(found, dict) else None


def _read_notes(
  path: epath.Path, name: str
) -> tuple[dict[str, str], str | None, Seen | None]:
  """(settings, model, rows) of a file of notes.

  Raises:
    InputError: There is none, or it is damaged.
  """
  if not path.exists():
    raise checks.InputError(
      f"{name} exists without {path.name}, which says what made it; expected a new name, "
      "since nothing is overwritten; choose another --output or remove it"
    )
  try:
    notes = json.loads(path.read_bytes())
    settings, model, seen = dict(notes["settings"]), notes.get("model"), notes["rows"]
    return settings, model, None if seen is None else Seen(**seen)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise checks.InputError(
      f"{path} cannot be read ({str(error)[:120]}), expected what a run wrote; remove it "
      f"and {name} to begin again"
    ) from error
