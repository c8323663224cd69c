"""How a long job shows that it moves: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from prompt_tuning import distributed

_SECONDS_BETWEEN_LINES = 10.0
_moved = 0.0


def say(text: str) -> None:
  """A line on stderr with the time, from the first process."""
  if distributed.is_first():
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def moved() -> float:
  """When something in this process made progress last, as `time.monotonic` counts."""
  return _moved


class Progress:
  """Progress over steps, on stderr.

  Args:
    what: Word in front, e.g. "train".
    total: Steps in all; 0 where that is not known.
    done: Steps done before this process began.
    rows: Examples per step, for examples/s; 0 where steps differ.
  """

  def __init__(self, what: str, total: int, done: int = 0, rows: int = 0):
    self._what, self._total, self._rows = what, total, rows
    self._first = self._step = done
    self._began = self._shown = time.monotonic()
    self._lines = 0
    self._values: dict[str, str] = {}
    self._bar = None
    self._silent = not distributed.is_first()
    if sys.stderr.isatty() and not self._silent:
      self._bar = tqdm(total=total or None, initial=done, desc=what, file=sys.stderr)

  def update(
    self, step: int, values: Mapping[str, float] | None = None, examples: int = 0
  ) -> None:
    """Says that `step` steps are done.

    Args:
      step: All of them.
      values: What is shown beside it from now on; None for what was.
      examples: Of the steps of this process; 0 for `rows` in each, or to say nothing.
    """
    global _moved
    _moved = time.monotonic()
    if values is not None:
      self._values = {name: _short(value) for name, value in values.items()}
    text = dict(self._values)
    elapsed = max(_moved - self._began, 1e-9)
    rate = (step - self._first) / elapsed
    if examples or self._rows:
      text["examples/s"] = f"{examples / elapsed or rate * self._rows:.1f}"
    if self._bar is not None:
      self._bar.set_postfix(text, refresh=False)
      self._bar.update(step - self._step)
    elif self._due(step):
      self._shown = time.monotonic()
      self._lines += 1
      if self._total:
        text["left"] = _clock((self._total - step) / rate if rate else 0.0)
      shown = " ".join(f"{name}={value}" for name, value in text.items())
      print(
        f"{self._what} {step}/{self._total or '?'} {shown}", file=sys.stderr, flush=True
      )
    self._step = step

  def advance(self) -> None:
    """Says that one more step is done."""
    self.update(self._step + 1)

  def _due(self, step: int) -> bool:
    """Whether a line is due: now and then, and at the end of what took a while."""
    if self._silent:
      return False
    waited = time.monotonic() - self._shown >= _SECONDS_BETWEEN_LINES
    return waited or (0 < self._total <= step and self._lines > 0)

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()


def _short(value: float) -> str:
  """Four digits, or a large number as people write it."""
  return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(int(seconds), 60)
  return f"{minutes:d}:{seconds:02d}"
