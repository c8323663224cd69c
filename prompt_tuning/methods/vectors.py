"""Vectors of two models: whether they go together."""

import numpy as np

from prompt_tuning import checks
from prompt_tuning.types import ArrayLike


def paired(source: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
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


def wide(prompt: ArrayLike, width: int) -> np.ndarray:
  """The prompt in float64, once it is found to be as wide as the source model."""
  shape = np.shape(prompt)
  expected = (shape[0] if shape else 1, width)
  checks.shape("the prompt", shape, expected, "choose a prompt of the source model")
  return np.asarray(prompt, np.float64)
