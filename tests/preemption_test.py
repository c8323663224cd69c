"""Told to stop: real signals, real processes."""

import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from etils import epath

from prompt_tuning.checkpoints import run_state
from prompt_tuning.preemption import EXIT_PREEMPTED, Preempted, Preemption

TOGETHER = pathlib.Path(__file__).parent / "together.py"
LOOP = """
import hashlib, sys, time
from prompt_tuning.preemption import EXIT_PREEMPTED, Preempted, Preemption

try:
  with Preemption() as preemption:
    for step in range(1, 1_000_000):
      print(step, flush=True)
      {work}
      if preemption.reached(step):
        raise Preempted(step)
except Preempted as told:
  print("stopped", told.step, flush=True)
  sys.exit(EXIT_PREEMPTED)
"""
HANG = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)  # outside of Python"


class Program:
  """A running program and the lines that it printed."""

  def __init__(self, log: pathlib.Path, arguments: tuple[str, ...]):
    self.log = log
    with log.open("wb") as sink, log.with_suffix(".err").open("wb") as errors:
      command = [sys.executable, *arguments]
      self.process = subprocess.Popen(command, stdout=sink, stderr=errors)

  def lines(self) -> list[str]:
    return self.log.read_text().splitlines()

  def until(self, line: str) -> None:
    while line not in self.lines():
      assert self.process.poll() is None, self.log.with_suffix(".err").read_text()
      time.sleep(0.002)

  def status(self) -> int:
    return self.process.wait(timeout=60)


@pytest.fixture
def spawn(tmp_path_factory):
  """Starts programs, and ends them after the test."""
  folder, programs = tmp_path_factory.mktemp("logs"), []

  def start(*arguments: str) -> Program:
    programs.append(Program(folder / f"{len(programs)}.log", arguments))
    return programs[-1]

  yield start
  for program in programs:
    program.process.kill()
    program.process.wait()


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_finishes_its_step_and_says_that_it_goes_on(spawn):
  program = spawn("-c", LOOP.format(work="time.sleep(0.01)"))
  program.until("20")
  program.process.terminate()
  assert program.status() == EXIT_PREEMPTED == 75
  *_, last, told = program.lines()
  assert told == f"stopped {last}"


@pytest.mark.slow
def test_a_signal_a_second_later_ends_a_step_that_hangs(spawn):
  program = spawn("-c", LOOP.format(work=HANG))
  program.until("1")
  time.sleep(0.3)
  for seconds in (0.1, 1.2):  # the second is an echo of the first
    program.process.terminate()
    time.sleep(seconds)
    assert program.process.poll() is None
  program.process.terminate()
  assert program.status() == 128 + signal.SIGTERM


def test_it_is_reached_once_told_and_not_before():
  with Preemption() as preemption:
    assert not preemption.reached(1)
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + 20
    while not preemption.reached(2):
      assert time.monotonic() < deadline
      time.sleep(0.001)


def test_what_listened_before_listens_again():
  heard, threads = [], threading.active_count()
  outer = signal.signal(signal.SIGTERM, lambda *_: heard.append("before"))
  try:
    with Preemption():
      assert threading.active_count() == threads + 1
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["before"] and threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1
  finally:
    signal.signal(signal.SIGTERM, outer)


def test_outside_the_main_thread_it_is_never_reached():
  handler, found = signal.getsignal(signal.SIGTERM), []

  def listen():
    with Preemption() as preemption:
      found.append((signal.getsignal(signal.SIGTERM), preemption.reached(1)))

  thread = threading.Thread(target=listen)
  thread.start()
  thread.join()
  assert found == [(handler, False)]


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_worker_that_is_ended_does_not_end_the_run():
  with Preemption() as preemption:
    fork = multiprocessing.get_context("fork")
    works = fork.Event()
    worker = fork.Process(target=lambda: works.set() or time.sleep(60))
    worker.start()
    assert works.wait(20)
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == -signal.SIGTERM
    time.sleep(0.1)
    assert not preemption.reached(1)


def test_the_exception_names_the_step_and_the_remedy():
  assert Preempted(7).step == 7
  assert "step 7" in str(Preempted(7)) and "same command" in str(Preempted(7))


# Two processes.


def pair(spawn, folder: pathlib.Path) -> list[Program]:
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  return [spawn(str(TOGETHER), str(port), str(n), str(folder)) for n in range(2)]


@pytest.mark.slow
def test_two_processes_stop_at_one_step_though_only_one_is_told(spawn, tmp_path):
  folder, begin = epath.Path(tmp_path), None
  for told in (1, 0):
    programs = pair(spawn, tmp_path)
    programs[told].until(f"from {begin}")
    programs[told].until(str((begin or 0) + 50))
    programs[told].process.terminate()
    assert [program.status() for program in programs] == [EXIT_PREEMPTED] * 2
    ends = [program.lines()[-1] for program in programs]
    assert ends[0] == ends[1]
    step = int(ends[0].removeprefix("stopped "))
    assert run_state.steps(folder)[-1] == step > (begin or 0)
    saved = run_state.load(folder, step)
    assert saved.memory == {"done": step} and saved.arrays["['count']"] == step
    sums = step * np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(saved.arrays["['sums']"], sums)
    data = run_state.data_folder(folder, step)
    assert sorted(path.name for path in data.iterdir()) == ["0.txt", "1.txt"]
    assert len(os.listdir(tmp_path / "run_state")) == 4  # two states with their folders
    begin = step


@pytest.mark.slow
def test_two_processes_end_when_the_first_cannot_write(spawn, tmp_path):
  (tmp_path / "broken").touch()
  programs = pair(spawn, tmp_path)
  assert [program.status() for program in programs] == [2, 2]
  first, second = (program.lines()[-1] for program in programs)
  assert "step 20 cannot be written" in first and "nothing is kept" in first
  assert "process 0 could not write" in second
