"""`prompt-tuning serve` as a process of its own on loopback."""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import requests

REPO = pathlib.Path(__file__).parents[2]
SECONDS = 120


@dataclasses.dataclass
class Process:
  """A running server and what it printed."""

  popen: subprocess.Popen
  lines: list[str]
  url: str = ""

  @property
  def port(self) -> int:
    return int(self.url.rpartition(":")[2])

  def post(self, path: str, **body) -> requests.Response:
    return requests.post(f"{self.url}/v1/{path}", json=body, timeout=SECONDS)

  def get(self, path: str) -> requests.Response:
    return requests.get(self.url + path, timeout=SECONDS)

  def end(self, how: signal.Signals = signal.SIGTERM) -> int:
    self.popen.send_signal(how)
    return self.popen.wait(SECONDS)


@contextlib.contextmanager
def serving(*arguments: str, is_ready: bool = True) -> Iterator[Process]:
  """A server; `url` is known when it is ready."""
  popen = subprocess.Popen(
    [sys.executable, "-m", "prompt_tuning", "serve", *arguments],
    cwd=REPO,
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_COMPILATION_CACHE_DIR": str(REPO / ".cache" / "jax"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  found = Process(popen, [])
  reader = threading.Thread(target=lambda: found.lines.extend(popen.stdout), daemon=True)
  reader.start()
  try:
    if is_ready:
      found.url = _announced(found)
    yield found
  finally:
    if popen.poll() is None:
      popen.kill()
      popen.wait(SECONDS)
    reader.join(SECONDS)


def _announced(process: Process) -> str:
  end = time.monotonic() + SECONDS
  while time.monotonic() < end and process.popen.poll() is None:
    for line in list(process.lines):
      if match := re.search(r"serving on (http://127\.0\.0\.1:\d+)", line):
        return match[1]
    time.sleep(0.05)
  raise AssertionError("it does not serve:\n" + "".join(process.lines[-20:]))
