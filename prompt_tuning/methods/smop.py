"""SMoP: of several short prompts each input gets the one that fits it (Choi et al. 2023).

  shares = softmax(mean embedding of the input @ router)
  prompt = shares[best] * prompts[best]

The share of the one that is taken is what the router learns by. The paper adds noise to
the shares while it trains; here there is none. (arXiv:2310.12771)
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

_ROUTER = "steering/router/"


class TopOne(nnx.Module):
  """Takes the prompt with the largest share; see `steering.Router`."""

  def __init__(self, kernel: Array):
    self.kernel = Tunable(kernel, axes=("prompt_embed", "num_prompts"))

  def __call__(self, embeddings: Array, valid: Array, prompts: Array) -> Array:
    """See `steering.Router`."""
    real = valid[..., None].astype(jnp.float32)
    total = jnp.sum(embeddings.astype(jnp.float32) * real, axis=1)
    mean = total / jnp.maximum(jnp.sum(real, axis=1), 1.0)
    shares = jax.nn.softmax(mean @ self.kernel[...], axis=-1)
    best = jnp.argmax(shares, axis=-1)
    return shares * jax.nn.one_hot(best, prompts.shape[0], dtype=jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureOfPrompts:
  """Short prompts and their router.

  num_prompts * (prompt_len * d_model + d_model) parameters learn.

  Attributes:
    prompt: How long each is, and how they start.
    num_prompts: To choose from.
  """

  prompt: Prompt
  num_prompts: int = 4
  name = "smop"
  leaves_prompts = False

  def __post_init__(self):
    remedy = "the paper uses 2 to 20 prompts of 5 tokens"
    checks.whole("SHORT_PROMPTS", self.num_prompts, 2, remedy)

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    several = dataclasses.replace(self.prompt, num_prompts=self.num_prompts)
    shape = (given.model.config.d_model, self.num_prompts)
    draw = nnx.initializers.lecun_normal()
    router = TopOne(draw(jax.random.fold_in(given.key, 1), shape, jnp.float32))
    bank = PromptBank(given.prompts(several))
    steering, visible = Steering(router=router), given.visibility
    return PromptedT5(given.model, bank, visibility=visible, steering=steering)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """Nothing to fold."""
    return Folded(trained, self)

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/router/kernel."""
    if path.startswith(_ROUTER):
      return path.replace(_ROUTER, "encoder/prompt/router/")
    return t5x_path(path)
