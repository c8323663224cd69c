"""LoRA: a change of low rank beside frozen projections (Hu et al. 2021), as a yardstick.

  x @ kernel + alpha / rank * (x @ A) @ B        A [in, rank], B [rank, out]

B starts as zeros, so that the first step is the untuned model's. What was trained can be
merged into the weights (`merged`) and then costs nothing.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods import surgery
from prompt_tuning.methods.method import Change, Folded, Given
from prompt_tuning.models.layers import Dense
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.types import Array, ArrayLike, Tunable


class LowRank(nnx.Module):
  """A projection and its change."""

  def __init__(self, key: Array, dense: Dense, rank: int, scale: float):
    self.dense, self._scale = dense, scale
    inputs, outputs = dense.kernel.get_value().shape
    a = nnx.initializers.lecun_normal()(key, (inputs, rank), jnp.float32)
    b = jnp.zeros((rank, outputs), jnp.float32)
    one, other = dense.kernel.get_metadata("axes")
    self.lora_a, self.lora_b = Tunable(a, axes=(one, None)), Tunable(b, axes=(None, other))

  def __call__(self, x: Array) -> Array:
    """See `Dense`."""
    a, b = (part[...].astype(x.dtype) for part in (self.lora_a, self.lora_b))
    change = x.reshape(-1, x.shape[-1]) @ a @ b * self._scale
    return self.dense(x) + change.reshape(*x.shape[:-1], -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA:
  """Changes of the projections named `targets`, in all layers of both towers.

  rank * (in + out) parameters learn for each. Those named by default are two of each
  attention, of which there are num_encoder_layers + 2 * num_decoder_layers, with d_model
  inputs and num_heads * d_kv outputs.

  Attributes:
    rank: Of each change.
    alpha: The changes are multiplied by alpha / rank.
    targets: query, key, value, out; wi or wi_0 and wi_1, wo.
  """

  rank: int = 8
  alpha: float = 16.0
  targets: Sequence[str] = ("query", "value")
  name = "lora"
  prompt = None
  leaves_prompts = False

  def __post_init__(self):
    checks.whole("LORA_RANK", self.rank, 1, "8 is usual")
    checks.number("LORA_ALPHA", self.alpha, 0, "twice the rank is usual")
    checks.texts("LORA_TARGETS", self.targets, "['query', 'value'] are the paper's")

  @property
  def _scale(self) -> float:
    return self.alpha / self.rank

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    model = surgery.copied(given.model)
    owners = [*surgery.attentions(model), *surgery.mlps(model)]
    found = [(owner, name) for owner in owners for name in surgery.projections(owner)]
    known = sorted({name for _, name in found})
    for target in self.targets:
      checks.choice("projection in LORA_TARGETS", target, known)
    for number, (owner, name) in enumerate(found):
      if name in self.targets:
        key = jax.random.fold_in(given.key, number)
        wrapped = functools.partial(LowRank, key, rank=self.rank, scale=self._scale)
        surgery.wrap(owner, name, wrapped)
    return PromptedT5(model)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """Nothing to fold but what `merged` does."""
    return Folded(trained, self)

  def merged(self, trained: Mapping[str, ArrayLike]) -> dict[str, Change]:
    """See `Mergeable`."""

    def added(a: np.ndarray, b: np.ndarray) -> Change:
      return lambda kernel: kernel + np.float32(self._scale) * (a @ b)

    owners = [path.removesuffix("/lora_a") for path in trained if path.endswith("/lora_a")]
    return {
      f"{t5x_path(owner)}/kernel": added(
        np.asarray(trained[f"{owner}/lora_a"]), np.asarray(trained[f"{owner}/lora_b"])
      )
      for owner in owners
    }

  def t5x_path(self, path: str) -> str:
    """<projection>/{lora_a,lora_b}."""
    return t5x_path(path)
