"""ATTEMPT: attention over trained prompts and one of its own (Asai et al. 2022).

  P_x = P + sum_j a_j P_j        P_0 = P learns, P_1, P_2, ... are frozen sources
  a = softmax(max(P_j) . norm(silu(max(x) @ down) @ up) / temperature)

`max` is over the tokens of a prompt or of the input x. (arXiv:2205.11961; its layer norm
has a scale and a bias of its own, here there are none.)
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts.bank import AXES, PromptBank
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.prompts.start import Load, Prompt
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike, Frozen, Tunable

_ROUTER = "steering/router/"
_SOURCES = "bank/through/sources"
_EPSILON = 1e-6


class Behind(nnx.Module):
  """Puts the sources [num_sources, prompt_len, d_model] behind what learns."""

  def __init__(self, sources: ArrayLike, kind: type[nnx.Variable]):
    self.sources = kind(jnp.asarray(sources, jnp.float32), axes=AXES)

  def __call__(self, learned: Array) -> Array:
    """[n, prompt_len, d_model] -> [n + num_sources, prompt_len, d_model]."""
    return jnp.concatenate([learned, self.sources[...]])


class Attending(nnx.Module):
  """How much of each prompt an input gets, the first of which is its own.

  See `steering.Router`.
  """

  def __init__(self, key: Array, d_model: int, units: int, temperature: float):
    draw, (one, other) = nnx.initializers.lecun_normal(), jax.random.split(key)
    down, up = (d_model, units), (units, d_model)
    self.down = Tunable(draw(one, down, jnp.float32), axes=("prompt_embed", None))
    self.up = Tunable(draw(other, up, jnp.float32), axes=(None, "prompt_embed"))
    self._temperature = temperature

  def __call__(self, embeddings: Array, valid: Array, prompts: Array) -> Array:
    """See `steering.Router`."""
    embeddings = embeddings.astype(jnp.float32)
    lowest = jnp.finfo(jnp.float32).min
    pooled = jnp.max(jnp.where(valid[..., None], embeddings, lowest), axis=1)
    pooled = jnp.where(jnp.any(valid, axis=1, keepdims=True), pooled, 0.0)
    query = normed(jax.nn.silu(pooled @ self.down[...]) @ self.up[...])
    logits = query @ jnp.max(prompts, axis=1).T / self._temperature
    own = jnp.arange(prompts.shape[0]) == 0
    return jax.nn.softmax(logits, axis=-1) + own[None].astype(jnp.float32)


def normed(x: Array) -> Array:
  """Mean 0 and variance 1 along the last axis."""
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + _EPSILON)


def _unread(path: str) -> ArrayLike:
  """Reads a source where nobody said how."""
  raise TypeError(f"Attempt.load is missing, which reads {path}: prompt_tuning.load_prompt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
  """A prompt that is mixed with trained ones for each input.

  prompt_len * d_model + 2 * d_model * units parameters learn.

  Attributes:
    prompt: Its own.
    sources: Files of trained prompts of the same model and length.
    load: Reads one (bound to `load_prompt` by the run); a trained method reads none.
    units: Width of the bottleneck.
    temperature: Of the attention; None is e * d_model, the paper's.
    kept: How many sources a trained method has in its own file, instead of `sources`.
  """

  prompt: Prompt
  sources: Sequence[str] = ()
  load: Load = dataclasses.field(default=_unread, repr=False)
  units: int = 100
  temperature: float | None = None
  kept: int = 0
  name = "attempt"
  leaves_prompts = False

  def __post_init__(self):
    checks.whole("ATTENTION_UNITS", self.units, 1, "the paper uses 100")
    if self.temperature is not None:
      remedy = "None is e times the width of the model, the paper's"
      checks.number("ATTENTION_TEMPERATURE", self.temperature, 1e-9, remedy)
    remedy = "name the files of trained prompts, ['runs/a', 'runs/b']"
    checks.texts("SOURCE_PROMPTS", self.sources, remedy)

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    d_model = given.model.config.d_model
    shape = (self.prompt.length, d_model)
    if self.kept:
      behind = Behind(np.zeros((self.kept, *shape), np.float32), Tunable)
    else:
      behind = Behind(self._read(shape), Frozen)
    temperature = math.e * d_model if self.temperature is None else self.temperature
    key = jax.random.fold_in(given.key, 1)
    router = Attending(key, d_model, self.units, temperature)
    bank = PromptBank(given.prompts(self.prompt), through=behind)
    steering, visible = Steering(router=router), given.visibility
    return PromptedT5(given.model, bank, visibility=visible, steering=steering)

  def files(self) -> Sequence[str]:
    """See `Reading`."""
    return [] if self.kept else self.sources

  def _read(self, shape: tuple[int, int]) -> np.ndarray:
    for path, source in zip(self.sources, self._arrays, strict=True):
      remedy = "choose single prompts of this model and PROMPT_LENGTH"
      checks.shape(f"the source prompt {path}", source.shape, shape, remedy)
    return np.stack(self._arrays)

  @functools.cached_property
  def _arrays(self) -> list[np.ndarray]:
    """The sources, read once, so that the trained method keeps those it learned with."""
    arrays = [np.asarray(self.load(path)) for path in self.sources]
    return [x[0] if x.ndim == 3 and x.shape[0] == 1 else x for x in arrays]

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """With the sources, so that the file stands alone."""
    tensors = {**trained, _SOURCES: np.stack(self._arrays)}
    return Folded(tensors, dataclasses.replace(self, kept=len(self.sources)))

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/attention/{down,up}."""
    if path.startswith(_ROUTER):
      return path.replace(_ROUTER, "encoder/prompt/attention/")
    return t5x_path(path)
