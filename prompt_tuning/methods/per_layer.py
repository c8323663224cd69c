"""Per-layer prompts: the encoder's layers have prompts of their own.

In the slots of the prompt each layer reads what the one before made of them; here its own
rows take that place ("replace", P-Tuning v2: Liu et al. 2022) or are added to it ("add"):

  slots of the prompt   h_1 h_2 | tokens       ->  layer i
  replace               p_1 p_2 | tokens
  add                   h_1 + p_1  h_2 + p_2 | tokens

Keys and values are made of them by the frozen projections, unlike in `prefix`.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.prompts.start import Prompt, RandomUniform, Start
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike, Tunable

AXES = ("prompt", "prompt_embed")


def replace(x: Array, rows: Array) -> Array:
  """The rows alone."""
  del x
  return rows


def add(x: Array, rows: Array) -> Array:
  """Both."""
  return x + rows


HOW: dict[str, Callable[[Array, Array], Array]] = {"replace": replace, "add": add}


class LayerPrompts(nnx.Module):
  """A prompt [prompt_len, d_model] for each encoder layer.

  Args:
    prompts: Of layers `first`, `first + 1`, ...
    how: What of `x` and the rows runs into the layer.
    bank: Its only prompt is that of layer 0, where `prompts` has none for it.
  """

  def __init__(
    self,
    prompts: list[Array],
    how: Callable[[Array, Array], Array],
    bank: PromptBank | None = None,
  ):
    self._first, self._how = (0 if bank is None else 1), how
    self.bank = nnx.data(bank)
    for number, prompt in enumerate(prompts, self._first):
      setattr(self, f"layers_{number}", Tunable(prompt, axes=AXES))

  def _of(self, number: int) -> Array:
    if self.bank is not None and number == 0:
      return self.bank.array[0]
    return getattr(self, f"layers_{number}")[...]

  def __call__(self, number: int, x: Array, slots: Array) -> Array:
    """See `steering.Layers`."""
    places = jnp.maximum(slots - 1, 0)
    rows = jnp.take(self._of(number).astype(x.dtype), places, axis=0)
    return jnp.where(slots[..., None] > 0, self._how(x, rows), x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerLayer:
  """Prompts for each layer of the encoder.

  With "replace" the prompt in front of the tokens is that of layer 0, so that
  num_encoder_layers * prompt_len * d_model parameters learn; with "add" it is one more.

  Attributes:
    prompt: The one in front of the tokens.
    how: "replace" or "add".
    start: How those of the layers start.
  """

  prompt: Prompt
  how: str = "replace"
  start: Start = RandomUniform()
  name = "per_layer"
  leaves_prompts = False

  def __post_init__(self):
    checks.choice("PER_LAYER_PROMPT", self.how, list(HOW))

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    config = given.model.config
    bank = PromptBank(given.prompts(self.prompt))
    first = 1 if self.how == "replace" else 0
    draw = self.start.initializer(given.table, given.vocabulary)
    keys = jax.random.split(jax.random.fold_in(given.key, 1), config.num_encoder_layers)
    shape = (self.prompt.length, config.d_model)
    prompts = [draw(key, shape) for key in keys[first:]]
    layers = LayerPrompts(prompts, HOW[self.how], bank if first else None)
    steering = Steering(layers=layers)
    return PromptedT5(given.model, bank, visibility=given.visibility, steering=steering)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """Nothing to fold."""
    return Folded(trained, self)

  def t5x_path(self, path: str) -> str:
    """encoder/layers_<i>/prompt/prompt/prompt."""
    head, _, layer = path.rpartition("/")
    if path == "bank/prompts" and self.how == "replace":
      layer = "layers_0"
    elif head != "steering/layers":
      return t5x_path(path)
    return PATH.replace("encoder", f"encoder/{layer}", 1)
