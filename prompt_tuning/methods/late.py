"""Late prompts: the prompt comes in front of a later encoder layer (Liu et al. 2022).

  layers 0 .. first - 1              tokens
  layers first .. last       P P P | tokens

The layers below see no prompt: nothing is differentiated through them, and an example
costs them no more than without a prompt. (arXiv:2210.11292)
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike


def below(model: T5, prompts: Array, first: int) -> Array:
  """What the layers before `first` make of prompts, each read as an input of its own.

  They are of the scale of what comes in there, which grows from layer to layer.

  Args:
    model: The frozen model.
    prompts: [num_prompts, prompt_len, d_model], of the scale of token embeddings.
    first: The layer they are meant for.

  Returns:
    [num_prompts, prompt_len, d_model] float32.
  """
  everything = jnp.ones((1, 1, prompts.shape[1], prompts.shape[1]), bool)
  encoded = model.encode(prompts, everything, layers=range(first))
  return encoded.astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatePrompt:
  """A prompt in front of a later layer.

  prompt_len * d_model parameters learn.

  Attributes:
    prompt: It starts as what the layers below make of the start that is set here, so that
      embeddings, labels and trained prompts will do.
    first: The encoder layer, from 0, where it is ordinary prompt tuning.
  """

  prompt: Prompt
  first: int
  name = "late"
  leaves_prompts = False

  def __post_init__(self):
    checks.whole("FIRST_LAYER", self.first, 0, "the middle of the encoder is a good start")

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    layers = given.model.config.num_encoder_layers
    if self.first >= layers:
      raise checks.InputError(
        f"FIRST_LAYER is {self.first}, expected 0 to {layers - 1}, a layer of the encoder; "
        "the middle is a good start"
      )
    prompts = below(given.model, given.prompts(self.prompt), self.first)
    steering = Steering(first=self.first)
    bank, visible = PromptBank(prompts), given.visibility
    return PromptedT5(given.model, bank, visibility=visible, steering=steering)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """Nothing to fold."""
    return Folded(trained, self)

  def t5x_path(self, path: str) -> str:
    """encoder/layers_<first>/prompt/prompt/prompt."""
    found = t5x_path(path)
    if path != "bank/prompts":
      return found
    return found.replace("encoder", f"encoder/layers_{self.first}", 1)
