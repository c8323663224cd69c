"""Prompt recycling (Lester et al. 2022): a prompt of one model as a prompt of another.

Both models have a vector for each token of one vocabulary. A recycler learns from such
pairs what becomes of a vector, and the prompt then goes the same way:

  source [n, E]  ->  target [n, E2]      the same n tokens in both tables
  prompt [P, E]  ->  prompt [P, E2]

  v2v-lin   the matrix that takes the source's vectors nearest to the target's
  v2v-nn    an MLP with one hidden layer instead of the matrix
  lin-comb  the prompt as a weighted sum of the source's vectors, summed in the target's

With the least weights that make up the prompt, as here and in the original, lin-comb is
v2v-lin in another order of multiplication, and gives the same prompt:
(p S^+) T = p (S^+ T), where S^+ is the pseudoinverse of the source's vectors.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prompt_tuning import checks
from prompt_tuning.types import Array, ArrayLike

Params = dict[str, dict[str, Array]]
_DIVERGED = (
  "the fit of v2v-nn ended in numbers that are not finite, expected finite ones; lower "
  "learning_rate, or choose v2v-lin"
)


class Mapping(Protocol):
  """What a recycler has learned."""

  def __call__(self, prompt: ArrayLike) -> np.ndarray:
    """A prompt [P, E] of the source model as one of the target, [P, E2] float32.

    Raises:
      InputError: The prompt is not as wide as the source model.
    """


class Recycler(Protocol):
  """A way to learn from pairs of vectors."""

  def fit(self, source: ArrayLike, target: ArrayLike) -> Mapping:
    """Learns from source [n, E] and target [n, E2], the same n tokens.

    Raises:
      InputError: They are not as many, or none.
    """


@dataclasses.dataclass(frozen=True)
class Projection:
  """Multiplies with a matrix [E, E2]."""

  matrix: np.ndarray

  def __call__(self, prompt: ArrayLike) -> np.ndarray:
    """See `Mapping`."""
    return (_wide(prompt, self.matrix.shape[0]) @ self.matrix).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Linear:
  """v2v-lin: the matrix Y with the least squares |S Y - T|, the smallest of several."""

  def fit(self, source: ArrayLike, target: ArrayLike) -> Projection:
    """See `Recycler`."""
    return Projection(_least_squares(*_paired(source, target)))


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weighs source [n, E] so that it sums up to a prompt, and so sums up target [n, E2]."""

  source: np.ndarray
  target: np.ndarray

  def __call__(self, prompt: ArrayLike) -> np.ndarray:
    """See `Mapping`."""
    prompt = _wide(prompt, self.source.shape[1])
    weights = _least_squares(self.source.T, prompt.T)  # [n, P]
    return (weights.T @ self.target).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Combination:
  """lin-comb: weights of the tokens, the smallest of those that make up the prompt."""

  def fit(self, source: ArrayLike, target: ArrayLike) -> Weights:
    """See `Recycler`; there is nothing to learn but the pairs."""
    return Weights(*_paired(source, target))


@dataclasses.dataclass(frozen=True)
class Perceptron:
  """Two layers with a ReLU between them, as Flax names them.

  Attributes:
    params: {"Dense_0": {"kernel": [E, hidden], "bias": [hidden]}, "Dense_1": ...}.
  """

  params: Params

  def __call__(self, prompt: ArrayLike) -> np.ndarray:
    """See `Mapping`."""
    prompt = _wide(prompt, self.params["Dense_0"]["kernel"].shape[0])
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
    """See `Recycler`.

    Raises:
      InputError: It diverged, too.
    """
    source, target = (jnp.asarray(x, jnp.float32) for x in _paired(source, target))
    optimizer = optax.adam(self.learning_rate)
    start, shuffle = jax.random.split(jax.random.key(self.seed))
    params = _initial(start, source.shape[1], self.hidden_scale, target.shape[1])
    state = optimizer.init(params)

    @jax.jit
    def step(params: Params, state: Any, s: Array, t: Array) -> tuple[Params, Any]:
      gradient = jax.grad(_loss)(params, s, t)
      updates, state = optimizer.update(gradient, state, params)
      return optax.apply_updates(params, updates), state

    for epoch in range(self.epochs):
      order = jax.random.permutation(jax.random.fold_in(shuffle, epoch), len(source))
      for first in range(0, len(order), self.batch_size):
        rows = order[first : first + self.batch_size]
        params, state = step(params, state, source[rows], target[rows])
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)):
      raise checks.InputError(_DIVERGED)
    return Perceptron(jax.tree.map(np.asarray, params))


RECYCLERS = {"v2v-nn": Network, "v2v-lin": Linear, "lin-comb": Combination}


def relative_error(predicted: ArrayLike, expected: ArrayLike, mean: ArrayLike) -> float:
  """How far vectors [n, E2] are from those expected: 0 is right, 1 no better than a mean.

  Args:
    predicted: What a mapping made of the source's vectors.
    expected: The target's.
    mean: [E2], of the target's vectors that were learned from.

  Returns:
    The root of the squared error, over that of answering the mean every time.
  """
  missed = np.square(predicted - expected, dtype=np.float64).sum()
  return float(np.sqrt(missed / np.square(expected - mean, dtype=np.float64).sum()))


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


def _least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The smallest x with the least |a x - b|."""
  return np.linalg.lstsq(a, b, rcond=None)[0]


def _paired(source: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Both in float64, once they are found to be as many."""
  shapes = [np.shape(source), np.shape(target)]
  if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0]:
    raise checks.InputError(
      f"the pairs have shapes {[list(shape) for shape in shapes]}, expected [n, E] and "
      "[n, E2] with one n; take the same tokens of both tables"
    )
  if not shapes[0][0]:
    raise checks.InputError("there are no pairs, expected at least one; choose tokens")
  return np.asarray(source, np.float64), np.asarray(target, np.float64)


def _wide(prompt: ArrayLike, width: int) -> np.ndarray:
  """The prompt in float64, once it is found to be as wide as the source model."""
  shape = np.shape(prompt)
  expected = (shape[0] if shape else 1, width)
  checks.shape("the prompt", shape, expected, "choose a prompt of the source model")
  return np.asarray(prompt, np.float64)
