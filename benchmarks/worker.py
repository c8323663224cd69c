"""Processes that live on and do one thing on request, so that contestants take turns.

A request is the name of what to do, a line; its answer is a line of JSON. Each worker has
the same two cores, and what its libraries print goes to stderr.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

HERE = pathlib.Path(__file__).parent
REPO = HERE.parent
CORES = 2
Answer = dict[str, Any]


class Worker:
  """A script of this folder that calls `answer`.

  Args:
    script: Its name.
    arguments: Of the script.
  """

  def __init__(self, script: str, *arguments: str):
    self._process = subprocess.Popen(
      [sys.executable, str(HERE / script), *arguments],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      cwd=REPO,
    )

  def ask(self, name: str) -> Answer:
    """Has it done."""
    assert self._process.stdin is not None and self._process.stdout is not None
    print(name, file=self._process.stdin, flush=True)
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit(f"the process that does {name!r} ended early")
    return json.loads(line)

  def __enter__(self) -> "Worker":
    return self

  def __exit__(self, *_: object) -> None:
    self._process.communicate()  # its input ends, and so does it


def answer(deeds: Mapping[str, Callable[[], Answer]]) -> None:
  """Does what is asked for until nothing more is."""
  sink = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  for line in sys.stdin:
    print(json.dumps(deeds[line.strip()]()), file=sink, flush=True)


def on_two_cores() -> None:
  """Before the libraries are imported, which count them."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
  os.environ["OMP_NUM_THREADS"] = str(CORES)


def alone(script: str, *arguments: str, deed: str) -> Answer:
  """One answer of a process of its own."""
  with Worker(script, *arguments) as worker:
    return worker.ask(deed)


def in_turns(
  contestants: Mapping[str, Callable[[], Answer]], rounds: int, warm: int = 1
) -> dict[str, list[Answer]]:
  """Their answers, {name: [one for each round]}; every other round goes backwards."""
  found: dict[str, list[Answer]] = {name: [] for name in contestants}
  for number in range(-warm, rounds):
    names = list(contestants)
    for name in names if number % 2 == 0 else reversed(names):
      one = contestants[name]()
      kind = f"round {number + 1} of {rounds}" if number >= 0 else "to warm up"
      print(f"{kind}: {name}, {one.get('seconds', 0):.2f} s", file=sys.stderr, flush=True)
      if number >= 0:
        found[name].append(one)
  return found


def memory() -> Answer:
  """The largest resident size of this process so far."""
  status = pathlib.Path("/proc/self/status").read_text().splitlines()
  line = next(line for line in status if line.startswith("VmHWM:"))
  return {"bytes": int(line.split()[1]) * 1024}
