"""SPoT, soft prompt transfer (Vu et al. 2022): trained prompts start new ones.

A prompt tells its task. Prompts of similar tasks are similar, and those of sources like the
target are good starts for it:

  similarities(prompts)                    how similar tasks are, all pairs
  clustering(similarities)                 which belong together
  retrieve(target, sources, k)             the k sources most like a target
  best(target, sources)                    a start: the most similar source,
  weighted_average(target, sources, k)     or the average of the k most similar

The paper embeds a task by its prompt early in training and starts from the source's best
prompt. Its third way, training a source on a mixture of tasks, is `data.spot.add_mixture`.

`prompts` and `sources` are {name: [prompt_len, d_model]} of one model; lengths may differ
unless they are averaged.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from prompt_tuning import checks
from prompt_tuning.prompts import initializers
from prompt_tuning.types import ArrayLike

Prompts = Mapping[str, ArrayLike]


def _of_average(tokens: np.ndarray) -> np.ndarray:
  """The direction of the average token."""
  return _directions(tokens.mean(axis=0, keepdims=True))[0]


def _of_tokens(tokens: np.ndarray) -> np.ndarray:
  """The average direction of the tokens."""
  return _directions(tokens).mean(axis=0)


# measure -> the embedding whose products it is
MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "average": _of_average,  # cos(mean_i a_i, mean_j b_j)
  "tokens": _of_tokens,  # mean_ij cos(a_i, b_j)
}


def embedding(prompt: ArrayLike, measure: str = "average") -> np.ndarray:
  """The task of a prompt as a vector; the product of two is the tasks' similarity.

  The paper's two measures are cosines: of the average tokens, or of every token of one with
  every token of the other, averaged.

  Args:
    prompt: [prompt_len, d_model].
    measure: Of `MEASURES`.

  Returns:
    [d_model] float64.

  Raises:
    InputError: There is no such measure, or the prompt is none or has no direction.
  """
  return _embeddings([("the prompt", prompt)], measure)[0]


def similarity(one: ArrayLike, other: ArrayLike, measure: str = "average") -> float:
  """How similar the tasks of two prompts are, -1 to 1; see `embedding`."""
  pair = _embeddings([("the one prompt", one), ("the other", other)], measure)
  return float(pair[0] @ pair[1])


def similarities(prompts: Prompts, measure: str = "average") -> np.ndarray:
  """How similar tasks are: [n, n] float64 in the order of `prompts`; see `embedding`.

  By the measure "tokens" the diagonal is how much the tokens of a prompt agree.

  Raises:
    InputError: As `embedding`, or they differ in width.
  """
  rows = _embeddings(prompts.items(), measure)
  return rows @ rows.T


def retrieve(
  target: ArrayLike, sources: Prompts, k: int | None = None, measure: str = "average"
) -> dict[str, float]:
  """The sources most like a target: {name: similarity}, the best first.

  Args:
    target: [prompt_len, d_model].
    sources: To choose from.
    k: How many; None is all.
    measure: Of `MEASURES`.

  Raises:
    InputError: There are fewer; or as `similarities`.
  """
  k = len(sources) if k is None else k
  if not 1 <= k <= len(sources):
    raise checks.InputError(
      f"{k} of {len(sources)} sources are asked for, expected 1 to {len(sources)}; give "
      "more sources or ask for fewer"
    )
  target_row, *rows = _embeddings([("the target", target), *sources.items()], measure)
  found = {name: float(target_row @ row) for name, row in zip(sources, rows, strict=True)}
  return dict(sorted(found.items(), key=lambda pair: -pair[1])[:k])


def weights(found: Mapping[str, float]) -> dict[str, float]:
  """Shares of sources by similarity: {name: share}, which sum to 1.

  Raises:
    InputError: A source is not similar at all.
  """
  unlike = [name for name, similar in found.items() if similar <= 0]
  if unlike:
    raise checks.InputError(
      f"{', '.join(unlike)} is unlike the target (similarity of 0 or less), expected only "
      "sources like it in an average; ask for fewer"
    )
  return {name: similar / sum(found.values()) for name, similar in found.items()}


def best(target: ArrayLike, sources: Prompts, measure: str = "average") -> np.ndarray:
  """The source most like a target, [prompt_len, d_model]; see `retrieve`."""
  (name,) = retrieve(target, sources, 1, measure)
  return np.asarray(sources[name])


def weighted_average(
  target: ArrayLike, sources: Prompts, k: int, measure: str = "average"
) -> np.ndarray:
  """The average of the k sources most like a target, by similarity.

  Returns:
    [prompt_len, d_model] float32.

  Raises:
    InputError: As `retrieve` and `weights`, or these sources differ in length.
  """
  shares = weights(retrieve(target, sources, k, measure))
  return initializers.average([sources[n] for n in shares], list(shares.values()))


@dataclasses.dataclass(frozen=True)
class Clustering:
  """Tasks as the leaves of a tree, in which similar ones join early.

  Attributes:
    order: The leaves from left to right, as places in the matrix.
    joints: Of each pair of branches the line that joins them, as four positions among the
      leaves and their four heights, 1 - similarity:

          1,h --- 2,h
           |       |
          0,a     3,b
  """

  order: list[int]
  joints: list[tuple[list[float], list[float]]]


def clustering(matrix: np.ndarray) -> Clustering:
  """Joins tasks by the average similarity of their groups.

  Args:
    matrix: [n, n] of `similarities`; its diagonal does not count.
  """
  from scipy.cluster import hierarchy
  from scipy.spatial import distance

  if len(matrix) == 1:
    return Clustering([0], [])
  apart = np.maximum(1 - matrix, 0)  # rounding may give less
  between = distance.squareform(apart, checks=False)
  tree = hierarchy.linkage(between, "average", optimal_ordering=True)
  drawn = hierarchy.dendrogram(tree, no_plot=True)
  # scipy has the leaves at 5, 15, 25, ...
  places = [[(x - 5) / 10 for x in joint] for joint in drawn["icoord"]]
  return Clustering(drawn["leaves"], list(zip(places, drawn["dcoord"], strict=True)))


def _embeddings(prompts: Iterable[tuple[str, ArrayLike]], measure: str) -> np.ndarray:
  """`embedding` of each of the named prompts, [n, d_model]."""
  checks.choice("measure", measure, list(MEASURES))
  named = [(name, np.asarray(prompt, np.float64)) for name, prompt in prompts]
  (first, sample), *_ = named
  width, rows = sample.shape[-1], []
  for name, tokens in named:
    if tokens.ndim != 2 or tokens.shape[-1] != width:
      raise checks.InputError(
        f"{name} has shape {list(tokens.shape)}, expected [prompt_len, {width}] as "
        f"{first}, since only prompts of one model compare; leave the others out"
      )
    rows.append(MEASURES[measure](tokens))
    if not np.isfinite(rows[-1]).all():
      raise checks.InputError(
        f"{name} has no direction, since a token or their average is zero or not finite, "
        "expected a trained prompt; leave it out"
      )
  return np.stack(rows)


def _directions(vectors: np.ndarray) -> np.ndarray:
  """Vectors [n, d_model] at length 1; what has no direction becomes NaN."""
  with np.errstate(invalid="ignore", divide="ignore"):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
