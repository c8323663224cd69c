"""Importing seqio without TensorFlow's notices.

TensorFlow's C++ part writes to the process's stderr while it is loaded, before any of its
log levels apply. Whatever goes wrong is still raised as a Python exception.
"""

import os
import sys


def import_seqio() -> None:
  """Imports seqio (and with it TensorFlow) with file descriptor 2 sent away."""
  if "seqio" in sys.modules:
    return
  sys.stderr.flush()
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nowhere, 2)
    import seqio  # noqa: F401
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # they are the model's
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
