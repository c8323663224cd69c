"""Devices that need not be here: TPUs that only compile, or as many virtual CPUs."""

import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from prompt_tuning import checks

_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*(?:([kMGT])(i?)B|B)?")
_POWERS = {"k": 1, "M": 2, "G": 3, "T": 4}


def size(flag: str, text: str) -> int:
  """Bytes of "16GiB", "80GB" or "16e9".

  Raises:
    InputError: It is no size.
  """
  match = _SIZE.fullmatch(text.strip())
  if match is None or float(match[1]) <= 0:
    raise checks.InputError(
      f"{flag} is {text!r}, expected a size such as 16GiB, 80GB or 16e9; correct it"
    )
  number, prefix, binary = match.groups()
  return int(float(number) * (1024 if binary else 1000) ** _POWERS.get(prefix, 0))


def tpus(topology: str) -> Sequence[Any]:
  """TPUs for which the compiler of libtpu compiles, none of which is here.

  Args:
    topology: Kind and shape, e.g. "v5e:4x8".

  Raises:
    InputError: There is no libtpu, or no such topology.
  """
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or it asks the cloud what it is
  # Another process may use the chips, or plan: this one only compiles.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  try:
    return topologies.get_topology_desc(topology, "tpu").devices
  except Exception as error:  # jax raises whatever the plugin found
    reason = str(error).strip().splitlines()[-1]
    raise checks.InputError(
      f"--topology is {topology!r}, for which no TPU compiler answers "
      f"({reason}), expected libtpu and a topology such as v5e:4x8; pip install "
      "'prompt-tuning[tpu]', or leave it out"
    ) from error


def virtual(count: int) -> Sequence[Any]:
  """CPUs that stand for devices; to be called before anything else uses a device.

  Raises:
    InputError: Something did, and there are fewer.
  """
  try:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)
  except RuntimeError:  # the devices are there already
    pass
  found = jax.devices("cpu")
  if len(found) < count:
    raise checks.InputError(
      f"--devices is {count}, this process has {len(found)} virtual ones already, "
      "expected a process of its own; run the command by itself"
    )
  return found[:count]
