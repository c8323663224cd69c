"""Saves again and again until it is killed, for `run_state_faults_test.py`.

python tests/checkpoints/saving.py FOLDER ROUNDS

Each round forks a process that goes on from the newest state, saves with a folder beside
every second state, and is killed without warning after a while. Then all that it left is
read. Prints the newest step of every round.
"""

import os
import pathlib
import random
import signal
import sys
import time

import numpy as np
from etils import epath

from prompt_tuning.checkpoints import run_state


def state(step):
  """Half a megabyte that only this step has, so that a write takes a while."""
  return {"step": np.int32(step), "values": np.arange(step, step + 131072)}


def save_for_ever(folder, told):
  with run_state.Saver(folder) as saver:
    step = run_state.latest(folder) or 0
    if step:
      assert run_state.load(folder, step).memory == {"done": step}
    while True:
      step += 1
      if step % 2 == 0:
        data = run_state.data_folder(folder, step)
        data.mkdir(parents=True)
        (data / "position").write_text(str(step))
      saver.save(step, state(step), {"done": step})
      if step > 1:
        os.pwrite(told, f"{step - 1:9d}".encode(), 0)  # `save` waited for it


def check(folder, promised):
  """The newest step, once everything there was found whole."""
  saved = run_state.steps(folder)
  for step in saved:
    found = run_state.load(folder, step)
    assert found.memory == {"done": step}
    for name, values in state(step).items():
      np.testing.assert_array_equal(found.arrays[f"['{name}']"], values)
    if step % 2 == 0:
      data = run_state.data_folder(folder, step)
      assert (data / "position").read_text() == str(step)
  newest = max(saved, default=0)
  assert newest >= promised, (newest, promised)
  assert len(saved) >= min(newest, 2)
  names = os.listdir(folder / "run_state") if saved else []
  # Two states and a third, with their folders, one more folder, and one temporary.
  assert len(names) <= 3 + 2 + 1 + 1, names
  assert sum(name.startswith(".") for name in names) <= 1, names
  return newest


def main(folder, rounds):
  delays = random.Random(0)
  told = os.open(folder / "told", os.O_RDWR | os.O_CREAT)
  for _ in range(rounds):
    child = os.fork()
    if not child:
      try:
        save_for_ever(folder, told)
      finally:
        os._exit(1)
    time.sleep(delays.uniform(0.1, 0.3))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    print(check(folder, int(os.pread(told, 9, 0) or 0)), flush=True)


if __name__ == "__main__":
  main(epath.Path(pathlib.Path(sys.argv[1])), int(sys.argv[2]))
