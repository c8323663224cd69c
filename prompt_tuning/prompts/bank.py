"""The bank: every prompt of a run in one array."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.types import Array, ArrayLike, Frozen, Shape, Tunable

PATH = "encoder/prompt/prompt/prompt"  # of a prompt in a T5X parameter tree
AXES = ("num_prompts", "prompt", "prompt_embed")  # none of them is ever sharded


class PromptBank(nnx.Module):
  """Soft prompts `[num_prompts, prompt_len, d_model]`, float32: what prompt tuning learns.

  Prompts of different lengths end together; the slots in front of the shorter ones are
  hidden from everybody, so that each acts as it does alone:

    prompt of 3   P P P t t t
    prompt of 1   . . P t t t
    no prompt     . . . t t t

  Args:
    array: [prompt_len, d_model] for a single prompt, or with a leading num_prompts.
    lengths: [num_prompts] int32, slots that each prompt uses; None where it is all.
    through: What makes prompts [num_prompts, prompt_len, d_model] of an array
      [num_prompts, ...] that is none itself.

  Raises:
    InputError: The array has another rank.
  """

  def __init__(
    self,
    array: ArrayLike,
    lengths: ArrayLike | None = None,
    through: Callable[[Array], Array] | None = None,
  ):
    if array.ndim not in (2, 3):
      raise checks.InputError(
        f"a prompt has shape {list(array.shape)}, expected [prompt_len, d_model] or "
        "[num_prompts, prompt_len, d_model]; reshape it"
      )
    array = jnp.asarray(array, jnp.float32)
    self.prompts = Tunable(array[None] if array.ndim == 2 else array, axes=AXES)
    self.through = nnx.data(through)
    if lengths is None:
      self.lengths = None
    else:
      self.lengths = Frozen(jnp.asarray(lengths, jnp.int32), axes=AXES[:1])

  @classmethod
  def of(cls, prompts: Sequence[ArrayLike]) -> "PromptBank":
    """A bank of prompts [prompt_len, d_model] whose lengths may differ.

    Raises:
      InputError: There is none, or their widths differ.
    """
    shapes = [np.shape(prompt) for prompt in prompts]
    widths = {shape[-1] for shape in shapes if len(shape) == 2}
    if len(widths) != 1 or any(len(shape) != 2 for shape in shapes):
      raise checks.InputError(
        f"the prompts have shapes {[list(shape) for shape in shapes]}, expected one or "
        "more [prompt_len, d_model] of one width; choose prompts of one model"
      )
    longest = max(length for length, _ in shapes)
    array = np.stack([in_slots(np.asarray(p), longest) for p in prompts])
    lengths = np.asarray([length for length, _ in shapes])
    return cls(array, lengths if len(set(lengths)) > 1 else None)

  @classmethod
  def abstract(cls, shape: Shape) -> "PromptBank":
    """A bank of `shape` [num_prompts, prompt_len, d_model] that allocates nothing."""
    return nnx.eval_shape(lambda: cls(jnp.zeros(shape)))

  @property
  def array(self) -> Array:
    """The prompts as the model reads them: [num_prompts, prompt_len, d_model] float32."""
    learned = self.prompts[...]
    return learned if self.through is None else self.through(learned)

  @property
  def shape(self) -> Shape:
    """Of `array`."""
    learned = self.prompts.get_value()
    if self.through is None:
      return learned.shape
    return jax.eval_shape(self.through, learned).shape

  @property
  def num_prompts(self) -> int:
    """How many prompts the bank holds."""
    return self.prompts.get_value().shape[0]

  @property
  def prompt_len(self) -> int:
    """Virtual tokens per prompt."""
    return self.shape[1]

  def check_width(self, d_model: int) -> None:
    """Raises `InputError` unless the prompts are as wide as a model."""
    checks.shape(
      "the bank of prompts",
      self.shape,
      (*self.shape[:2], d_model),
      "choose the model size that the prompts were trained for",
    )

  def rows(self, prompt_ids: Array | None, batch: int) -> Array:
    """The prompt of each example: [batch, prompt_len, d_model] float32.

    Args:
      prompt_ids: [batch] int32, or None where the bank holds one prompt for all.
      batch: Rows to return when `prompt_ids` is None.

    Raises:
      InputError: The bank holds several prompts and none is chosen, or one that it does
        not have (where the ids are known, which they are not under `jax.jit`).
    """
    prompts, ids = self.array, self.ids(prompt_ids, batch)
    if prompt_ids is None:
      return jnp.broadcast_to(prompts, (batch, *prompts.shape[1:]))
    return jnp.take(prompts, ids, axis=0)

  def _check_ids(self, prompt_ids: Array, batch: int) -> None:
    ids = jnp.shape(prompt_ids)
    checks.shape("prompt_ids", ids, (batch,), "give one id for each example")
    if isinstance(prompt_ids, jax.core.Tracer):
      return
    found = np.asarray(prompt_ids)
    if found.size and not 0 <= found.min() <= found.max() < self.num_prompts:
      raise checks.InputError(
        f"prompt_ids are {found.min()} to {found.max()}, expected 0 to "
        f"{self.num_prompts - 1}, the prompts of the bank; correct them"
      )

  def ids(self, prompt_ids: Array | None, batch: int) -> Array:
    """`prompt_ids`, or [batch] int32 of zeros where there is one prompt for all.

    Raises:
      InputError: See `rows`.
    """
    if prompt_ids is None and self.num_prompts > 1:
      raise checks.InputError(
        f"the bank holds {self.num_prompts} prompts and no prompt_ids are given, expected "
        "one id per example; pass prompt_ids, or set num_prompts to 1"
      )
    if prompt_ids is None:
      return jnp.zeros((batch,), jnp.int32)
    self._check_ids(prompt_ids, batch)
    return prompt_ids

  def used(self, prompt_ids: Array | None, batch: int) -> Array:
    """Which slots of each example's prompt are in use: [batch, prompt_len] bool."""
    if self.lengths is None:
      return jnp.ones((batch, self.prompt_len), bool)
    ids = jnp.zeros((batch,), jnp.int32) if prompt_ids is None else prompt_ids
    unused = self.prompt_len - jnp.take(self.lengths[...], ids, axis=0)
    return jnp.arange(self.prompt_len)[None, :] >= unused[:, None]


def in_slots(prompt: np.ndarray, slots: int) -> np.ndarray:
  """A prompt [prompt_len, d_model] at the end of `slots` slots, zeros in front."""
  return np.pad(prompt, ((slots - prompt.shape[0], 0), (0, 0))).astype(np.float32)
