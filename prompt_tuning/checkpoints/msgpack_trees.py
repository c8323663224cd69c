"""Flax's msgpack files: a tree whose leaves are arrays or stand for arrays elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath
from flax import serialization

from prompt_tuning.checkpoints.checkpoint import first_line, unreadable
from prompt_tuning.checkpoints.leaves import Inline, Leaf

_MAX_DEPTH = 64
_NUMERIC = "biufV"  # kinds of numpy dtypes; V is bfloat16

# (path in the tree, what stands there) -> its leaf, or None where it is none of an array
Elsewhere = Callable[[str, Any], Leaf | None]


def decode(content: bytes, owner: epath.Path) -> dict[str, Any]:
  """The tree in the bytes of a file.

  Raises:
    InputError: The bytes are damaged or no msgpack map.
  """
  try:
    tree = serialization.msgpack_restore(content)
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
    if leaf is not None:
      found[path] = leaf
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
  if isinstance(node, bool | int | float | np.generic | np.ndarray):
    array = np.asarray(node)
    if array.dtype.kind in _NUMERIC:
      return Inline(array)
  raise unreadable(owner, f"{path} is a {type(node).__name__}, not an array")
