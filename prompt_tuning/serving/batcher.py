r"""Texts of all requests in one queue, of which one thread makes passes of the model.

request  request  request      event loop: `submit`, then waits for `Job.done`
    \       |       /
 [ rows of any prompt and kind ]     bounded; a row that nobody waits for leaves at once
            |
 up to batch_size rows, or those there after wait_ms -> `Predictor.answer`   one thread
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Sequence

from prompt_tuning.predictor import Predictor
from prompt_tuning.queries import Answer, Prepared
from prompt_tuning.serving import refusals
from prompt_tuning.serving.limits import Limits
from prompt_tuning.serving.metrics import Metrics

_LOG = logging.getLogger("prompt_tuning.serving")
_LONGEST_RETRY = 30  # seconds


@dataclasses.dataclass(eq=False)
class Job:
  """The rows of one request.

  Attributes:
    rows: What is asked.
    start: When the request came, of `time.monotonic`.
    timeout_ms: How long it waits.
    submitted: When it was queued.
    taken: How many rows have left the queue.
    answers: {row: answer} as far as there are any.
    done: All answers, or the first error.
  """

  rows: list[Prepared]
  start: float
  timeout_ms: int
  submitted: float = dataclasses.field(default_factory=time.monotonic)
  taken: int = 0
  answers: dict[int, Answer] = dataclasses.field(default_factory=dict)
  done: concurrent.futures.Future[list[Answer]] = dataclasses.field(
    default_factory=concurrent.futures.Future
  )

  @property
  def deadline(self) -> float:
    """When nobody waits any more."""
    return self.start + self.timeout_ms / 1000

  def put(self, row: int, answer: Answer | Exception) -> None:
    """Takes an answer; the last one, or an error, ends the job."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # it is over already
      if isinstance(answer, Exception):
        self.done.set_exception(answer)
        return
      self.answers[row] = answer
      if len(self.answers) == len(self.rows):
        self.done.set_result([self.answers[i] for i in range(len(self.rows))])


class Batcher:
  """The queue and what takes from it.

  Args:
    limits: Length of the queue, and how long a row waits for others.
    batch_size: Most rows of one pass.
    metrics: Where passes are counted.
  """

  def __init__(self, limits: Limits, batch_size: int, metrics: Metrics):
    self._limits, self._batch_size, self._metrics = limits, batch_size, metrics
    self._changed = threading.Condition()
    self._jobs: collections.deque[Job] = collections.deque()
    self._waiting = 0
    self._closed = False
    self._rows_per_second = 100.0

  @property
  def waiting(self) -> int:
    """Rows in the queue."""
    return self._waiting

  def check_room(self, count: int) -> None:
    """Raises `Refusal` where so many rows would not be taken."""
    if self._closed:
      raise refusals.stopping()
    if self._waiting + count > self._limits.queue:
      seconds = math.ceil(self._waiting / max(self._rows_per_second, 1e-3))
      retry = min(max(seconds, 1), _LONGEST_RETRY)
      raise refusals.full(self._waiting, self._limits.queue, retry)

  def submit(self, job: Job) -> None:
    """Queues all rows of a job, or none.

    Raises:
      Refusal: There is no room, or the queue is closed.
    """
    with self._changed:
      self.check_room(len(job.rows))
      self._jobs.append(job)
      self._waiting += len(job.rows)
      self._changed.notify()

  def abandon(self, job: Job, why: str) -> None:
    """Drops the rows of a job that are not yet computed."""
    with self._changed:
      if job in self._jobs:
        self._jobs.remove(job)
        self._drop(job, why)

  def close(self, error: Exception | None = None) -> None:
    """Takes no more work; what waits is computed, or fails with `error`."""
    with self._changed:
      self._closed = True
      while error is not None and self._jobs:
        job = self._jobs.popleft()
        self._drop(job, "stopped")
        job.put(0, error)
      self._changed.notify_all()

  def work(self, predictor: Predictor) -> None:
    """Computes until the queue is closed and empty."""
    while (batch := self._take()) is not None:
      try:
        self._compute(predictor, batch)
      except Exception:  # a fault of ours must not end the only thread there is
        _LOG.exception("a batch of %d texts failed", len(batch))
        for job, row in batch:
          job.put(row, refusals.failed())

  def _take(self) -> list[tuple[Job, int]] | None:
    """The rows of the next pass; None at the end."""
    with self._changed:
      while True:
        if not self._jobs:
          if self._closed:
            return None
          self._changed.wait()
          continue
        age = time.monotonic() - self._jobs[0].submitted
        left = self._limits.wait_ms / 1000 - age
        if self._closed or self._waiting >= self._batch_size or left <= 0:
          return self._cut()
        self._changed.wait(left)

  def _cut(self) -> list[tuple[Job, int]]:
    """Takes rows from the front of the queue; those that are late are dropped."""
    batch: list[tuple[Job, int]] = []
    while self._jobs and len(batch) < self._batch_size:
      job = self._jobs[0]
      if job.done.done() or job.deadline <= time.monotonic():
        self._drop(self._jobs.popleft(), "late")
        job.put(0, refusals.late(job.timeout_ms))
        continue
      stop = min(len(job.rows), job.taken + self._batch_size - len(batch))
      batch += [(job, row) for row in range(job.taken, stop)]
      self._waiting -= stop - job.taken
      job.taken = stop
      if stop == len(job.rows):
        self._jobs.popleft()
    return batch

  def _drop(self, job: Job, why: str) -> None:
    count = len(job.rows) - job.taken
    self._waiting -= count
    job.taken = len(job.rows)
    self._metrics.dropped.labels(why).inc(count)

  def _compute(self, predictor: Predictor, batch: list[tuple[Job, int]]) -> None:
    if not batch:
      return
    start = time.monotonic()
    rows = [job.rows[index] for job, index in batch]
    found = _answers(predictor, rows)
    for (job, index), answer in zip(batch, found, strict=True):
      self._count(answer)
      job.put(index, answer)
    seconds = time.monotonic() - start
    self._metrics.batches.observe(len(batch))
    self._metrics.batch_seconds.observe(seconds)
    rate = len(batch) / max(seconds, 1e-4)
    self._rows_per_second += 0.2 * (rate - self._rows_per_second)

  def _count(self, answer: Answer | Exception) -> None:
    if isinstance(answer, Answer):
      kind = "ranked" if answer.candidates else "decoded"
      self._metrics.rows.labels(kind).inc()
      self._metrics.tokens.inc(answer.tokens)


def _answers(predictor: Predictor, rows: list[Prepared]) -> Sequence[Answer | Exception]:
  """The answers of one pass; where it fails, the same error for each row."""
  try:
    return predictor.answer(rows)
  except Exception:  # whatever a device or a compiler raises, the next pass may work
    _LOG.exception("a pass of %d texts failed", len(rows))
    return [refusals.failed() for _ in rows]
