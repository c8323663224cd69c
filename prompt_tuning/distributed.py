"""Runs of several processes: how they find each other, and which of them writes.

Every process runs the same program over the devices of all (JAX's multi-controller
runtime). The first one writes files and shows progress, the others compute.
"""

import os
import re
import secrets
import sys
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from prompt_tuning import checks

# Job launchers, and the variable in which each says how many processes it started.
_LAUNCHERS = {
  "Slurm": "SLURM_STEP_NUM_TASKS",
  "Open MPI": "OMPI_COMM_WORLD_SIZE",
}
_PATIENCE = 300  # seconds until all processes must have reported


def launched(environment: Mapping[str, str] = os.environ) -> str | None:
  """The launcher that started several processes of this job, or None."""
  for launcher, variable in _LAUNCHERS.items():
    if environment.get(variable, "1").isdigit() and int(environment.get(variable, 1)) > 1:
      return launcher
  if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
    return "Cloud TPU"
  return None


def start(
  coordinator_address: str | None = None,
  process_count: int | None = None,
  process_index: int | None = None,
  initialization_timeout: int | None = None,
) -> None:
  """Joins the other processes of the job; before any device is used.

  What is not given, JAX finds out from Cloud TPU, Slurm, MPI or Kubernetes.

  Args:
    coordinator_address: "host:port" of process 0, the same for all.
    process_count: Processes of the job.
    process_index: Which of them this is, from 0.
    initialization_timeout: Seconds to wait for the others; None is five minutes.

  Raises:
    InputError: The flags contradict each other, or the others are not found.
  """
  if coordinator_address and not re.fullmatch(r".+:\d+", coordinator_address):
    raise checks.InputError(
      f"--coordinator_address is {coordinator_address!r}, expected host:port of process 0; "
      f"give e.g. {coordinator_address.split(':')[0]}:8476"
    )
  if (process_count is None) != (process_index is None):
    raise checks.InputError(
      f"process_count is {process_count} and process_index {process_index}, expected both "
      "or neither; give both with --coordinator_address"
    )
  patience = initialization_timeout or _PATIENCE
  if process_index is not None:  # JAX ends the process without a word of what it waited for
    print(
      f"process {process_index} of {process_count} meets the others at "
      f"{coordinator_address}, for up to {patience} s",
      file=sys.stderr,
      flush=True,
    )
  try:
    jax.distributed.initialize(
      coordinator_address,
      process_count,
      process_index,
      initialization_timeout=patience,
    )
  except (RuntimeError, ValueError) as error:  # as JAX has it
    reason = " ".join(str(error).split())[:300]
    raise checks.InputError(
      f"the processes of this job do not find each other ({reason}), expected process 0 at "
      "a host and port that all reach; give every process the same --coordinator_address "
      "and --process_count, and its own --process_index"
    ) from error


def is_first() -> bool:
  """Whether this process is the one that writes; asks no device where there is one."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def name() -> str:
  """Which process this is, for messages: "process 1 of 4: ", or "" where it is alone."""
  if not jax.distributed.is_initialized():
    return ""
  return f"process {jax.process_index()} of {jax.process_count()}: "


def meet(name: str) -> None:
  """Waits until every process is here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def tell(text: str) -> None:
  """Prints a line to stderr, once for all processes."""
  if is_first():
    print(text, file=sys.stderr, flush=True)


def share(folder: epath.Path, macro: str) -> None:
  """Raises `InputError` unless all processes see the same folder, as they must."""
  if jax.process_count() == 1:
    return
  # A number of this moment, since an earlier job may have left its mark behind.
  drawn = np.int32(secrets.randbits(31))
  number = str(multihost_utils.broadcast_one_to_all(drawn))
  mark = folder / ".shared"
  if is_first():
    mark.write_text(number)
  meet("the mark is set")
  seen = multihost_utils.process_allgather(
    np.asarray(mark.exists() and mark.read_text() == number)
  )
  if is_first():
    mark.unlink()
  if not np.all(seen):
    raise checks.InputError(
      f"{macro} {str(folder)!r} is not one folder for all processes, expected a file "
      "system or bucket that all of them see; choose another"
    )
