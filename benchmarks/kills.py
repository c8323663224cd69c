r"""Fifty interruptions of a run at random moments, against a run that had none.

  pip install -e .
  python benchmarks/kills.py --kills 50 --out docs/kills.json

A run of the embedded model is ended again and again: by SIGKILL, by SIGTERM, by a disk that
is full and by a folder that becomes read-only while it saves. After each, every saved state
must be readable. The same command continues until the run is complete; then its prompts and
metrics must be those of an uninterrupted run, bit for bit. New runs follow complete ones
until there were enough interruptions.

Full and read-only disks need root, for a small file system in memory; without, they are
left out and the output says so.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
from etils import epath

from prompt_tuning import checks, formats
from prompt_tuning.checkpoints import run_state
from prompt_tuning.preemption import EXIT_PREEMPTED

STEPS, SAVE_PERIOD, EVAL_PERIOD, STATS_PERIOD = 600, 20, 200, 7
SUBJECTS = ("film", "story", "cast", "ending", "score", "humour", "camera", "dialogue")
WORDS = {
  "negative": ("dull", "bad", "weak", "poor", "flat"),
  "positive": ("fine", "good", "fresh", "moving", "lovely"),
}
_DISK_BYTES = 64 << 20
_PATIENCE = 40.0  # seconds for a run to notice that it cannot write
REFUSED = 2  # exit status of a run that says what is wrong


class Disk:
  """A small file system for MODEL_DIR that can be filled and made read-only."""

  def __init__(self, place: pathlib.Path):
    self.place, self._filler = place, place / "filler"
    place.mkdir()
    self.mounted = not _mount("-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", place)

  def fill(self) -> None:
    """Leaves no room."""
    with self._filler.open("wb", buffering=0) as sink:
      try:
        while True:
          sink.write(bytes(4096))
      except OSError:
        return

  def protect(self) -> None:
    """Makes it read-only, also for files that are open, as far as the system lets."""
    if _mount("-o", "remount,ro", self.place):
      self.fill()  # a file is open for writing: the system refuses, so it is full instead

  def mend(self) -> None:
    """Makes it usable again."""
    if self.mounted:
      _mount("-o", "remount,rw", self.place)
      self._filler.unlink(missing_ok=True)

  def close(self) -> None:
    """Takes the file system away."""
    if self.mounted:
      subprocess.run(["umount", str(self.place)], check=False)


def _mount(*arguments: object) -> int:
  command = ["mount", *map(str, arguments)]
  return subprocess.run(command, check=False, capture_output=True).returncode


def write_table(path: pathlib.Path) -> None:
  """A small table of one's own, so that a run is short and mostly saves."""
  rows = [
    f"the {subject} is {word},{label}\n"
    for subject in SUBJECTS
    for label, words in WORDS.items()
    for word in words
  ]
  path.write_text("text,label\n" + "".join(rows))


def start(scratch: pathlib.Path, folder: pathlib.Path, log: pathlib.Path):
  """The command that is given again after every interruption."""
  macros = {
    "MODEL_DIR": str(folder),
    "TRAIN_FILE": str(scratch / "table.csv"),
    "VALIDATION_FILE": str(scratch / "table.csv"),
    "INPUT_TEMPLATE": "review: {text}",
    "TARGET_COLUMN": "label",
    "TASK_FEATURE_LENGTHS": {"inputs": 16, "targets": 4},
    "BATCH_SIZE": 8,
    "TRAIN_STEPS_RELATIVE": STEPS,
    "SAVE_PERIOD": SAVE_PERIOD,
    "EVAL_PERIOD": EVAL_PERIOD,
    "STATS_PERIOD": STATS_PERIOD,
    "PATIENCE": None,
  }
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "prompt_tuning",
      "train",
      "--gin_file=experiments/own_data.gin",
      *(f"--gin.{name}={value!r}" for name, value in macros.items()),
    ],
    stdout=subprocess.DEVNULL,
    stderr=log.open("w"),
  )


def interrupt(kind: str, process: subprocess.Popen, disk: Disk) -> int:
  """Ends a run in one way and returns its exit status."""
  if kind == "kill":
    process.send_signal(signal.SIGKILL)
  elif kind == "terminate":
    process.send_signal(signal.SIGTERM)
  elif kind == "full disk":
    disk.fill()
  else:
    disk.protect()
  try:
    return process.wait(timeout=_PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    return process.wait()
  finally:
    disk.mend()


def unreadable(folder: pathlib.Path) -> list[str]:
  """The saved states that cannot be read; there must be none."""
  found = []
  for step in run_state.steps(epath.Path(folder)):
    try:
      run_state.load(epath.Path(folder), step)
    except checks.InputError as error:
      found.append(str(error))
  return found


def outcome(folder: pathlib.Path) -> dict[str, bytes]:
  """What a complete run has to show: its prompts at every save, metrics and summary.

  A run that was told to stop has saved at further steps.
  """
  saved = [
    path
    for path in sorted(folder.glob("numpy_checkpoints/*/*"))
    if int(path.parent.name.split("_")[1]) % SAVE_PERIOD == 0
  ]
  found = {str(path.relative_to(folder)): path.read_bytes() for path in saved}
  found["metrics.jsonl"] = (folder / "metrics.jsonl").read_bytes()
  found["prompt"] = formats.load_prompt(str(folder / "prompt.safetensors")).tobytes()
  summary = json.loads((folder / "summary.json").read_text())
  found["summary"] = json.dumps({**summary, "prompt": None}).encode()
  return found


def main() -> int:
  """Runs the campaign of the command line; 0 where nothing was lost."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("--kills", type=int, default=50)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path)
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{scratch}/cache")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    write_table(pathlib.Path(scratch) / "table.csv")
    disk = Disk(pathlib.Path(scratch) / "disk")
    try:
      found = campaign(given.kills, random.Random(given.seed), pathlib.Path(scratch), disk)
    finally:
      disk.mend()
      disk.close()
  text = json.dumps(found, indent=2)
  print(text)
  if given.out:
    given.out.write_text(text + "\n")
  return 0 if found["identical"] and not found["unreadable"] else 1


def campaign(kills: int, rng: random.Random, scratch: pathlib.Path, disk: Disk) -> dict:
  """Interrupts runs until there were `kills`; see the module."""
  kinds = ["kill", "terminate", *(["full disk", "read-only"] if disk.mounted else [])]
  if not disk.mounted:
    print(
      "no file system may be mounted here: no full and read-only disks", file=sys.stderr
    )
  expected, usual = undisturbed(scratch)
  statuses: dict[str, collections.Counter[int]] = {k: collections.Counter() for k in kinds}
  said: set[str] = set()
  damaged: list[str] = []
  number, identical, differences = 0, [], set()
  while number < kills or not identical:
    folder = disk.place / f"run_{len(identical)}"
    log = scratch / "log"
    fresh, began = not folder.exists(), time.monotonic()
    process, kind = start(scratch, folder, log), kinds[number % len(kinds)]
    try:
      process.wait(timeout=rng.uniform(0.0, usual) if number < kills else None)
    except subprocess.TimeoutExpired:
      status = interrupt(kind, process, disk)
      statuses[kind][status] += 1
      number += 1
      if status == REFUSED:
        said.add(log.read_text().splitlines()[-1].replace(str(folder), "MODEL_DIR"))
      damaged += unreadable(folder)
      print(f"{number}/{kills} {kind}: exit {status}", file=sys.stderr, flush=True)
      continue
    if process.returncode:
      raise SystemExit(f"a run failed on its own:\n{log.read_text()[-3000:]}")
    found = outcome(folder)
    differing = {
      name for name in {**expected, **found} if found.get(name) != expected.get(name)
    }
    identical.append(not differing)
    differences |= differing
    if fresh:  # it was not interrupted: the machine is faster than it was
      usual = time.monotonic() - began
    subprocess.run(["rm", "-r", str(folder)], check=True)
    print(f"a run is complete, identical: {identical[-1]}", file=sys.stderr, flush=True)
  return {
    "kills": number,
    "exit_statuses": {k: dict(sorted(v.items())) for k, v in statuses.items()},
    "saved_and_left": statuses["terminate"][EXIT_PREEMPTED],
    "said": sorted(said),
    "unreadable": damaged,
    "runs_completed": len(identical),
    "identical": all(identical),
    "differences": sorted(differences),
    "steps": STEPS,
    "seconds_undisturbed": round(usual, 1),
    "machine": f"{os.cpu_count()} x {platform.machine()}",
    "versions": {"python": platform.python_version(), "jax": jax.__version__},
  }


def undisturbed(scratch: pathlib.Path) -> tuple[dict[str, bytes], float]:
  """What an uninterrupted run leaves, and how long one takes once it is compiled."""
  for name in ("first", "second"):
    began = time.monotonic()
    log = scratch / f"log_{name}"
    if start(scratch, scratch / name, log).wait():
      raise SystemExit(f"the uninterrupted run failed:\n{log.read_text()[-3000:]}")
    seconds = time.monotonic() - began
  first, second = (outcome(scratch / name) for name in ("first", "second"))
  if first != second:
    raise SystemExit("two uninterrupted runs differ, so there is nothing to compare with")
  return first, seconds


if __name__ == "__main__":
  sys.exit(main())
