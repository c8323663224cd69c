"""One zarr array as a leaf, read through tensorstore: locally, in a bucket, or in OCDBT."""

import dataclasses
import math
import os
from collections.abc import Callable

import numpy as np
import tensorstore as ts
from etils import epath

from prompt_tuning import files
from prompt_tuning.checkpoints import zarr_metadata
from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Index
from prompt_tuning.checkpoints.zarr_metadata import Location, Metadata, Stored
from prompt_tuning.types import Shape

_FAILURES = (ValueError, OSError, NotImplementedError, RuntimeError, OverflowError)


@dataclasses.dataclass(frozen=True)
class Zarr:
  """A leaf in zarr format.

  Attributes:
    shape: As the checkpoint's index has it.
    dtype: The same.
    location: Where its chunks lie.
    owner: The checkpoint, for messages.
    name: Of the variable, for messages.
    stored: What is there to be read; None where that is not known.
  """

  shape: Shape
  dtype: np.dtype
  location: Location
  owner: epath.Path
  name: str
  stored: Callable[[], Stored | None]

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`; damage names the checkpoint and the variable."""
    try:
      found = zarr_metadata.read(self.location)
      self._check(found)
      # A chunk that is not there is damage; tensorstore would fill in zeros.
      spec = {"kvstore": self.location, "fill_missing_data_reads": False}
      store = ts.open({"driver": found.driver, **spec}, open=True).result()
      if dtype is not None and dtype != self.dtype:
        store = ts.cast(store, dtype)  # chunk by chunk
      return np.asarray(store[index or ...].read().result())
    except _FAILURES as error:
      raise unreadable(self.owner, f"{self.name} ({first_line(error)})") from error

  def _check(self, found: Metadata) -> None:
    """Raises `ValueError` for an array that is not the one of the index."""
    if found.shape != self.shape:
      raise ValueError(f"its shape is {found.shape}, its index says {self.shape}")
    if found.dtype != self.dtype:
      raise ValueError(f"it holds {found.dtype}, its index says {self.dtype}")
    found.check(self.stored())
    if found.compressor == "blosc":
      _check_blosc(self.location, found)


def location(folder: epath.Path, inside: str) -> Location:
  """The store of the array `inside` a folder, wherever the folder lies now.

  Raises:
    ValueError: The path leaves the folder.
  """
  parts = inside.strip("/").split("/")
  if inside.startswith("/") or ".." in parts or not parts[0] or "\0" in inside:
    raise ValueError(f"it points outside the checkpoint, to {inside!r}")
  base = store(folder)
  return {**base, "path": base["path"] + "/".join(parts) + "/"}


def store(folder: epath.Path) -> Location:
  """The key-value store that is a folder, here or in a bucket."""
  text = str(folder)
  if text.startswith("gs://"):
    bucket, _, prefix = text.removeprefix("gs://").partition("/")
    return {"driver": "gcs", "bucket": bucket, "path": f"{prefix.strip('/')}/".lstrip("/")}
  return {"driver": "file", "path": f"{folder.resolve()}/"}


def _check_blosc(location: Location, found: Metadata) -> None:
  """Raises `ValueError` for a chunk whose own header promises another size.

  blosc allocates what that says:  version(1) lz(1) flags(1) typesize(1) nbytes(4) ...
  """
  store = ts.KvStore.open(location).result()
  expected = math.prod(found.chunks) * found.dtype.itemsize
  for key in store.list().result():
    if zarr_metadata.is_chunk(key.decode(errors="replace")):
      head = store.read(key).result().value[4:8]
      if int.from_bytes(head, "little") != expected:
        raise ValueError(f"a chunk is not of {expected} bytes")


def files_below(folder: epath.Path) -> Stored | None:
  """What lies below a local folder; None in a bucket, where asking is slow."""
  if files.is_remote(folder):
    return None
  walk = os.walk(folder)
  paths = [os.path.join(at, name) for at, _, names in walk for name in names]
  chunks = sum(zarr_metadata.is_chunk(os.path.basename(path)) for path in paths)
  return Stored(sum(os.stat(path).st_size for path in paths), chunks)


def keys_below(location: Location, nbytes: int) -> Stored:
  """What an OCDBT store of `nbytes` in all has at a location."""
  keys = ts.KvStore.open(location).result().list().result()
  chunks = sum(zarr_metadata.is_chunk(key.decode(errors="replace")) for key in keys)
  return Stored(nbytes, chunks)
