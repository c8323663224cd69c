"""Scanned layouts: one stack per parameter becomes one parameter per layer.

  encoder/encoder/attention/query/kernel [d_model, layers, joined_kv]
    -> encoder/layers_0/attention/query/kernel [d_model, joined_kv], layers_1, ...

A scanned tower has a relative position table in every layer. Where those of both towers are
all the same, they become the shared tables of the plain layout.
"""

import re
from collections.abc import Mapping

import numpy as np
from etils import epath

from prompt_tuning.checkpoints.checkpoint import unreadable
from prompt_tuning.checkpoints.leaves import Layer, Leaf

_STACKED = re.compile(r"(encoder/encoder|decoder/decoder)/(.+)")
_MOST_LAYERS = 4096
_POSITIONS = "relpos_bias/rel_embedding"


def unstacked(leaves: Mapping[str, Leaf], path: epath.Path) -> dict[str, Leaf]:
  """{path: leaf} without stacks; what is not scanned stays as it is.

  Raises:
    InputError: The stacks of a tower differ in their number of layers.
  """
  found: dict[str, Leaf] = {}
  depths: dict[str, int] = {}
  stacks = {
    match: leaf for name, leaf in leaves.items() if (match := _STACKED.fullmatch(name))
  }
  tables = [leaf for match, leaf in stacks.items() if match[2] == _POSITIONS]
  is_shared = all(len(leaf.shape) > 1 and _same(leaf) for leaf in tables)
  for name, leaf in leaves.items():
    match = _STACKED.fullmatch(name)
    if match is None:
      found[name] = leaf
      continue
    tower, rest = match[1].split("/")[0], match[2]
    depth = leaf.shape[1] if len(leaf.shape) > 1 and 0 not in leaf.shape else 0
    if depths.setdefault(tower, depth) != depth or not 0 < depth <= _MOST_LAYERS:
      raise unreadable(
        path, f"{name} stacks {depth} layers, other parameters {depths[tower]}"
      )
    layers: list[Leaf] = [Layer(leaf, number) for number in range(depth)]
    if rest == _POSITIONS and is_shared:
      found[f"{tower}/{rest}"] = layers[0]
    else:
      found |= {f"{tower}/layers_{n}/{rest}": layer for n, layer in enumerate(layers)}
  return found


def _same(stack: Leaf) -> bool:
  values = stack.read()
  return bool(np.all(values == values[:, :1]))
