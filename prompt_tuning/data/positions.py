"""Where an iterator of tf.data stands, as files that only its own pipeline reads again.

NAME.index  NAME.data-00000-of-00001    TensorFlow's: every op's state, buffers included
NAME.npz                                what was read and is not used yet, if anything
NAME.json                               what they are of; written last
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from etils import epath

Facts = dict[str, Any]  # what a position is of: JSON values
Arrays = Mapping[str, np.ndarray]
_TENSORFLOW = {"tensorflow": tf.__version__}  # its ops' states are its own affair


class Unusable(Exception):
  """A position that cannot be continued from; the message says why."""


def write(
  iterator: Any, path: os.PathLike, facts: Facts, arrays: Arrays | None = None
) -> bool:
  """Writes the position of an iterator, unless its pipeline has an op without one.

  Args:
    iterator: Of a `tf.data.Dataset`; it goes on as if nothing had been written.
    path: Folder, which is made, and NAME; there are no such files yet.
    facts: What `read` must be given to accept the files.
    arrays: What `read` gives back.

  Returns:
    Whether the position is there. An op that runs Python code has none.

  Raises:
    OSError: The files cannot be written.
  """
  target = epath.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  try:
    tf.train.Checkpoint(iterator=iterator).write(os.fspath(target))
  except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError):
    _remove(target)
    return False
  except tf.errors.OpError as error:
    raise OSError(
      f"the position of the data cannot be written ({error.message})"
    ) from error
  if arrays:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    _arrays_file(target).write_bytes(content.getvalue())
  _facts_file(target).write_text(json.dumps({**facts, **_TENSORFLOW}))
  return True


def read(
  iterator: Any, path: os.PathLike, facts: Facts, names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
  """Sets a new iterator to a written position; what it gives next would have come next.

  Args:
    iterator: Of the same `tf.data.Dataset`.
    path: See `write`.
    facts: See `write`.
    names: Of the arrays that were written, all of them.

  Returns:
    Those arrays.

  Raises:
    Unusable: There is no whole position, or it is of something else. The iterator is then
      anywhere.
  """
  target = epath.Path(path)
  try:
    found = json.loads(_facts_file(target).read_text())
  except FileNotFoundError:
    raise Unusable(f"{target} has no position") from None
  except (OSError, ValueError) as error:
    raise Unusable(f"{_facts_file(target)} is damaged ({error})") from error
  for name, value in {**facts, **_TENSORFLOW}.items():
    if not isinstance(found, dict) or found.get(name) != value:
      raise Unusable(f"{target} is of another {name}")
  try:
    status = tf.train.Checkpoint(iterator=iterator).read(os.fspath(target))
    status.assert_consumed()
    return _arrays(target, names) if names else {}
  except Exception as error:  # TensorFlow's readers, and zip's, raise what they like
    why = " ".join(str(error).split())[:200]
    raise Unusable(f"{target} is damaged ({why})") from error


def _arrays(target: epath.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
  with np.load(io.BytesIO(_arrays_file(target).read_bytes())) as content:
    return {name: content[name] for name in names}


def _arrays_file(target: epath.Path) -> epath.Path:
  return target.with_name(f"{target.name}.npz")


def _facts_file(target: epath.Path) -> epath.Path:
  return target.with_name(f"{target.name}.json")


def _remove(target: epath.Path) -> None:
  """Removes what a write that failed has left."""
  for path in target.parent.glob(f"{target.name}.*"):
    path.unlink() if path.is_file() else path.rmtree()
