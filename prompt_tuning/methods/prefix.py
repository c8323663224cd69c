"""Prefix tuning: every layer sees learned keys and values first (Li & Liang 2021).

  encoder self-attention     P P | tokens
  decoder self-attention     P P | decoded
  cross-attention            P P | encoder output

They start as what the frozen model makes of a prompt, read as an input that sees no tokens
and, a tenth of it, as the beginning of an answer: whole, that would be another's answer in
front of each. Nothing is among the tokens, so that packed rows leave no room, and all rows
share one prefix.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.models.context import Context, Fronts, KeysValues
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.masks import causal_mask, mask_bias
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.prompts.start import Prompt, RandomUniform, Start
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike, Tunable

_PLACES = "steering/fronts/places/"
_PERCEPTRON = "steering/fronts/perceptron/"
_AXES = ("prompt", "heads", "kv")
_OWN = "/self_attention"  # of the decoder
_SHARE_OF_OWN = 0.1


class Place(nnx.Module):
  """Keys and values of one attention: [prompt_len, num_heads, d_kv], or what makes them.

  Where a `Perceptron` makes them, its units are mapped by [hidden, num_heads, d_kv].
  """

  def __init__(self, found: KeysValues):
    self.keys, self.values = (
      Tunable(x.astype(jnp.float32), axes=_AXES) for x in (found.keys, found.values)
    )

  def front(self, units: Array | None) -> KeysValues:
    """Each [1, prompt_len, num_heads, d_kv]."""
    learned = KeysValues(self.keys[...], self.values[...])
    if units is not None:
      learned = jax.tree.map(lambda kernel: _mapped(units, kernel), learned)
    return jax.tree.map(lambda x: x[None], learned)


class Perceptron(nnx.Module):
  """What makes all keys and values: an embedding and a hidden layer, without biases."""

  def __init__(self, key: Array, prompt_len: int, hidden: int):
    one, other = jax.random.split(key)
    kernel = nnx.initializers.lecun_normal()(other, (hidden, hidden), jnp.float32)
    embedding = jax.random.normal(one, (prompt_len, hidden), jnp.float32)
    self.embedding = Tunable(embedding, axes=("prompt", None))
    self.kernel = Tunable(kernel, axes=(None, None))

  def __call__(self) -> Array:
    """[prompt_len, hidden]."""
    return _units(self.embedding[...], self.kernel[...])


def _units(embedding: ArrayLike, kernel: ArrayLike) -> Array:
  return jnp.tanh(embedding @ kernel)


def _mapped(units: Array, kernel: ArrayLike) -> Array:
  return jnp.einsum("pu,uhd->phd", units, kernel)


class Prefix(nnx.Module):
  """The keys and values of all layers; see `steering.KeyValueFronts`.

  Args:
    places: {"encoder/layers_0/attention", ...: place}.
    perceptron: What makes them; None where they learn themselves.
  """

  def __init__(self, places: Mapping[str, Place], perceptron: Perceptron | None):
    self.places = nnx.Dict(places)
    self.perceptron = nnx.data(perceptron)

  def _of(self, name: str) -> tuple[KeysValues, ...]:
    units = None if self.perceptron is None else self.perceptron()
    paths = (path for path in self.places if path.endswith(name))
    return tuple(self.places[path].front(units) for path in sorted(paths, key=_layer))

  def encoder(self) -> Context:
    """See `steering.KeyValueFronts`."""
    layers = self._of("/attention")
    return Context(layers, jnp.ones((1, layers[0].keys.shape[1]), bool))

  def decoder(self) -> Fronts:
    """See `steering.KeyValueFronts`."""
    return Fronts(self._of(_OWN), self._of("/encoder_decoder_attention"))


def _layer(path: str) -> int:
  """3 of "encoder/layers_3/attention"; names do not sort as numbers do."""
  return int(path.split("/")[1].removeprefix("layers_"))


def of_prompt(model: T5, prompt: Array) -> dict[str, KeysValues]:
  """What a model makes of a prompt [prompt_len, d_model], where a prefix takes its place.

  Returns:
    {path of an attention: keys and values, each [1, prompt_len, num_heads, d_kv]}.
  """
  length, dtype = prompt.shape[0], model.dtype
  rows = prompt[None].astype(dtype)
  visible = jnp.ones((1, length), bool)
  read = model.prefill(rows, jnp.ones((1, 1, length, length), bool), visible)
  found = {
    f"encoder/layers_{i}/attention": layer for i, layer in enumerate(read.context.layers)
  }
  causal = mask_bias(causal_mask(length), dtype)
  own_biases = [x + causal for x in model.decoder.positions(length, 0, dtype)]
  biases = (own_biases, jnp.zeros((1, 1, 1, length), dtype))
  caches = model.decoder.start(read.encoded, 0, 1)
  _, caches = model.decoder(rows, caches, None, biases, Dropout())
  for i, cache in enumerate(caches):
    layer = f"decoder/layers_{i}"
    found[layer + _OWN] = KeysValues(cache.keys, cache.values)
    crossed = KeysValues(cache.cross_keys, cache.cross_values)
    found[f"{layer}/encoder_decoder_attention"] = crossed
  return found


def _starting(found: Mapping[str, KeysValues]) -> dict[str, KeysValues]:
  """What a prefix starts as, each [prompt_len, num_heads, d_kv] float32."""

  def starting(path: str, whole: KeysValues) -> KeysValues:
    share = _SHARE_OF_OWN if path.endswith(_OWN) else 1.0
    return jax.tree.map(lambda x: x[0].astype(jnp.float32) * share, whole)

  return {path: starting(path, whole) for path, whole in found.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixTuning:
  """A prefix of keys and values.

  places * 2 * prompt_len * num_heads * d_kv parameters learn, where the places are
  num_encoder_layers + 2 * num_decoder_layers. With a perceptron they are

    prompt_len * hidden + hidden * hidden + places * 2 * hidden * num_heads * d_kv

  and what it makes is left: a trained prefix is the same with and without.

  Attributes:
    length: Keys and values in front of each attention.
    start: How the prompt starts that they are made of.
    hidden: Units of the perceptron; None is none. With at least `length` of them the
      prefix starts as it does without.
  """

  length: int = 10
  start: Start = RandomUniform()
  hidden: int | None = None
  name = "prefix"
  prompt = None
  leaves_prompts = False

  def __post_init__(self):
    if self.hidden is not None:
      checks.whole("PREFIX_HIDDEN", self.hidden, 1, "512 is usual, None is no perceptron")

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    (prompt,) = given.prompts(Prompt(length=self.length, start=self.start))
    learned, perceptron = _starting(of_prompt(given.model, prompt)), None
    if self.hidden is not None:
      perceptron = Perceptron(jax.random.fold_in(given.key, 1), self.length, self.hidden)
      back = jnp.linalg.pinv(perceptron())
      learned = jax.tree.map(lambda x: _mapped(back, x), learned)
    prefix = Prefix({path: Place(x) for path, x in learned.items()}, perceptron)
    return PromptedT5(given.model, steering=Steering(fronts=prefix))

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """The keys and values that the perceptron makes."""
    if self.hidden is None:
      return Folded(trained, self)
    units = _units(*(trained[_PERCEPTRON + name] for name in ("embedding", "kernel")))
    tensors = {
      path: _mapped(units, x) for path, x in trained.items() if path.startswith(_PLACES)
    }
    return Folded(tensors, dataclasses.replace(self, hidden=None))

  def t5x_path(self, path: str) -> str:
    """<attention>/prefix/{keys,values}; prefix/{embedding,kernel} of the perceptron."""
    if path.startswith(_PLACES):
      owner, _, name = path.removeprefix(_PLACES).rpartition("/")
      return f"{owner}/prefix/{name}"
    if path.startswith(_PERCEPTRON):
      return path.replace(_PERCEPTRON, "prefix/")
    return t5x_path(path)
