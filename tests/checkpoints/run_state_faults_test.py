"""The run state when the process is killed and when the disk does not take it."""

import contextlib
import errno
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import run_state

SAVING = pathlib.Path(__file__).parent / "saving.py"


def state(step: int) -> dict[str, np.ndarray]:
  """24 KB that only this step has."""
  return {"values": np.arange(3000) + step}


def check(folder: epath.Path, expected: list[int]) -> None:
  assert run_state.steps(folder) == expected
  for step in expected:
    found = run_state.load(folder, step)
    assert found.memory == {"done": step}
    np.testing.assert_array_equal(found.arrays["['values']"], state(step)["values"])


def refused(saver: run_state.Saver, step: int) -> str:
  """What is said of a state that cannot be written, once it is known."""
  saver.save(step, state(step), {"done": step})
  with pytest.raises(checks.InputError) as error:
    saver.wait()
  text = str(error.value)
  assert f"the state of step {step} cannot be written to " in text and "\n" not in text
  assert "give the same command again" in text
  return text


@contextlib.contextmanager
def mounted(folder: pathlib.Path):
  """A disk of 64 KB; as root, and where that may be done, only."""
  command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
  try:
    subprocess.run(command, check=True, capture_output=True, text=True)
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f"no small disk here: {getattr(error, 'stderr', '') or error}")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def no_file_longer_than(count: int):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_killed_at_any_moment_all_that_is_there_is_whole_and_nothing_piles_up(tmp_path):
  command = [sys.executable, str(SAVING), str(tmp_path), "15"]
  found = subprocess.run(command, capture_output=True, text=True, check=False)
  assert found.returncode == 0, found.stderr
  newest = [int(line) for line in found.stdout.splitlines()]
  assert len(newest) == 15 and newest == sorted(newest) and newest[-1] > 15


def test_a_file_that_cannot_grow_is_told_of_and_what_was_saved_stays(tmp_path):
  folder = epath.Path(tmp_path)
  with run_state.Saver(folder) as saver:
    for step in (1, 2):
      saver.save(step, state(step), {"done": step})
    saver.wait()
    with no_file_longer_than(10_000):
      text = refused(saver, 3)
      assert "File too large" in text and "the state of step 2 is kept" in text
    check(folder, [1, 2])
    assert len(os.listdir(tmp_path / "run_state")) == 2
    saver.save(4, state(4), {"done": 4})
  check(folder, [2, 4])


def test_a_failure_is_told_at_the_next_save(tmp_path):
  with run_state.Saver(epath.Path(tmp_path)) as saver, no_file_longer_than(10_000):
    saver.save(1, state(1), {})
    with pytest.raises(checks.InputError, match=r"step 1 .* nothing is kept yet"):
      saver.save(2, state(2), {})
  check(epath.Path(tmp_path), [])


def test_a_failure_of_the_last_save_is_told_at_the_end(tmp_path):
  with (
    no_file_longer_than(10_000),
    pytest.raises(checks.InputError, match="step 1 "),
    run_state.Saver(epath.Path(tmp_path)) as saver,
  ):
    saver.save(1, state(1), {})


def test_an_error_is_of_the_folder_unless_it_names_another_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = epath.Path("run")
  message = r"a result cannot be written to run \(.*\), .* nothing is kept yet"
  for error in (
    OSError(errno.ENOSPC, "No space left on device"),
    FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "run" / "metrics")),
  ):
    with pytest.raises(checks.InputError, match=message), run_state.writing(folder):
      raise error
  with pytest.raises(FileNotFoundError, match="data"), run_state.writing(folder):
    (tmp_path / "data").read_text()


def test_a_full_disk_is_told_of_and_what_was_saved_stays(tmp_path):
  folder = epath.Path(tmp_path)
  with mounted(tmp_path), run_state.Saver(folder) as saver:
    for step in (1, 2):
      saver.save(step, state(step), {"done": step})
    text = refused(saver, 3)  # 72 KB would be needed
    assert "No space left" in text and "the state of step 2 is kept" in text
    check(folder, [1, 2])
    assert len(os.listdir(tmp_path / "run_state")) == 2
    (tmp_path / "run_state" / "step_1.safetensors").unlink()  # room
    saver.save(3, state(3), {"done": 3})
    saver.wait()
    check(folder, [2, 3])


def test_a_disk_that_may_only_be_read_is_told_of_and_what_was_saved_stays(tmp_path):
  folder = epath.Path(tmp_path)
  with mounted(tmp_path), run_state.Saver(folder) as saver:
    saver.save(1, state(1), {"done": 1})
    saver.wait()
    remount = ["mount", "-o", "remount,ro", str(tmp_path)]
    subprocess.run(remount, check=True, capture_output=True)
    text = refused(saver, 2)
    assert "Read-only file system" in text and "the state of step 1 is kept" in text
    run_state.Saver(folder)  # has nothing to remove, and could not
    check(folder, [1])


def test_an_old_state_that_cannot_be_removed_does_not_stop_the_run(tmp_path):
  folder = epath.Path(tmp_path)
  blocked = tmp_path / "run_state" / "step_1.safetensors" / "x"
  blocked.mkdir(parents=True)  # a folder is no file to unlink
  with run_state.Saver(folder) as saver:
    for step in (2, 3, 4):
      saver.save(step, state(step), {"done": step})
  shutil.rmtree(blocked.parent)
  check(folder, [2, 3, 4])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_state_is_on_the_disk_before_an_older_one_is_removed(tmp_path):
  program = f"""
import numpy as np
from etils import epath
from prompt_tuning.checkpoints import run_state
folder = epath.Path({str(tmp_path)!r})
with run_state.Saver(folder, 1) as saver:
  saver.save(1, {{"a": np.zeros(3)}}, {{}})
  saver.wait()
  data = run_state.data_folder(folder, 2)
  data.mkdir()
  (data / "position").write_text("2")
  saver.save(2, {{"a": np.zeros(3)}}, {{}})
"""
  trace = tmp_path / "trace"
  calls = "trace=fsync,rename,renameat,unlink,unlinkat"
  command = ["strace", "-f", "-y", "-e", calls, "-o", str(trace), sys.executable, "-c"]
  found = subprocess.run([*command, program], capture_output=True, text=True, check=False)
  if not trace.exists() or "ptrace" in found.stderr:
    pytest.skip(f"strace may not trace here: {found.stderr}")
  lines = [line for line in trace.read_text().splitlines() if "/run_state" in line]
  steps = [re.sub(r"[^a-z].*", "", line.split(" ", 1)[1].lstrip()) for line in lines]
  # State 1: file, rename, folder. State 2: its data, file, rename, folder; state 1 goes.
  assert steps == [
    *("fsync", "rename", "fsync"),
    *("fsync", "fsync", "fsync", "rename", "fsync", "unlink"),
  ]
  assert "step_1" in lines[-1]
