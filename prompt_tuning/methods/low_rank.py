"""Low-rank prompts: P = A B, made of few numbers (Xiao et al. 2023; Guo et al. 2024).

  A  [prompt_len, rank]   how much of each row of B a token of the prompt is
  B  [rank, d_model]

A B starts as the best approximation of that rank to a prompt that starts as its settings
say (truncated singular value decomposition, the singular values shared equally between the
two), so that what is known of good starts, such as vocabulary and class labels, holds
here too.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods import making
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.types import Array, ArrayLike, Tunable


class Basis(nnx.Module):
  """A [num_prompts, prompt_len, rank] -> A B [num_prompts, prompt_len, d_model].

  Args:
    basis: B, [rank, d_model].
  """

  def __init__(self, basis: Array):
    self.basis = Tunable(basis, axes=("prompt_rank", "prompt_embed"))

  def __call__(self, factors: Array) -> Array:
    """See above."""
    return factors @ self.basis[...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank:
  """A prompt of low rank.

  rank * (prompt_len + d_model) parameters learn; prompt_len * d_model are left.

  Attributes:
    prompt: What A B is at most `rank` away from at the start.
    rank: From 1 to the lesser of prompt_len and d_model.
  """

  prompt: Prompt
  rank: int = 4
  name = "low_rank"
  leaves_prompts = True

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    d_model = given.model.config.d_model
    most = min(self.prompt.length, d_model)
    if not isinstance(self.rank, int) or not 1 <= self.rank <= most:
      raise checks.InputError(
        f"PROMPT_RANK is {self.rank!r}, expected 1 to {most}, the most that a prompt of "
        f"{self.prompt.length} tokens of width {d_model} has; choose a smaller one"
      )
    factors, basis = factorized(self.prompt, given, self.rank)
    bank = PromptBank(factors, through=Basis(basis))
    return PromptedT5(given.model, bank, visibility=given.visibility)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """The product."""
    basis = Basis(**making.through(trained))
    return making.prompts(basis(making.rows(trained)))

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/prompt/{prompt,low_rank/basis}."""
    return making.t5x_path(path, "low_rank")


def factorized(prompt: Prompt, given: Given, rank: int) -> tuple[Array, Array]:
  """A [1, prompt_len, rank] and B [rank, d_model] nearest to how a prompt starts."""
  (start,) = given.prompts(prompt)
  left, values, right = jnp.linalg.svd(start, full_matrices=False)
  half = jnp.sqrt(values[:rank])
  return (left[:, :rank] * half[None, :])[None], half[:, None] * right[:rank]
