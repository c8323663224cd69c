"""Bodies of requests and responses, as /openapi.json describes them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field

from prompt_tuning.queries import Answer
from prompt_tuning.serving.limits import Limits

NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
_TOLD = ("task", "step", "score", "vocabulary", "library_version")
LONGEST_LABEL = 200  # characters; thousands of spaces may be a single token
_LONGEST_TARGET = 2000
_LONGEST_PATH = 1024
_LONGEST_STORY = 200


class _Strict(pydantic.BaseModel):
  """A body: no field that is not known, no value of another type."""

  model_config = pydantic.ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="null")


class ErrorText(_Strict):
  """What is wrong."""

  code: str = Field(description="the kind of error, for programs")
  message: str = Field(description="what is wrong and what to do, for people")


class Error(_Strict):
  """Every error has this shape."""

  error: ErrorText


class Score(_Strict):
  """The log-likelihood (natural logarithm) of one label."""

  label: str
  score: float


class AnswerBody(_Strict):
  """What the model says to one text."""

  text: str = Field(description="the best label, or what was decoded")
  score: float = Field(description="its log-likelihood")
  scores: list[Score] = Field(description="of every label; [] where it was decoded")
  tokens: int = Field(description="tokens read and written")


class AnswersBody(_Strict):
  """One answer for each text, in the order asked."""

  answers: list[AnswerBody]


class Prompt(_Strict):
  """One prompt of the bank."""

  name: Name
  length: int = Field(description="in tokens")
  labels: list[str] | None = Field(description="what it chooses from; null: it decodes")
  metadata: dict[str, str | int | float | bool] = Field(
    description=f"{', '.join(_TOLD)}, as far as its file says them"
  )


class Prompts(_Strict):
  """All prompts of the bank."""

  prompts: list[Prompt]


class State(_Strict):
  """How the service is."""

  status: str


class FileRequest(_Strict):
  """A prompt file in the folder that the service was given."""

  path: str = Field(
    min_length=1, max_length=_LONGEST_PATH, description="relative to --prompt-dir"
  )


@dataclasses.dataclass(frozen=True)
class Requests:
  """The bodies of the three questions, with the limits of a service."""

  predict: type[pydantic.BaseModel]
  rank: type[pydantic.BaseModel]
  score: type[pydantic.BaseModel]


def requests(limits: Limits) -> Requests:
  """Models of the bodies that a service with these limits takes."""
  longest, most = limits.characters, limits.texts
  label, target = min(longest, LONGEST_LABEL), min(longest, _LONGEST_TARGET)

  class PredictRequest(_Strict):
    texts: list[Annotated[str, Field(min_length=1, max_length=longest)]] = Field(
      min_length=1, max_length=most
    )
    prompt: Name | list[Name | None] | None = Field(
      None, description="one for all texts or one for each; null is the untuned model"
    )
    timeout_ms: int | None = Field(None, ge=1, le=limits.max_timeout_ms)

  class RankRequest(PredictRequest):
    labels: (
      Annotated[
        list[Annotated[str, Field(min_length=1, max_length=label)]],
        Field(min_length=1, max_length=limits.labels),
      ]
      | Annotated[
        list[
          Annotated[
            list[Annotated[str, Field(min_length=1, max_length=label)]],
            Field(min_length=1, max_length=limits.labels),
          ]
        ],
        Field(min_length=1, max_length=most),
      ]
    ) = Field(description="the same for all texts, or a list for each")
    length_normalized: bool = Field(False, description="scores per token, EOS included")

  class ScoreRequest(PredictRequest):
    targets: list[Annotated[str, Field(min_length=1, max_length=target)]] = Field(
      min_length=1, max_length=most, description="one for each text"
    )
    length_normalized: bool = Field(False, description="scores per token, EOS included")

  return Requests(PredictRequest, RankRequest, ScoreRequest)


def answer(found: Answer) -> dict[str, Any]:
  """One answer as JSON.

  Raises:
    ArithmeticError: A score is no number, which JSON cannot say.
  """
  if not all(map(math.isfinite, (found.score, *found.scores))):
    raise ArithmeticError("a score is not finite")
  scores = zip(found.candidates, found.scores, strict=True)
  return {
    "text": found.text,
    "score": found.score,
    "scores": [{"label": label, "score": score} for label, score in scores],
    "tokens": found.tokens,
  }


def prompt(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
  """One prompt as JSON."""
  labels = about["labels"]
  return {
    "name": name,
    "length": about["length"],
    "labels": None if labels is None else list(labels),
    "metadata": _story(about["metadata"]),
  }


def _story(metadata: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
  """Of metadata, which anybody may have written, what is harmless to tell.

  What names files of the machine that trained it (base_model) stays here.
  """
  told = {key: metadata[key] for key in _TOLD if key in metadata}
  return {key: value for key, value in told.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
  if isinstance(value, str):
    is_text = value.isprintable() and "/" not in value
    return is_text and len(value) <= _LONGEST_STORY
  return isinstance(value, int | float) and abs(value) < 1e15
