"""Residual prompts: they learn through an MLP beside them (Razdaibiedina et al. 2023).

  P' = P + norm(relu(P @ down + down_bias) @ up + up_bias) * scale + bias

The MLP is one for all tokens of the prompt, and as layer normalization bounds what it adds,
learning depends less on where the prompt starts and on the learning rate. Once trained it
has done its work: P' is a prompt like any other.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods import making
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.types import Array, ArrayLike, Tunable

_EPSILON = 1e-5
_WIDTH, _NARROW = "prompt_embed", "prompt_bottleneck"


class ResidualMLP(nnx.Module):
  """See above; [..., d_model] -> the same shape.

  Args:
    down: [d_model, bottleneck].
    down_bias: [bottleneck].
    up: [bottleneck, d_model].
    up_bias: [d_model].
    scale: [d_model], of the normalization.
    bias: [d_model], likewise.
  """

  def __init__(
    self,
    down: Array,
    down_bias: Array,
    up: Array,
    up_bias: Array,
    scale: Array,
    bias: Array,
  ):
    self.down = Tunable(down, axes=(_WIDTH, _NARROW))
    self.down_bias = Tunable(down_bias, axes=(_NARROW,))
    self.up = Tunable(up, axes=(_NARROW, _WIDTH))
    self.up_bias = Tunable(up_bias, axes=(_WIDTH,))
    self.scale = Tunable(scale, axes=(_WIDTH,))
    self.bias = Tunable(bias, axes=(_WIDTH,))

  @classmethod
  def random(cls, key: Array, d_model: int, bottleneck: int) -> "ResidualMLP":
    """Weights within 1 / sqrt(inputs), as the authors' (PyTorch's) start."""
    drawn = {}
    for name, inputs, shape in (
      ("down", d_model, (d_model, bottleneck)),
      ("down_bias", d_model, (bottleneck,)),
      ("up", bottleneck, (bottleneck, d_model)),
      ("up_bias", bottleneck, (d_model,)),
    ):
      key, own = jax.random.split(key)
      bound = inputs**-0.5
      drawn[name] = jax.random.uniform(own, shape, jnp.float32, -bound, bound)
    return cls(**drawn, scale=jnp.ones((d_model,)), bias=jnp.zeros((d_model,)))

  def __call__(self, prompts: Array) -> Array:
    """P -> P'."""
    x = jax.nn.relu(_affine(prompts, self.down[...], self.down_bias[...]))
    x = _affine(x, self.up[...], self.up_bias[...])
    x = jax.nn.standardize(x, axis=-1, epsilon=_EPSILON)
    return prompts + x * _last(self.scale[...], x) + _last(self.bias[...], x)


def _affine(x: Array, kernel: Array, bias: Array) -> Array:
  y = x @ kernel
  return y + _last(bias, y)


def _last(vector: Array, x: Array) -> Array:
  """A vector along the last axis of `x`."""
  return jnp.broadcast_to(vector, x.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Residual:
  """A prompt and its MLP.

  prompt_len * d_model + 2 * d_model * bottleneck + bottleneck + 3 * d_model parameters
  learn; prompt_len * d_model are left.

  Attributes:
    prompt: As it is before the MLP.
    bottleneck: Hidden width of the MLP.
  """

  prompt: Prompt
  bottleneck: int = 800
  name = "residual"
  leaves_prompts = True

  def __post_init__(self):
    if not isinstance(self.bottleneck, int) or self.bottleneck < 1:
      raise checks.InputError(
        f"RESIDUAL_BOTTLENECK is {self.bottleneck!r}, expected a positive number of hidden "
        "units; the paper uses 800"
      )

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    key = jax.random.fold_in(given.key, 1)
    mlp = ResidualMLP.random(key, given.model.config.d_model, self.bottleneck)
    bank = PromptBank(given.prompts(self.prompt), through=mlp)
    return PromptedT5(given.model, bank, visibility=given.visibility)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """The prompt that the MLP makes."""
    mlp = ResidualMLP(**making.through(trained))
    return making.prompts(mlp(making.rows(trained)))

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/prompt/{prompt,residual/<name>}."""
    return making.t5x_path(path, "residual")
