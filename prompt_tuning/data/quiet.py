"""Importing TensorFlow and seqio without TensorFlow's notices.

TensorFlow's C++ part writes to the process's stderr while it is loaded, before any of its
log levels apply. Whatever goes wrong is still raised as a Python exception.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def import_seqio() -> None:
  """Imports seqio (and with it TensorFlow)."""
  if "seqio" in sys.modules:
    return
  with _without_stderr():
    import seqio  # noqa: F401
  import_tensorflow()


def import_tensorflow() -> Any:
  """Imports TensorFlow, which then leaves accelerators alone: they are the model's."""
  with _without_stderr():
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
  return tf


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
  """Sends file descriptor 2 away."""
  sys.stderr.flush()
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nowhere, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
