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
from typing import Protocol

import numpy as np
from scipy import linalg

from prompt_tuning.methods.recycling_network import Network
from prompt_tuning.methods.vectors import paired, wide
from prompt_tuning.types import ArrayLike


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
    return (wide(prompt, self.matrix.shape[0]) @ self.matrix).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Linear:
  """v2v-lin: the matrix Y with the least squares |S Y - T|, the smallest of several."""

  def fit(self, source: ArrayLike, target: ArrayLike) -> Projection:
    """See `Recycler`."""
    return Projection(_least_squares(*paired(source, target)))


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weighs source [n, E] so that it sums up to a prompt, and so sums up target [n, E2]."""

  source: np.ndarray
  target: np.ndarray

  def __call__(self, prompt: ArrayLike) -> np.ndarray:
    """See `Mapping`."""
    prompt = wide(prompt, self.source.shape[1])
    weights = _least_squares(self.source.T, prompt.T)  # [n, P]
    return (weights.T @ self.target).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Combination:
  """lin-comb: weights of the tokens, the smallest of those that make up the prompt."""

  def fit(self, source: ArrayLike, target: ArrayLike) -> Weights:
    """See `Recycler`; there is nothing to learn but the pairs."""
    return Weights(*paired(source, target))


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


def _least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The smallest x with the least |a x - b|, by QR, which takes a quarter of SVD's time."""
  rounding = np.finfo(a.dtype).eps * max(a.shape)
  return linalg.lstsq(a, b, cond=rounding, lapack_driver="gelsy")[0]
