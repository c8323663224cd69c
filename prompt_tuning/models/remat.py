"""What a layer keeps for its gradient, and what it computes again."""

from collections.abc import Callable
from typing import Any

import jax

from prompt_tuning import checks

# name -> what is kept of a layer: everything, products with weights, its input only
_KEPT: dict[str, Any] = {
  "none": None,
  "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


def check(name: str) -> None:
  """Raises `InputError` for an unknown kind of rematerialisation."""
  checks.choice("LAYER_REMAT", name, list(_KEPT))


def rematerialised(layer: Callable, name: str) -> Callable:
  """The layer, which computes again in its backward pass what it did not keep."""
  policy = _KEPT[name]
  return layer if policy is None else jax.checkpoint(layer, policy=policy)
