"""Real processes of one job on this machine, for tests: each sees the devices of all."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

REPO = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
DEVICES = 4  # of all processes together


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
  """Of a process with so many virtual devices and the cache of this test run.

  It compiles without most optimizations: each process compiles what it does not find.
  """
  return {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(REPO), str(HERE)]),
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    "JAX_COMPILATION_CACHE_DIR": str(REPO / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
  }


def start(
  folder: pathlib.Path, count: int, arguments: Callable[[str, int], Sequence[str]]
) -> list[subprocess.Popen]:
  """Starts `count` processes; their output goes to folder/out_<i> and folder/err_<i>.

  Args:
    folder: For their output.
    count: How many, which share `DEVICES`.
    arguments: (address of the coordinator, index) -> what follows "python".
  """
  folder.mkdir(parents=True, exist_ok=True)
  address = f"localhost:{free_port()}"
  return [
    subprocess.Popen(
      [sys.executable, *arguments(address, index)],
      cwd=folder,
      env=environment(DEVICES // count),
      stdout=(folder / f"out_{index}").open("w"),
      stderr=(folder / f"err_{index}").open("w"),
    )
    for index in range(count)
  ]


def finish(processes: Sequence[subprocess.Popen], folder: pathlib.Path) -> list[str]:
  """Waits for all of them to end well, and gives what each said on stdout."""
  try:
    for index, process in enumerate(processes):
      status = process.wait(timeout=240)
      assert status == 0, (status, (folder / f"err_{index}").read_text()[-3000:])
  finally:
    for process in processes:
      process.kill()
  return [(folder / f"out_{i}").read_text() for i in range(len(processes))]


def command_line(run: Sequence[str], count: int) -> Callable[[str, int], list[str]]:
  """What each of `count` processes of a run is started with; one needs no flags."""

  def arguments(address: str, index: int) -> list[str]:
    flags = [
      f"--coordinator_address={address}",
      f"--process_count={count}",
      f"--process_index={index}",
    ]
    return ["-m", "prompt_tuning", *run, *(flags if count > 1 else [])]

  return arguments
