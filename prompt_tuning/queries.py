"""What is asked of a model, one text at a time, and what it answers."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
  """One text and what is asked of it.

  Attributes:
    text: The input, as the prompt's task writes it.
    prompt: Name of the prompt; None asks the untuned model.
    candidates: Strings of which the likelihoods are asked; None asks for an answer of the
      model's own, which is decoded.
    length_normalized: Whether scores are per target token, EOS included.
  """

  text: str
  prompt: str | None = None
  candidates: tuple[str, ...] | None = None
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
    scores: Of every candidate, in the order of the query; () where it was decoded.
    tokens: Tokens read and written, padding not counted.
  """

  text: str
  score: float
  scores: tuple[float, ...]
  tokens: int
