"""The state of a run on disk: written beside the loop, whole or absent, bit for bit.

  MODEL_DIR/run_state/step_<N>.safetensors
  MODEL_DIR/run_state/step_<N>.data/         what others keep with it, where they do

Each file holds the leaves of a `TrainState` (tunable weights, optimizer slots, step,
PRNG key) under their tree paths and, as metadata, whatever the loop must remember. The
frozen model is never in it. A file appears under its name only when it is complete, and
with it the folder beside it counts; a folder without its file does not.

This is not Orbax: a state of kilobytes is one file, for which a rename is simpler, and
eight times faster, than a folder of arrays with a commit protocol.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import state_file
from prompt_tuning.types import PyTree

_STATE = re.compile(r"step_(\d+)\.safetensors")
_DATA = re.compile(r"step_(\d+)\.data")
_TEMPORARY = ".step_"  # how the names of files that are being written begin
_KEEP = 2  # the newest, and one behind it should the newest be lost


def steps(model_dir: epath.Path) -> list[int]:
  """Steps that were saved, in order."""
  return _numbers(_folder(model_dir), _STATE)


def latest(model_dir: epath.Path) -> int | None:
  """The newest step that was saved, one answer for all processes of a run, or None."""
  newest = max(steps(model_dir), default=-1)
  found = int(multihost_utils.broadcast_one_to_all(np.int32(newest)))
  return found if found >= 0 else None


def data_folder(model_dir: epath.Path, step: int) -> epath.Path:
  """Where others may keep what belongs to a step, before its state is saved."""
  return _folder(model_dir) / f"step_{step}.data"


class Saver:
  """Saves states while the loop goes on.

  In a run of several processes each of them makes all the calls, in the same order; the
  first one writes, and a failure of it is raised in all of them.

  Args:
    model_dir: MODEL_DIR. What a killed process left unfinished in it is removed.
    keep: States to keep.
  """

  def __init__(self, model_dir: epath.Path, keep: int = _KEEP):
    self._model_dir, self._keep = model_dir, keep
    self._thread = ThreadPoolExecutor(1, "run_state")
    self._pending: Future[None] | None = None
    self._step = self._complete = max(steps(model_dir), default=None)
    if jax.process_index() == 0:
      with contextlib.suppress(Exception):  # see `_write`
        _tidy(model_dir, math.inf)
    multihost_utils.sync_global_devices("run_state")  # nobody fills folders before

  def save(self, step: int, state: PyTree, memory: dict[str, Any]) -> int:
    """Copies a state and has it written; returns when the one before is on disk.

    The arrays may be donated afterwards. `data_folder`, if it belongs to the step, must
    have been filled by then.

    Args:
      step: Names the file; later than those before.
      state: A pytree of arrays and PRNG keys, the same in all processes.
      memory: JSON values that the loop wants back.

    Returns:
      Bytes of the file.

    Raises:
      InputError: The state before could not be written.
    """
    self.wait()
    content, self._step = state_file.encode(state, memory), step
    if jax.process_index() == 0:
      arguments = (self._model_dir, step, content, self._keep)
      self._pending = self._thread.submit(_write, *arguments)
    return len(content)

  def wait(self) -> None:
    """Returns when all that was saved is on disk.

    Raises:
      InputError: It could not be written.
    """
    pending, self._pending = self._pending, None
    failure = pending.exception() if pending else None
    failed = multihost_utils.broadcast_one_to_all(np.int32(failure is not None))
    if failure is not None:
      raise self._failure(failure) from failure
    if failed:
      raise checks.InputError(
        f"process 0 could not write the state of step {self._step}; see what it says"
      )
    if pending:
      self._complete = self._step

  def _failure(self, failure: BaseException) -> BaseException:
    if not isinstance(failure, OSError) and not files.is_remote(self._model_dir):
      return failure
    what = f"the state of step {self._step}"
    return _unwritable(what, self._model_dir, failure, self._complete)

  def __enter__(self) -> "Saver":
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    """Waits; after an error only for this process, and the error is what is raised."""
    try:
      if kind is None:
        self.wait()
    finally:
      self._thread.shutdown()


@contextlib.contextmanager
def writing(model_dir: epath.Path) -> Iterator[None]:
  """Says of a run whose folder cannot be written any more what is kept of it."""
  try:
    yield
  except OSError as error:
    if _of_another_file(error, model_dir):
      raise
    newest = max(steps(model_dir), default=None)
    raise _unwritable("a result", model_dir, error, newest) from error


def _of_another_file(error: OSError, folder: epath.Path) -> bool:
  """Whether an error names a file outside a folder; that of an open file names none."""
  if not isinstance(error.filename, str) or files.is_remote(folder):
    return False
  path = pathlib.Path(os.path.abspath(error.filename))
  return not path.is_relative_to(os.path.abspath(folder))


def _unwritable(
  what: str, model_dir: epath.Path, error: BaseException, newest: int | None
) -> checks.InputError:
  why = getattr(error, "strerror", None) or error
  kept = "nothing is kept yet" if newest is None else f"the state of step {newest} is kept"
  return checks.InputError(
    f"{what} cannot be written to {model_dir} ({why}), expected a folder with room that "
    f"may be filled; {kept}: make room, then give the same command again"
  )


@dataclasses.dataclass(frozen=True)
class Saved:
  """What was saved.

  Attributes:
    path: The file.
    arrays: Leaves by their tree path.
    memory: JSON values that the loop wanted back.
  """

  path: epath.Path
  arrays: dict[str, np.ndarray]
  memory: dict[str, Any]

  def onto(self, like: PyTree) -> PyTree:
    """The state in the structure of `like`.

    Raises:
      InputError: It belongs to another kind of run.
    """
    named, remedy = state_file.named(like), "choose another MODEL_DIR"
    missing = named.keys() - self.arrays.keys()
    unexpected = self.arrays.keys() - named.keys()
    checks.names(f"the run state {self.path}", missing, unexpected, remedy)
    leaves = []
    for (name, plain), leaf in zip(named.items(), jax.tree.leaves(like), strict=True):
      found = self.arrays[name]
      checks.shape(f"{name} of {self.path}", found.shape, plain.shape, remedy)
      array = jnp.asarray(found)
      leaves.append(jax.random.wrap_key_data(array) if state_file.is_key(leaf) else array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load(model_dir: epath.Path, step: int) -> Saved:
  """Reads the state of one step.

  Raises:
    InputError: The file is damaged.
  """
  path = _path(model_dir, step)
  try:
    arrays, memory = state_file.decode(path)
  except (KeyError, ValueError) as error:
    raise checks.InputError(
      f"the run state {path} cannot be read ({error}), expected a file of this program; "
      "delete it to continue from the one before, or choose another MODEL_DIR"
    ) from error
  return Saved(path, arrays, memory)


def check_identity(
  model_dir: epath.Path, before: Mapping[str, str], now: Mapping[str, str]
) -> None:
  """Raises `InputError` naming every setting that changed since the run began."""
  differing = [
    f"  {name}: {before.get(name)} before, {value} now"
    for name, value in now.items()
    if before.get(name) != value
  ]
  if differing:
    raise checks.InputError(
      f"{model_dir} holds a run with other settings, expected the same to continue it; "
      "restore them or choose another MODEL_DIR\n" + "\n".join(differing)
    )


def _folder(model_dir: epath.Path) -> epath.Path:
  return model_dir / "run_state"


def _path(model_dir: epath.Path, step: int) -> epath.Path:
  return _folder(model_dir) / f"step_{step}.safetensors"


def _numbers(folder: epath.Path, kind: re.Pattern[str]) -> list[int]:
  if not folder.exists():
    return []
  found = (kind.fullmatch(path.name) for path in folder.iterdir())
  return sorted(int(match[1]) for match in found if match)


def _write(model_dir: epath.Path, step: int, content: bytes, keep: int) -> None:
  _folder(model_dir).mkdir(parents=True, exist_ok=True)
  _sync(data_folder(model_dir, step))
  files.write_atomically(_path(model_dir, step), content)
  # The state is safe now, whatever becomes of the old; the next save tries again. A
  # bucket's client has errors of its own.
  with contextlib.suppress(Exception):
    *_, newest = kept = steps(model_dir)
    for old in kept[:-keep]:
      _path(model_dir, old).unlink()
    _tidy(model_dir, newest)


def _tidy(model_dir: epath.Path, newest: float) -> None:
  """Removes temporaries, and folders that no state commits.

  A folder of a later step than `newest` is being filled.
  """
  folder = _folder(model_dir)
  if not folder.exists():
    return
  for path in folder.iterdir():
    if path.name.startswith(_TEMPORARY):
      path.unlink()
  for step in set(_numbers(folder, _DATA)).difference(steps(model_dir)):
    if step < newest:
      data_folder(model_dir, step).rmtree()


def _sync(folder: epath.Path) -> None:
  """Makes what is in a folder survive a power cut, if there is one."""
  if files.is_remote(folder) or not folder.exists():
    return
  for path in (*pathlib.Path(folder).rglob("*"), folder):
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
