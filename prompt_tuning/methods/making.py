"""What methods share whose variables make prompts: a bank that learns `through` a module.

bank/prompts     what each prompt has of its own
bank/through/*   what makes prompts of it
"""

from collections.abc import Mapping

import jax.numpy as jnp

from prompt_tuning.methods.method import Folded
from prompt_tuning.prompts import prompted
from prompt_tuning.prompts.bank import PATH
from prompt_tuning.types import Array, ArrayLike

_BANK, _THROUGH = "bank/prompts", "bank/through/"


def rows(trained: Mapping[str, ArrayLike]) -> Array:
  """What each prompt has of its own, of variables by path."""
  return jnp.asarray(trained[_BANK])


def through(trained: Mapping[str, ArrayLike]) -> dict[str, Array]:
  """The variables of the module that makes prompts of it, by name."""
  return {
    path.removeprefix(_THROUGH): jnp.asarray(value)
    for path, value in trained.items()
    if path.startswith(_THROUGH)
  }


def prompts(made: ArrayLike) -> Folded:
  """Nothing but prompts [num_prompts, prompt_len, d_model]."""
  return Folded({_BANK: made}, None)


def t5x_path(path: str, module: str) -> str:
  """The T5X name of a variable, those of `through` in a module beside the prompt."""
  if path.startswith(_THROUGH):
    return f"{PATH.rpartition('/')[0]}/{module}/{path.removeprefix(_THROUGH)}"
  return prompted.t5x_path(path)
