"""DePT: a short prompt, and an offset of low rank on the tokens (Shi & Lipani 2023).

  prompt     [prompt_len, d_model]                  in front, as ever
  offset     A [max_length, rank] @ B [rank, d_model]    row i is added to token i

The place of a token is counted in its example, wherever a packed row holds that.

The paper learns the prompt fast and A and B slowly. Here both are learned as 1 / rate of
themselves: where an optimizer makes updates of a size (Adafactor without parameter scale,
Adam), that is as if their learning rate were `rate` times the prompt's. The file of the
trained method holds A and B as they act. (arXiv:2309.05173)
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike, Tunable

_OFFSET = "steering/offset/"


class LowRankOffset(nnx.Module):
  """Adds a row for each place; none behind `max_length`. See `steering.Offset`.

  Args:
    a: [max_length, rank], as it acts.
    b: [rank, d_model], likewise.
    rate: What the variables are multiplied by.
  """

  def __init__(self, a: Array, b: Array, rate: float):
    self._rate = rate
    self.a = Tunable(a / rate, axes=(None, None))
    self.b = Tunable(b / rate, axes=(None, "prompt_embed"))

  def __call__(self, embeddings: Array, positions: Array, longest: int) -> Array:
    """See `steering.Offset`.

    Raises:
      InputError: An example may be longer than `max_length`.
    """
    a, b = self._rate * self.a[...], self._rate * self.b[...]
    if longest > a.shape[0]:
      raise checks.InputError(
        f"the inputs have up to {longest} tokens, expected at most OFFSET_LENGTH, which is "
        f"{a.shape[0]}; raise it, or lower TASK_FEATURE_LENGTHS"
      )
    places = jnp.where(positions < 0, a.shape[0], positions)
    of_place = jnp.take(a @ b, places, axis=0, mode="fill", fill_value=0.0)
    return embeddings + of_place.astype(embeddings.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecomposedPrompt:
  """A short prompt and an offset, which starts as none.

  prompt_len * d_model + rank * (max_length + d_model) parameters learn.

  Attributes:
    prompt: The one in front.
    max_length: Tokens that an input may have.
    rank: Of the offset.
    rate: Learning rate of A and B for each unit of the prompt's, above 0.
  """

  prompt: Prompt
  max_length: int
  rank: int
  rate: float = 1.0
  name = "decomposed"
  leaves_prompts = False

  def __post_init__(self):
    checks.whole("OFFSET_LENGTH", self.max_length, 1, "give that of the inputs")
    checks.whole("OFFSET_RANK", self.rank, 1, "the paper uses 45 at a width of 768")
    checks.number("OFFSET_RATE", self.rate, 1e-9, "1 is the learning rate of the prompt")

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    key, d_model = jax.random.fold_in(given.key, 1), given.model.config.d_model
    shape = (self.max_length, self.rank)
    a = jax.random.normal(key, shape, jnp.float32) / jnp.sqrt(self.rank)
    b = jnp.zeros((self.rank, d_model), jnp.float32)
    offset = LowRankOffset(a, b, self.rate)
    bank = PromptBank(given.prompts(self.prompt))
    steering, visible = Steering(offset=offset), given.visibility
    return PromptedT5(given.model, bank, visibility=visible, steering=steering)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """A and B as they act."""
    tensors = {
      path: x * self.rate if path.startswith(_OFFSET) else x for path, x in trained.items()
    }
    return Folded(tensors, dataclasses.replace(self, rate=1.0))

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/offset/{a,b}."""
    if path.startswith(_OFFSET):
      return path.replace(_OFFSET, "encoder/prompt/offset/")
    return t5x_path(path)
