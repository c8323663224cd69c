"""The loop of every training run: what it asks of its work, and when."""

import contextlib
import signal

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from prompt_tuning import loop
from prompt_tuning.preemption import Preempted

PERIODS = loop.Periods(first=0, last=12, stats=4, evaluate=6, save=5)


@jax.jit
def slow(x):
  """Some hundredths of a second on one core."""
  return jax.lax.fori_loop(0, 10, lambda _, y: jnp.tanh(y @ x), x)


class Recorded:
  """Steps that keep a device busy; what the loop asked for is in `asked`."""

  stopped = False
  examples = 0

  def __init__(self, before_step=lambda done: None):
    self.asked, self.results, self.waiting = [], [], []
    self._x, self._before = jnp.full((512, 512), 0.01), before_step
    jax.block_until_ready(slow(self._x))

  @contextlib.contextmanager
  def log(self, done):
    self.asked.append(f"log {done}")
    yield self

  def write(self, step, values):
    self.asked.append(f"write {step} {sorted(values)}")

  def step(self, done):
    self._before(done)
    self.waiting.append(sum(not result.is_ready() for result in self.results))
    self.results.append(slow(self._x))
    return {"sum": self.results[-1]}

  def stats(self, done):
    return {"loss": 1.0}

  def shown(self, values):
    return values

  def evaluate(self, done):
    return {"score": 2.0}

  def save(self, done):
    self.asked.append(f"save {done}")


def test_periods_are_kept_and_the_last_step_is_saved(tmp_path):
  work = Recorded()
  with loop.session(epath.Path(tmp_path)) as session:
    session.run(work, PERIODS, 0)
  assert work.asked == [
    "log 0",
    "write 4 ['loss']",
    "save 5",
    "write 6 ['score']",
    "save 6",
    "write 8 ['loss']",
    "save 10",
    "write 12 ['loss', 'score']",
    "save 12",
  ]


def test_few_steps_wait_for_the_device_so_that_a_signal_or_a_hang_is_seen(tmp_path):
  work = Recorded()
  with loop.session(epath.Path(tmp_path)) as session:
    session.run(work, PERIODS, 0)
  assert len(work.waiting) == 12
  assert 0 < max(work.waiting) <= 2


def test_told_to_stop_it_saves_after_the_step(tmp_path):
  with loop.session(epath.Path(tmp_path)) as session:

    def stop(done):
      if done == 2:
        signal.raise_signal(signal.SIGTERM)

    work = Recorded(stop)
    with pytest.raises(Preempted):
      session.run(work, PERIODS, 0)
  assert work.asked == ["log 0", "save 3"]


def test_what_is_done_is_not_done_again(tmp_path):
  work = Recorded()
  with loop.session(epath.Path(tmp_path)) as session:
    session.run(work, PERIODS, 12)
  assert work.asked == []
