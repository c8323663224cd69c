"""Aliases, the two kinds of variables, and the glossary of axis names.

Axes, as the docstrings of this package write them:

  batch        rows of a batch
  input_len    encoder tokens, padding included
  target_len   decoder tokens, padding included
  prompt_len   virtual tokens of one prompt
  num_prompts  prompts in a bank
  d_model      width of the residual stream
  num_heads    attention heads; d_kv is the width of one
  d_ff         hidden width of the MLP
  vocab        rows of the embedding table, a multiple of 128 as a rule
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

Array = jax.Array
ArrayLike = jax.Array | np.ndarray
PyTree = Any
Shape = tuple[int, ...]
Initializer = Callable[[Array, Shape], Array]  # (key, shape) -> float32 array
FlatParams = Mapping[str, Any]  # {"encoder/layers_0/...": array}
# (value, its logical axes) -> the same value, laid out over devices
Constrain = Callable[[Array, tuple[str | None, ...]], Array]


def unconstrained(x: Array, axes: tuple[str | None, ...]) -> Array:
  """Leaves the layout to the compiler."""
  del axes
  return x


class Frozen(nnx.Variable):
  """A weight of the pretrained model: read, never differentiated, never saved."""


class Tunable(nnx.Variable):
  """A weight that the run learns: differentiated, optimized and saved."""
