"""What is asked of a model, one text at a time, and what it answers."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning import checks
from prompt_tuning.data import vocabularies
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.prediction import candidates, check_distinct, padded

Names = str | None | Sequence[str | None]  # one prompt for all texts, or one for each
_EOS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
  """One text and what is asked of it.

  Attributes:
    text: The input, as the prompt's task writes it.
    prompt: Name of the prompt; None asks the untuned model.
    candidates: Strings of which the likelihoods are asked; None asks for an answer of the
      model's own, which is decoded.
    own_labels: Whether the candidates are those that the prompt has when it answers.
    length_normalized: Whether scores are per target token, EOS included.
  """

  text: str
  prompt: str | None = None
  candidates: tuple[str, ...] | None = None
  own_labels: bool = False
  length_normalized: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A query as tokens.

  Attributes:
    query: What was asked.
    inputs: [input_len] int32, EOS included.
    candidates: [num_candidates, target_len] int32, 0 pads, EOS included; None to decode.
  """

  query: Query
  inputs: np.ndarray
  candidates: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model says to a query.

  Attributes:
    text: The best candidate, or what was decoded.
    score: Its log-likelihood (natural logarithm), per token where that was asked.
    scores: Of every candidate; () where it was decoded.
    tokens: Tokens read and written, padding not counted.
    candidates: What was scored, in the order of the scores.
  """

  text: str
  score: float
  scores: tuple[float, ...]
  tokens: int
  candidates: tuple[str, ...] = ()


class Tokenizer:
  """Queries as tokens, within the limits of a model.

  Args:
    vocabulary: Of the model.
    max_input_len: Longest text in tokens, EOS included.
    max_output_len: Longest candidate in tokens, EOS included.
  """

  def __init__(self, vocabulary: Vocabulary, max_input_len: int, max_output_len: int):
    self._vocabulary = vocabulary
    self._pieces, self._inputs = vocabulary.load(), vocabularies.inputs(vocabulary)
    self._max_input_len, self._max_output_len = max_input_len, max_output_len
    self._targets = functools.lru_cache(maxsize=1024)(self._encoded_targets)

  def prepare(self, query: Query) -> Prepared:
    """A query as tokens.

    Raises:
      InputError: The text is empty or too long, or a candidate is empty, doubled or too
        long.
    """
    inputs = self._encoded(query.text, "the text", self._max_input_len, self._inputs)
    words = query.candidates
    return Prepared(query, inputs, None if words is None else self._targets(words))

  def labels(self, words: tuple[str, ...]) -> np.ndarray:
    """Label words as tokens [num_candidates, target_len].

    Raises:
      InputError: As `prepare`, or the vocabulary cannot encode a word.
    """
    for word in words:
      if not isinstance(word, str):
        raise checks.InputError(f"the label {word!r:.40} is no text; choose words")
    found = self._targets(words)
    candidates(words, self._vocabulary)
    return found

  def decoded(self, inputs: np.ndarray, tokens: np.ndarray, score: float) -> Answer:
    """The answer that the tokens [max_output_len] of a model are."""
    written = [int(token) for token in tokens if token > 0]
    text = self._pieces.decode(written)
    return Answer(text, score, (), len(inputs) + len(written))

  def _encoded(self, text: str, what: str, most: int, pieces: Any) -> np.ndarray:
    """A text as tokens of a seqio vocabulary, with EOS."""
    if not isinstance(text, str):
      raise checks.InputError(f"{what} is {text!r:.40}, expected a string; quote it")
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise checks.InputError(f"{what} is no Unicode ({error.reason})") from error
    if "\0" in text:
      raise checks.InputError(f"{what} has a null character; take it out")
    if not text.strip():
      raise checks.InputError(f"{what} is empty, expected some words; write them")
    tokens = [*pieces.encode(text), _EOS]
    if len(tokens) > most:
      raise checks.InputError(
        f"{what} has {len(tokens)} tokens with EOS, expected at most {most}; shorten it"
      )
    return np.asarray(tokens, np.int32)

  def _encoded_targets(self, words: tuple[str, ...]) -> np.ndarray:
    if not words:
      raise checks.InputError("there are no candidates, expected at least one; add some")
    rows = [
      self._encoded(word, f"the candidate {word!r}", self._max_output_len, self._pieces)
      for word in words
    ]
    check_distinct(words, rows)
    return padded(rows)


def best(prepared: Prepared, likelihoods: np.ndarray) -> Answer:
  """The answer to a query with candidates, from their log-likelihoods."""
  words, targets = prepared.query.candidates, prepared.candidates
  assert words is not None and targets is not None
  lengths = np.count_nonzero(targets, axis=1)
  scores = likelihoods / lengths if prepared.query.length_normalized else likelihoods
  first = int(np.argmax(scores))
  values = tuple(float(score) for score in scores)
  read = len(prepared.inputs) + int(lengths.sum())
  return Answer(words[first], values[first], values, read, words)


def per_text(prompt: Names, texts: Sequence[str], what: str) -> list[str | None]:
  """The prompt of each text.

  Raises:
    InputError: There are more or fewer prompts than texts.
  """
  several(texts, "texts")
  if prompt is None or isinstance(prompt, str):
    return [prompt] * len(texts)
  check_count(prompt, texts, what)
  return list(prompt)


def check_count(given: Sequence[Any], texts: Sequence[str], what: str) -> None:
  """Raises `InputError` unless there is one of `given` for each text."""
  several(texts, "texts")
  several(given, f"{what}s")
  if len(given) != len(texts):
    raise checks.InputError(
      f"there are {len(given)} and {len(texts)} texts, expected one {what} for each "
      "text; give as many"
    )


def several(given: Any, what: str) -> Any:
  """Returns `given`, or raises `InputError` where it is one string, or no list at all."""
  is_list = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
  if not is_list:
    shown = repr(given)[:40]
    raise checks.InputError(f"the {what} are {shown}, expected a list; write [{shown}]")
  return given
