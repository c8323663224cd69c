"""One file of a run's state: leaves by tree path, a memory as JSON, and a checksum.

safetensors; in its metadata
  memory   JSON
  crc32    of the memory, then of the tensors, in hexadecimal; older files have none
"""

import dataclasses
import io
import json
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.types import PyTree, Shape

_BLANK = b"--------"  # where the checksum goes, once it is known


def named(tree: PyTree) -> dict[str, Any]:
  """{tree path: leaf}, with the data of PRNG keys in their place."""
  paths = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    jax.tree_util.keystr(path): jax.random.key_data(leaf) if is_key(leaf) else leaf
    for path, leaf in paths
  }


def is_key(leaf: Any) -> bool:
  """Whether a leaf holds PRNG keys."""
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def encode(state: PyTree, memory: dict[str, Any]) -> bytes:
  """The bytes of a file, which are the only copy of the state in the host's memory.

  Args:
    state: A pytree of arrays and PRNG keys; where processes hold pieces of one array,
      all of them call.
    memory: JSON values.
  """
  tensors = {name: _Live(a.shape, a.dtype, a) for name, a in named(state).items()}
  text = json.dumps(memory)
  metadata = {"crc32": _BLANK.decode(), "memory": text}  # in this order
  header, content, checksum = b"", io.BytesIO(), zlib.crc32(text.encode())
  for part in safetensors_files.encoded(tensors, metadata):
    content.write(part)
    if header:
      checksum = zlib.crc32(part, checksum)
    header = header or bytes(part)
  content.seek(header.index(_BLANK))
  content.write(f"{checksum:08x}".encode())
  return content.getvalue()


def decode(path: epath.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """The arrays and the memory in a file.

  Raises:
    ValueError, KeyError: It is damaged.
  """
  found = safetensors_files.read(path)
  arrays = {name: leaf.read() for name, leaf in found.leaves.items()}
  text = found.metadata["memory"]
  checksum = zlib.crc32(text.encode())
  for array in arrays.values():
    checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
  if found.metadata.get("crc32", f"{checksum:08x}") != f"{checksum:08x}":
    raise ValueError("its checksum is another")
  return arrays, json.loads(text)


@dataclasses.dataclass(frozen=True)
class _Live:
  """An array of the program as a leaf: copied from its device when its turn comes."""

  shape: Shape
  dtype: np.dtype
  array: Any

  def read(self, index: Any = None, dtype: np.dtype | None = None) -> np.ndarray:
    if not isinstance(self.array, jax.Array):
      return np.asarray(self.array)
    if self.array.is_fully_replicated:
      # A shard, since an array keeps what was copied of it for as long as it lives.
      return np.asarray(self.array.addressable_data(0))
    if self.array.is_fully_addressable:
      return np.asarray(self.array)
    return multihost_utils.process_allgather(self.array, tiled=True)
