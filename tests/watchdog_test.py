"""The watchdog: it speaks of what takes far too long, and of nothing else."""

import re
import threading
import time

from prompt_tuning.progress import Progress
from prompt_tuning.watchdog import Watchdog


def lines(capsys) -> list[str]:
  return capsys.readouterr().err.splitlines()


def test_a_step_that_hangs_is_named_again_and_again_ever_later(capsys):
  with Watchdog(least=0.3, factor=2.0) as watchdog:
    for step in range(1, 6):
      watchdog.beat(f"step {step}")
    watchdog.beat("step 1201")
    time.sleep(2.5)  # lines at 0.3, 0.6, 1.2 and 2.4 s, or later
  found = lines(capsys)
  assert 2 <= len(found) <= 4
  pattern = r"step 1201 has taken 0:00:0\d, usually 0.0 s; .* the run is alive and waits"
  assert all(re.fullmatch(pattern, line) for line in found)


def test_steps_that_take_their_usual_time_are_not_mentioned(capsys):
  with Watchdog(least=0.01, factor=1000.0) as watchdog:
    watchdog.beat("step 1")
    time.sleep(0.05)
    lines(capsys)  # of the first nothing is known
    for step in range(2, 6):
      watchdog.beat(f"step {step}")
      time.sleep(0.05)
  assert lines(capsys) == []


def test_a_step_is_compared_with_steps_and_not_with_evaluations(capsys):
  with Watchdog(least=0.2, factor=2.0) as watchdog:
    watchdog.beat("evaluation at step 0")
    time.sleep(0.15)
    for step in range(1, 4):
      watchdog.beat(f"step {step}")
    watchdog.beat("evaluation at step 3")
    time.sleep(0.25)  # below twice the evaluation before
    assert lines(capsys) == []
    watchdog.beat("step 4")
    time.sleep(0.5)
  assert any(line.startswith("step 4 has taken") for line in lines(capsys))


def test_the_first_of_its_kind_may_be_compiling(capsys):
  with Watchdog(least=0.05) as watchdog:
    watchdog.beat("step 1")
    time.sleep(0.5)
  assert "compiling" in lines(capsys)[0]


def test_what_moves_does_not_hang(capsys):
  with Watchdog(least=0.3) as watchdog, Progress("evaluate", 40) as bar:
    watchdog.beat("evaluation at step 3")
    for _ in range(20):
      time.sleep(0.05)
      bar.advance()
    assert lines(capsys) == []
    time.sleep(0.6)
  assert lines(capsys)[0].startswith("evaluation at step 3 has taken 0:00:01")


def test_nothing_is_said_before_the_first_beat_and_the_thread_ends(capsys):
  before = threading.active_count()
  with Watchdog(least=0.02):
    assert threading.active_count() == before + 1
    time.sleep(0.2)
  assert threading.active_count() == before
  assert lines(capsys) == []
