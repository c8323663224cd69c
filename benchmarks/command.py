"""`prompt-tuning` as a person starts it, timed from the outside, compiled steps cached."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from worker import REPO

_CACHE = {
  "JAX_COMPILATION_CACHE_DIR": str(REPO / ".cache" / "jax"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
_LOOK = 0.01  # seconds


@dataclasses.dataclass(frozen=True)
class Timeline:
  """Seconds since the command was given.

  Attributes:
    rows: {step: when its row was in the run's `metrics.jsonl`}.
    end: When the process was gone.
  """

  rows: dict[int, float]
  end: float

  def per_step(self) -> float:
    """Seconds of a step between the first row and the last but one.

    The last step comes with an evaluation.
    """
    steps = sorted(self.rows)[:-1]
    return (self.rows[steps[-1]] - self.rows[steps[0]]) / (steps[-1] - steps[0])


def timed(
  name: str,
  gin_files: Sequence[str],
  folder: pathlib.Path,
  bindings: Mapping[str, Any],
  until: int | None = None,
) -> Timeline:
  """Runs a command in an empty folder.

  Args:
    name: "train" or "sweep".
    gin_files: Of the command, in order.
    folder: MODEL_DIR; removed afterwards.
    bindings: Macros.
    until: The step at which it is killed; None lets it end.
  """
  shutil.rmtree(folder, ignore_errors=True)
  macros = {"MODEL_DIR": str(folder), **bindings}
  arguments = [f"--gin_file={file}" for file in gin_files]
  arguments += [f"--gin.{macro}={value!r}" for macro, value in macros.items()]
  began = time.perf_counter()
  command = [sys.executable, "-m", "prompt_tuning", name]
  with tempfile.TemporaryFile("w+") as said:
    process = subprocess.Popen(
      command + arguments, env=os.environ | _CACHE, cwd=REPO, stdout=said, stderr=said
    )
    try:
      rows = _followed(process, folder, began, until)
      ended = time.perf_counter() - began
      if process.returncode not in (0, -signal.SIGKILL):
        said.seek(0)
        raise SystemExit(f"prompt-tuning {name} failed:\n{said.read()[-2000:]}")
      return Timeline(rows, ended)
    finally:
      process.kill()
      process.wait()
      shutil.rmtree(folder, ignore_errors=True)


def _followed(
  process: subprocess.Popen, folder: pathlib.Path, began: float, until: int | None
) -> dict[int, float]:
  """When rows come, until the process is gone."""
  rows: dict[int, float] = {}
  while process.poll() is None:
    for path in (folder / "metrics.jsonl", *folder.glob("members/*/metrics.jsonl")):
      if path.exists():
        for line in path.read_text().splitlines():
          step = _step(line)
          if step is not None:
            rows.setdefault(step, time.perf_counter() - began)
        break
    if until is not None and max(rows, default=-1) >= until:
      process.kill()
    time.sleep(_LOOK)
  return rows


def _step(line: str) -> int | None:
  try:
    return json.loads(line)["step"]
  except ValueError:  # half of a line
    return None
