"""Flax's msgpack files: a tree whose leaves are arrays or stand for arrays elsewhere.

An array is an extension: 1 holds (shape, name of the dtype, bytes in C order), 3 the same
of a scalar. Flax splits what is larger than 1 GiB into a map of parts. What is written is
Flax's own; reading is stricter than Flax's, which makes arrays of any dtype and size.
"""

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from etils import epath

from prompt_tuning.checkpoints import zarr_metadata
from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Inline, Leaf, shape_of

_MAX_DEPTH = 64
_ARRAY, _SCALAR = 1, 3  # codes of extensions
_PARTS = "__msgpack_chunked_array__"

# (path in the tree, what stands there) -> its leaf, or None where it is none of an array
Elsewhere = Callable[[str, Any], Leaf | None]


def decode(content: bytes, owner: epath.Path) -> dict[str, Any]:
  """The tree in the bytes of a file.

  Raises:
    InputError: The bytes are damaged or no msgpack map.
  """
  try:
    tree = msgpack.unpackb(content, ext_hook=_extension, raw=False, strict_map_key=False)
  except Exception as error:  # msgpack raises whatever it meets in damaged bytes
    why = f"its index is damaged ({type(error).__name__}: {first_line(error)})"
    raise unreadable(owner, why) from error
  if not isinstance(tree, dict):
    raise unreadable(owner, "its index is damaged (it is no map)")
  return tree


def leaves(tree: Any, owner: epath.Path, elsewhere: Elsewhere) -> dict[str, Leaf]:
  """{"a/b/c": leaf}; nil and empty maps vanish.

  Args:
    tree: From `decode`, or a part of it.
    owner: The checkpoint, for messages.
    elsewhere: What to make of a map or a string that stands for an array.

  Raises:
    InputError: A leaf is neither an array nor stands for one.
  """
  found: dict[str, Leaf] = {}

  def walk(path: str, node: Any, depth: int) -> None:
    try:
      leaf = elsewhere(path, node)
    except ValueError as error:
      raise unreadable(owner, f"{path} ({first_line(error)})") from error
    if path in found:
      raise unreadable(owner, f"{path} stands twice in its index")
    if leaf is not None:
      found[path] = leaf
    elif isinstance(node, dict) and _PARTS in node:
      found[path] = Inline(_joined(path, node, owner))
    elif isinstance(node, dict):
      if depth > _MAX_DEPTH:
        raise unreadable(owner, f"its index is nested more than {_MAX_DEPTH} deep")
      for name, child in node.items():
        walk(f"{path}/{name}" if path else str(name), child, depth + 1)
    elif node is not None:
      found[path] = _inline(path, node, owner)

  walk("", tree, 0)
  return found


def _inline(path: str, node: Any, owner: epath.Path) -> Leaf:
  if isinstance(node, bool | int | float):
    node = np.asarray(node)
  if not isinstance(node, np.ndarray) or node.dtype == object:
    raise unreadable(owner, f"{path} is a {type(node).__name__}, not an array")
  return Inline(node)


def _extension(code: int, data: bytes) -> np.ndarray:
  if code not in (_ARRAY, _SCALAR):
    raise ValueError(f"it has an extension of type {code}")
  sizes, name, content = msgpack.unpackb(data, raw=True)
  dtype = zarr_metadata.dtype(name.decode("ascii"))
  return np.frombuffer(content, dtype).reshape(shape_of(sizes))


def _joined(path: str, node: dict[str, Any], owner: epath.Path) -> np.ndarray:
  """The array that Flax split: {"shape": {"0": ...}, "chunks": {"0": ...}}."""
  try:
    sizes, parts = (
      [node[key][str(n)] for n in range(len(node[key]))] for key in ("shape", "chunks")
    )
    if len({part.dtype for part in parts}) != 1:
      raise ValueError("its parts differ in dtype")
    return np.concatenate(parts).reshape(shape_of([int(size) for size in sizes]))
  except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
    raise unreadable(owner, f"{path} ({first_line(error)})") from error
