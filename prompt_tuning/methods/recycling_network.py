"""v2v-nn: recycling by an MLP with one hidden layer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prompt_tuning import checks
from prompt_tuning.methods.vectors import paired, wide
from prompt_tuning.types import Array, ArrayLike

Params = dict[str, dict[str, Array]]
_DIVERGED = (
  "the fit of v2v-nn ended in numbers that are not finite, expected finite ones; lower "
  "learning_rate, or choose v2v-lin"
)


@dataclasses.dataclass(frozen=True)
class Perceptron:
  """Two layers with a ReLU between them, as Flax names them.

  Attributes:
    params: {"Dense_0": {"kernel": [E, hidden], "bias": [hidden]}, "Dense_1": ...}.
  """

  params: Params

  def __call__(self, prompt: ArrayLike) -> np.ndarray:
    """See `recycling.Mapping`."""
    prompt = wide(prompt, self.params["Dense_0"]["kernel"].shape[0])
    return np.asarray(_forward(self.params, jnp.asarray(prompt, jnp.float32)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """v2v-nn: a perceptron, by Adam on the mean of half the squared error.

  Attributes:
    hidden_scale: Hidden units per output.
    batch_size: Pairs of a step.
    learning_rate: Of Adam.
    epochs: Passes over the pairs, each in another order.
    seed: Of the first weights and of the orders.
  """

  hidden_scale: int = 4
  batch_size: int = 50
  learning_rate: float = 3e-4
  epochs: int = 25
  seed: int = 0

  def __post_init__(self):
    for name in ("hidden_scale", "batch_size", "epochs"):
      checks.whole(name, getattr(self, name), 1, "correct it")
    checks.whole("seed", self.seed, 0, "correct it")
    checks.number("learning_rate", self.learning_rate, 0, "correct it")

  def fit(self, source: ArrayLike, target: ArrayLike) -> Perceptron:
    """See `recycling.Recycler`.

    Raises:
      InputError: It diverged, too.
    """
    source, target = (x.astype(np.float32) for x in paired(source, target))
    optimizer = optax.adam(self.learning_rate)
    start, shuffle = jax.random.split(jax.random.key(self.seed))
    params = _initial(start, source.shape[1], self.hidden_scale, target.shape[1])
    state = optimizer.init(params)

    @jax.jit
    def step(params: Params, state: Any, s: Array, t: Array) -> tuple[Params, Any]:
      gradient = jax.grad(_loss)(params, s, t)
      with jax.numpy_dtype_promotion("standard"):  # Adam counts its steps in integers
        updates, state = optimizer.update(gradient, state, params)
      return optax.apply_updates(params, updates), state

    for epoch in range(self.epochs):
      key = jax.random.fold_in(shuffle, epoch)
      order = np.asarray(jax.random.permutation(key, len(source)))
      for first in range(0, len(order), self.batch_size):
        rows = order[first : first + self.batch_size]
        params, state = step(params, state, source[rows], target[rows])
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)):
      raise checks.InputError(_DIVERGED)
    return Perceptron(jax.tree.map(np.asarray, params))


def _initial(key: Array, inputs: int, scale: int, outputs: int) -> Params:
  """LeCun's normal kernels and no biases, as Flax starts."""
  hidden = scale * outputs
  draw = jax.nn.initializers.lecun_normal()
  first, second = jax.random.split(key)
  return {
    "Dense_0": {"kernel": draw(first, (inputs, hidden)), "bias": jnp.zeros(hidden)},
    "Dense_1": {"kernel": draw(second, (hidden, outputs)), "bias": jnp.zeros(outputs)},
  }


def _forward(params: Params, x: Array) -> Array:
  first, second = params["Dense_0"], params["Dense_1"]
  hidden = jax.nn.relu(x @ first["kernel"] + first["bias"][None])
  return hidden @ second["kernel"] + second["bias"][None]


def _loss(params: Params, source: Array, target: Array) -> Array:
  return optax.l2_loss(_forward(params, source), target).mean()
