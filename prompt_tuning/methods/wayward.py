"""Wayward prompts: as near to a text as they are asked to be (Khashabi et al. 2022).

  loss of a batch + gamma * D      D = sum (p - d)^2 / prompt_len

d are the embeddings of a text, piece by piece, from which the prompt starts and which stay.
A small gamma gives prompts that solve one task and read, token for token, like the
description of another.
"""

import dataclasses
from collections.abc import Mapping

from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods import making
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts import prompted
from prompt_tuning.prompts.bank import AXES, PromptBank
from prompt_tuning.prompts.distance import squared_l2_distance
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, Text
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike, Frozen


class Distance(nnx.Module):
  """gamma * D; see `steering.Penalty`.

  Args:
    discrete: [prompt_len, d_model] float32.
    gamma: The price of one unit.
  """

  def __init__(self, discrete: Array, gamma: float):
    self.discrete, self.gamma = Frozen(discrete, axes=AXES[1:]), gamma

  def __call__(self, bank: PromptBank) -> Array:
    """Of the only prompt of a bank."""
    return self.gamma * squared_l2_distance(bank.array[0], self.discrete[...])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wayward:
  """A prompt that stays near the text from which it starts.

  prompt_len * d_model parameters learn, and are left.

  Attributes:
    prompt: Starts as `Text`, with as many tokens as that has pieces. Any other start is
      what the prompt stays near then.
    gamma: Price of a unit of distance beside the loss of a batch, a sum over its tokens.
  """

  prompt: Prompt
  gamma: float = 0.01
  name = "wayward"
  leaves_prompts = True

  def __post_init__(self):
    checks.number("WAYWARD_GAMMA", self.gamma, 0, "the paper uses 0.01")

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    if isinstance(self.prompt.start, Text):
      _check_length(self.prompt.length, self.prompt.start, given)
    (discrete,) = given.prompts(self.prompt)
    steering = Steering(penalty=Distance(discrete, self.gamma))
    bank = PromptBank(discrete)
    return PromptedT5(given.model, bank, visibility=given.visibility, steering=steering)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """The prompt."""
    return making.prompts(making.rows(trained))

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/prompt/prompt."""
    return prompted.t5x_path(path)


def _check_length(length: int, start: Text, given: Given) -> None:
  pieces = len(given.vocabulary().encode(start.text))
  if not pieces:
    raise checks.InputError(
      f"TASK_STRING is {start.text!r}, which has no pieces, expected a text; write one"
    )
  if pieces != length:
    raise checks.InputError(
      f"PROMPT_LENGTH is {length} and TASK_STRING has {pieces} pieces, expected as many "
      f"tokens as pieces; set PROMPT_LENGTH={pieces}"
    )
