"""TFDS datasets on this machine: what is there, and getting what is not."""

import math
import os
import socket
import sys
from typing import Any

import seqio
import tensorflow_datasets as tfds

from prompt_tuning import checks

_HOST = "storage.googleapis.com"  # TFDS's own; who cannot resolve it is offline
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def dataset_name(task: seqio.Task) -> str | None:
  """The dataset as "glue/cola:2.0.0", None for a task that reads something else."""
  if isinstance(task.source, seqio.TfdsDataSource):
    return task.source.tfds_dataset.name
  return None


def counts(task: seqio.Task) -> dict[str, int] | None:
  """{split: records} as far as known, or None where TFDS data are not on this machine."""
  builder = _builder(task)
  if dataset_name(task) is not None and (builder is None or not builder.is_prepared()):
    return None
  found = {split: task.source.num_input_examples(split) for split in task.splits}
  return {split: int(size) for split, size in found.items() if _is_known(size)}


def _is_known(size: float | None) -> bool:
  return size is not None and math.isfinite(size)  # seqio says inf for very many


def ensure(task: seqio.Task) -> None:
  """Prepares the data of a task where they are not there yet.

  Raises:
    InputError: They are not there and cannot be got; the message says what to do.
  """
  builder, name = _builder(task), dataset_name(task)
  if name is None or (builder is not None and builder.is_prepared()):
    return
  folder = _folder(task)
  missing = f"the dataset {name} of {task.name} is not in {folder}"
  elsewhere = (
    f"run `prompt-tuning tasks {task.name} --tfds_data_dir=DIR` on a machine that reaches "
    "its source and copy DIR, or correct --tfds_data_dir"
  )
  if builder is None:
    raise checks.InputError(f"{missing} and TFDS does not know it; correct its name")
  if _offline():
    raise checks.InputError(f"{missing} and this machine is offline; {elsewhere}")
  print(f"{missing}; preparing it", file=sys.stderr, flush=True)
  try:
    builder.download_and_prepare()
  except Exception as error:  # a builder's, a server's or TFDS's own kind
    why = " ".join(str(error).split())[:200]
    raise checks.InputError(
      f"{missing} and cannot be prepared ({why}); {elsewhere}"
    ) from error


def _builder(task: seqio.Task) -> Any:
  """The dataset's builder, or None where TFDS knows nothing of it."""
  name = dataset_name(task)
  if name is None:
    return None
  try:  # not seqio's, which remembers what was there when it was asked first
    return tfds.builder(name, data_dir=task.source.tfds_dataset.data_dir)
  except (tfds.core.DatasetNotFoundError, AssertionError, ValueError):
    return None


def _folder(task: seqio.Task) -> str:
  return task.source.tfds_dataset.data_dir or tfds.core.constants.DATA_DIR


def _offline() -> bool:
  if any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
    return False  # names are the proxy's to resolve
  try:
    socket.getaddrinfo(_HOST, 443)
  except OSError:
    return True
  return False
