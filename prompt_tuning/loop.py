"""The loop that every training run shares: when it looks up, saves, and stops.

  step      1 . . . 50 . . . 100
  stats             x         x     a row of numbers
  evaluate                    x     and a save
  SIGTERM         x                 a save, then the end

The run itself is a `Work`: what it does in a step and what it has to tell.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
from etils import epath

from prompt_tuning import progress
from prompt_tuning.checkpoints import run_state
from prompt_tuning.preemption import Preempted, Preemption
from prompt_tuning.training.trainer import Trainer
from prompt_tuning.watchdog import Watchdog

_AHEAD = 2  # steps that wait in the device's queue

Values = dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Periods:
  """When a loop begins, looks up and ends; all in steps.

  Attributes:
    first: The step before the first update.
    last: The step after the last one.
    stats: Between two rows of numbers.
    evaluate: Between two evaluations.
    save: Between two saves.
  """

  first: int
  last: int
  stats: int
  evaluate: int
  save: int

  @classmethod
  def of(cls, trainer: Trainer, first: int, last: int) -> "Periods":
    """Those of a trainer between two steps."""
    return cls(
      first=first,
      last=last,
      stats=trainer.stats_period,
      evaluate=trainer.eval_period,
      save=trainer.save_period,
    )


class Log(Protocol):
  """Where the numbers go."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the numbers of a step."""


class Work(Protocol):
  """A run as its loop sees it."""

  @property
  def stopped(self) -> bool:
    """Whether there is no more to train, though the last step is not reached."""

  @property
  def examples(self) -> int:
    """How many examples the steps of this process had; 0 where that says little."""

  def log(self, done: int) -> contextlib.AbstractContextManager[Log]:
    """Where numbers go from step `done` on."""

  def step(self, done: int) -> Any:
    """One update, after `done` of them; returns arrays that are there when it is done."""

  def stats(self, done: int) -> Values:
    """Numbers of the steps since they were asked for last."""

  def shown(self, values: Values) -> Values:
    """Those of them that stand beside the bar."""

  def evaluate(self, done: int) -> Values:
    """Evaluates what is learned and keeps the best."""

  def save(self, done: int) -> None:
    """Saves the state, with the session's saver."""


@dataclasses.dataclass(frozen=True)
class Session:
  """The folder of a run while the run may write to it; made by `session`.

  Attributes:
    folder: MODEL_DIR.
    saver: Of the states.
    preemption: Whether to stop.
  """

  folder: epath.Path
  saver: run_state.Saver
  preemption: Preemption

  def resumed(self, identity: Mapping[str, str]) -> run_state.Saved | None:
    """What an interrupted process left, or None where there was none.

    Raises:
      InputError: It is of a run with other settings, or damaged.
    """
    newest = run_state.latest(self.folder)
    if newest is None:
      return None
    found = run_state.load(self.folder, newest)
    run_state.check_identity(self.folder, found.memory["identity"], identity)
    progress.say(f"continuing {self.folder} at step {newest}")
    return found

  def run(self, work: Work, periods: Periods, done: int, what: str = "train") -> None:
    """Trains until the last step, until the work stops, or until told to stop.

    Args:
      work: What to do.
      periods: When.
      done: Steps that are done.
      what: Word in front of the progress.

    Raises:
      Preempted: The process was told to stop and has saved.
    """
    if done >= periods.last or work.stopped:
      return
    first, queue = periods.first, collections.deque[Any]()
    with (
      work.log(done) as log,
      progress.Progress(what, periods.last - first, done - first) as bar,
      Watchdog() as watchdog,
    ):
      while done < periods.last and not work.stopped:
        watchdog.beat(f"step {done + 1}")
        queue.append(work.step(done))
        if len(queue) > _AHEAD:  # a device that hangs is noticed at its step
          jax.block_until_ready(queue.popleft())
        done += 1
        self._look_up(work, periods, done, log, bar, watchdog)
    self.saver.wait()

  def _look_up(
    self,
    work: Work,
    periods: Periods,
    done: int,
    log: Log,
    bar: progress.Progress,
    watchdog: Watchdog,
  ) -> None:
    """What is due after `done` steps."""
    count, final = done - periods.first, done == periods.last
    evaluate = final or count % periods.evaluate == 0
    values: Values = {}
    if final or count % periods.stats == 0:
      values |= work.stats(done)
    bar.update(count, work.shown(values) if values else None, work.examples)
    if evaluate:
      watchdog.beat(f"evaluation at step {done}")
      values |= work.evaluate(done)
    if values:
      log.write(done, values)
    stop = self.preemption.reached(done)
    if stop or evaluate or count % periods.save == 0:
      work.save(done)
    if stop and not final and not work.stopped:
      self.saver.wait()
      raise Preempted(done)


@contextlib.contextmanager
def session(folder: epath.Path, **saving: Any) -> Iterator[Session]:
  """Opens a run's folder: states are saved beside the loop, SIGTERM is listened for.

  Args:
    folder: MODEL_DIR.
    saving: Of `run_state.Saver`.
  """
  with (
    run_state.writing(folder),
    run_state.Saver(folder, **saving) as saver,
    Preemption() as preemption,
  ):
    yield Session(folder, saver, preemption)
