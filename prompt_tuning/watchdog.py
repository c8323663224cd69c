"""A line on stderr when a step takes far too long, so that a hang is not taken for work."""

import collections
import datetime
import statistics
import sys
import threading
import time

from prompt_tuning import distributed, progress

_LOOKS = 10  # in the shortest time that is too long
_RECENT = 100


class Watchdog:
  """Watches units of work while it is entered. It says something and stops nothing.

  A unit that makes progress of its own, as an evaluation does, is left alone meanwhile.

  Args:
    least: Seconds that a unit may always take.
    factor: It may also take this many times the median of the recent ones of its kind.
  """

  def __init__(self, least: float = 60.0, factor: float = 20.0):
    self._least, self._factor = least, factor
    self._took: dict[str, collections.deque[float]] = {}
    self._what, self._began, self._told = "", 0.0, 0.0
    self._lock, self._ended = threading.Lock(), threading.Event()
    self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

  def beat(self, what: str) -> None:
    """Says that a unit of work begins, and that the one before it has ended.

    Args:
      what: E.g. "step 1201"; its first word is the kind that it is compared with.
    """
    now = time.monotonic()
    with self._lock:
      if self._what:
        self._recent().append(now - self._began)
      self._what, self._began, self._told = what, now, 0.0

  def _recent(self) -> collections.deque[float]:
    """Seconds of the latest units of the kind of this one."""
    kind = self._what.split()[0]
    return self._took.setdefault(kind, collections.deque(maxlen=_RECENT))

  def _watch(self) -> None:
    while not self._ended.wait(self._least / _LOOKS):
      if line := self._line():
        print(line, file=sys.stderr, flush=True)

  def _line(self) -> str | None:
    """What is to be said now, if anything is."""
    with self._lock:
      if not self._what:
        return None
      seconds, recent = time.monotonic() - self._began, self._recent()
      usual = statistics.median(recent) if recent else 0.0
      if seconds < max(self._least, self._factor * usual, 2 * self._told):
        return None
      if time.monotonic() - progress.moved() < self._least:
        return None
      self._told = seconds
      what = self._what
    took = datetime.timedelta(seconds=int(seconds))
    known = f"usually {usual:.1f} s" if recent else "the first, which may be compiling"
    return (
      f"{distributed.name()}{what} has taken {took}, {known}; a device, a network or a "
      "disk may hang; the run is alive and waits"
    )

  def __enter__(self) -> "Watchdog":
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()
