"""IA3: keys, values and MLP activations are scaled by learned vectors (Liu et al. 2022).

  keys    k * s_k      of every attention, [num_heads, d_kv]
  values  v * s_v      likewise
  MLP     (act(x @ wi_0) * s) * (x @ wi_1) @ wo      [d_ff]

All are linear in a kernel, so that they can be folded into the weights and cost nothing.
"""

import dataclasses
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning.methods import surgery
from prompt_tuning.methods.method import Change, Folded, Given
from prompt_tuning.models.layers import Dense
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.types import Array, ArrayLike, Tunable

_NAMES = {"key": "k_conv", "value": "v_conv", "wo": "intermediate_conv"}
_PATH = re.compile(r"(.*)/(key|value|wo)/ia3_scaling")


def scaled(x: Array, scales: Array) -> Array:
  """X [..., n] times scales of n elements, in the dtype of `x`."""
  return x * scales.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class ScaledOutput(nnx.Module):
  """A projection to heads, [..., num_heads * d_kv], whose outputs are scaled."""

  def __init__(self, dense: Dense, heads: tuple[int, int]):
    self.dense = dense
    self.ia3_scaling = Tunable(jnp.ones(heads, jnp.float32), axes=("heads", "kv"))

  def __call__(self, x: Array) -> Array:
    """See `Dense`."""
    return scaled(self.dense(x), self.ia3_scaling[...])


class ScaledInput(nnx.Module):
  """The last projection of an MLP, [..., d_ff] -> [..., d_model], of scaled inputs."""

  def __init__(self, dense: Dense, d_ff: int):
    self.dense = dense
    self.ia3_scaling = Tunable(jnp.ones((d_ff,), jnp.float32), axes=("mlp",))

  def __call__(self, x: Array) -> Array:
    """See `Dense`."""
    return self.dense(scaled(x, self.ia3_scaling[...]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class IA3:
  """Scales of all layers, which start as ones.

  num_encoder_layers * (2 * num_heads * d_kv + d_ff) parameters learn, and
  num_decoder_layers * (4 * num_heads * d_kv + d_ff).
  """

  name = "ia3"
  prompt = None
  leaves_prompts = False

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    model, config = surgery.copied(given.model), given.model.config
    heads = (config.num_heads, config.d_kv)
    for attention in surgery.attentions(model):
      surgery.wrap(attention, "key", lambda dense: ScaledOutput(dense, heads))
      surgery.wrap(attention, "value", lambda dense: ScaledOutput(dense, heads))
    for mlp in surgery.mlps(model):
      surgery.wrap(mlp, "wo", lambda dense: ScaledInput(dense, config.d_ff))
    return PromptedT5(model)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """Nothing to fold but what `merged` does."""
    return Folded(trained, self)

  def merged(self, trained: Mapping[str, ArrayLike]) -> dict[str, Change]:
    """See `Mergeable`."""

    def scaling(scales: np.ndarray) -> Change:
      by_output = scales.ndim == 2  # heads
      return lambda kernel: kernel * scales.reshape((1, -1) if by_output else (-1, 1))

    return {
      f"{t5x_path(path.removesuffix('/ia3_scaling'))}/kernel": scaling(np.asarray(x))
      for path, x in trained.items()
    }

  def t5x_path(self, path: str) -> str:
    """<layer>/{k_conv,v_conv,intermediate_conv}/ia3_scaling."""
    found = _PATH.fullmatch(path)
    if found is None:
      return t5x_path(path)
    return f"{t5x_path(found[1])}/{_NAMES[found[2]]}/ia3_scaling"
