"""The bank: every prompt of a run in one array."""

import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.types import Array, ArrayLike, Shape, Tunable

PATH = "encoder/prompt/prompt/prompt"  # of a prompt in a T5X parameter tree
AXES = ("num_prompts", "prompt", "prompt_embed")  # none of them is ever sharded


class PromptBank(nnx.Module):
  """Soft prompts `[num_prompts, prompt_len, d_model]`, float32, the only thing that learns.

  Args:
    array: [prompt_len, d_model] for a single prompt, or with a leading num_prompts.

  Raises:
    InputError: The array has another rank.
  """

  def __init__(self, array: ArrayLike):
    if array.ndim not in (2, 3):
      raise checks.InputError(
        f"a prompt has shape {list(array.shape)}, expected [prompt_len, d_model] or "
        "[num_prompts, prompt_len, d_model]; reshape it"
      )
    array = jnp.asarray(array, jnp.float32)
    self.prompts = Tunable(array[None] if array.ndim == 2 else array, axes=AXES)

  @classmethod
  def abstract(cls, shape: Shape) -> "PromptBank":
    """A bank of `shape` [num_prompts, prompt_len, d_model] that allocates nothing."""
    return nnx.eval_shape(lambda: cls(jnp.zeros(shape)))

  @property
  def num_prompts(self) -> int:
    """How many prompts the bank holds."""
    return self.prompts.get_value().shape[0]

  @property
  def prompt_len(self) -> int:
    """Virtual tokens per prompt."""
    return self.prompts.get_value().shape[1]

  def rows(self, prompt_ids: Array | None, batch: int) -> Array:
    """The prompt of each example: [batch, prompt_len, d_model] float32.

    Args:
      prompt_ids: [batch] int32, or None where the bank holds one prompt for all.
      batch: Rows to return when `prompt_ids` is None.

    Raises:
      InputError: The bank holds several prompts and none is chosen.
    """
    prompts = self.prompts[...]
    if prompt_ids is None and self.num_prompts > 1:
      raise checks.InputError(
        f"the bank holds {self.num_prompts} prompts and no prompt_ids are given, expected "
        "one id per example; pass prompt_ids, or set num_prompts to 1"
      )
    if prompt_ids is None:
      return jnp.broadcast_to(prompts, (batch, *prompts.shape[1:]))
    return jnp.take(prompts, prompt_ids, axis=0)
