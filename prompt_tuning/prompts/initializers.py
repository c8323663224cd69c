"""How the values of a new prompt are made (Lester et al. 2021, section 2.1).

Each function returns an initializer: (key, (prompt_len, d_model)) -> float32 array.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import checks
from prompt_tuning.types import Array, ArrayLike, Initializer, Shape


class Vocabulary(Protocol):
  """What is asked of a vocabulary; seqio's vocabularies fit."""

  @property
  def vocab_size(self) -> int:
    """Ids in all, sentinels among them."""

  @property
  def extra_ids(self) -> int:
    """Sentinels among them, the last ones."""

  @property
  def unk_id(self) -> int:
    """Id of what it lacks."""

  def encode(self, text: str) -> Sequence[int]:
    """Token ids of `text`, without EOS."""


def random_uniform(scale: float = 0.5) -> Initializer:
  """Uniform on [0, scale), as the original; the paper draws from [-0.5, 0.5]."""

  def initialize(key: Array, shape: Shape) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, 0.0, scale)

  return initialize


def from_array(prompt: ArrayLike) -> Initializer:
  """A prompt that exists already.

  Raises:
    InputError: (on use) It has another length or width than the model asks for.
  """

  def initialize(key: Array, shape: Shape) -> Array:
    del key
    if prompt.shape[-1] != shape[-1]:
      remedy = "choose the model size that the prompt was trained for"
    else:
      remedy = f"set PROMPT_LENGTH={prompt.shape[0]}"
    checks.shape("the prompt", prompt.shape, shape, remedy)
    return jnp.asarray(prompt, jnp.float32)

  return initialize


def average(
  prompts: Sequence[ArrayLike], weights: Sequence[float] | None = None
) -> np.ndarray:
  """The weighted average of prompts, float32 of their shape.

  Args:
    prompts: Each [prompt_len, d_model].
    weights: One for each, not negative, as multiples of each other; None: all equal.

  Raises:
    InputError: The shapes differ, or the weights are no such numbers.
  """
  shapes = [list(prompt.shape) for prompt in prompts]
  if any(shape != shapes[0] for shape in shapes):
    raise checks.InputError(
      f"the prompts to average have shapes {', '.join(map(str, shapes))}, expected one "
      "shape; leave out those of another length or model"
    )
  shares = [1.0] * len(prompts) if weights is None else weights
  for share in shares:
    checks.number("a weight of the average", share, 0, "correct it")
  if len(shares) != len(prompts) or not 0 < sum(shares) < math.inf:
    raise checks.InputError(
      f"the weights of {len(prompts)} prompts are {shares}, expected one for each and not "
      "all zero; correct them"
    )
  return np.average(np.stack(prompts), axis=0, weights=shares).astype(np.float32)


def from_sample_of_embeddings(
  embeddings: ArrayLike, population_size: int | None = None
) -> Initializer:
  """Each position is the embedding of a random token among the first ids.

  Args:
    embeddings: [vocab, d_model].
    population_size: How many of the first (most frequent) ids are drawn from; None
      for all. Drawn without replacement unless the prompt is longer than that.

  Raises:
    InputError: `population_size` is not positive.
  """
  vocab = embeddings.shape[0]
  if population_size is not None and population_size <= 0:
    raise checks.InputError(
      f"population_size is {population_size}, expected a positive number of tokens or "
      "None; 5000 is the paper's"
    )
  population = min(population_size or vocab, vocab)
  if population_size is not None and population_size > vocab:
    warnings.warn(
      f"population_size {population_size} exceeds the vocabulary; using {vocab}",
      stacklevel=2,
    )

  def initialize(key: Array, shape: Shape) -> Array:
    _check_width(embeddings, shape)
    replace = shape[0] > population
    if replace:
      warnings.warn(
        f"the prompt has {shape[0]} positions for {population} tokens; drawing with "
        "replacement",
        stacklevel=2,
      )
    ids = jax.random.choice(key, population, (shape[0],), replace)
    return jnp.asarray(np.asarray(embeddings)[np.asarray(ids)], jnp.float32)

  return initialize


def from_embedded_list(
  embeddings: ArrayLike,
  vocabulary: Vocabulary,
  texts: Sequence[str],
  initializer: Initializer | None = None,
) -> Initializer:
  """Position i is the mean embedding of the pieces of text i, e.g. a class label.

  Args:
    embeddings: [vocab, d_model].
    vocabulary: Encodes the texts; they must read as they do in the data.
    texts: Surplus texts are dropped with a warning.
    initializer: Of the positions beyond the texts; uniform on [0, 0.01) by default.

  Raises:
    InputError: (on use) A text has no pieces, or pieces that the vocabulary lacks.
  """
  fallback = initializer or random_uniform(0.01)

  def initialize(key: Array, shape: Shape) -> Array:
    _check_width(embeddings, shape)
    prompt = np.array(fallback(key, shape))
    if len(texts) > shape[0]:
      warnings.warn(
        f"{len(texts)} texts for a prompt of {shape[0]}; dropping {texts[shape[0] :]}",
        stacklevel=2,
      )
    for i, text in enumerate(texts[: shape[0]]):
      pieces = _encodable(vocabulary, text)
      prompt[i] = np.mean(np.asarray(embeddings)[pieces], axis=0)
    return jnp.asarray(prompt)

  return initialize


def from_embedded_string(
  embeddings: ArrayLike,
  vocabulary: Vocabulary,
  text: str,
  initializer: Initializer | None = None,
) -> Initializer:
  """Position i is the embedding of piece i of a text.

  Args:
    embeddings: [vocab, d_model].
    vocabulary: Encodes the text.
    text: Surplus pieces are dropped with a warning.
    initializer: Of the positions beyond the text; uniform on [0, 0.01) by default.

  Raises:
    InputError: (on use) The text has no pieces, or pieces that the vocabulary lacks.
  """
  fallback = initializer or random_uniform(0.01)

  def initialize(key: Array, shape: Shape) -> Array:
    _check_width(embeddings, shape)
    prompt = np.array(fallback(key, shape))
    pieces = _encodable(vocabulary, text)
    if len(pieces) > shape[0]:
      warnings.warn(
        f"the text has {len(pieces)} pieces for a prompt of {shape[0]}; dropping the rest",
        stacklevel=2,
      )
    used = pieces[: shape[0]]
    prompt[: len(used)] = np.asarray(embeddings)[used]
    return jnp.asarray(prompt)

  return initialize


def _encodable(vocabulary: Vocabulary, text: str) -> list[int]:
  pieces = list(vocabulary.encode(text))
  if not pieces or vocabulary.unk_id in pieces:
    raise checks.InputError(
      f"the text {text!r} becomes {pieces} in this vocabulary, expected known pieces "
      "only; choose another wording or the vocabulary of the checkpoint"
    )
  return pieces


def _check_width(embeddings: ArrayLike, shape: Shape) -> None:
  checks.shape(
    "the embedding table",
    embeddings.shape,
    (embeddings.shape[0], shape[1]),
    "choose the table of the same model size",
  )
