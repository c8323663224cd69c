"""Errors as clients see them: {"error": {"code", "message"}} with a status."""

import json
from collections.abc import Mapping

import pydantic
from starlette.responses import Response

_LONGEST = 1000  # characters of a message; it may quote what a client sent
_MOST = 1000  # problems of one body that are looked at
_SHOWN = 5  # problems of one body that a message lists


class Refusal(Exception):
  """A request that is answered with an error.

  Args:
    status: HTTP status.
    code: The kind of error, for programs.
    message: What is wrong and what to do, for people.
    headers: Of the response.
  """

  def __init__(
    self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
  ):
    super().__init__(message)
    self.status, self.code, self.message = status, code, message
    self.headers = dict(headers or {})

  def response(self) -> Response:
    """The answer to send."""
    error = {"code": self.code, "message": self.message[:_LONGEST]}
    return Response(
      json.dumps({"error": error}), self.status, self.headers, "application/json"
    )


def loading() -> Refusal:
  """The model is not there yet."""
  message = "the model is being loaded; ask again when /readyz says so"
  return Refusal(503, "loading", message, {"Retry-After": "5"})


def stopping() -> Refusal:
  """The service takes no more work."""
  headers = {"Retry-After": "5", "Connection": "close"}
  return Refusal(503, "stopping", "the service is stopping; ask again later", headers)


def full(waiting: int, most: int, seconds: int) -> Refusal:
  """The queue has no room."""
  return Refusal(
    429,
    "queue_full",
    f"{waiting} texts wait, at most {most} may; ask again in {seconds} s",
    {"Retry-After": str(seconds)},
  )


def late(timeout_ms: int) -> Refusal:
  """The deadline passed."""
  message = f"there was no answer within {timeout_ms} ms; ask again or allow more"
  return Refusal(504, "deadline", message)


def failed() -> Refusal:
  """Something of ours broke; the log says what."""
  message = "the service failed on this request; its log says why"
  return Refusal(500, "failed", message)


def invalid(message: str) -> Refusal:
  """What was asked cannot be used."""
  return Refusal(422, "invalid", message)


def misshapen(error: pydantic.ValidationError) -> Refusal:
  """A body that is no JSON, or JSON of another shape."""
  if error.error_count() > _MOST:  # listing them would take seconds
    return invalid(f"the body has {error.error_count()} faults; correct it")
  problems = error.errors(include_url=False, include_context=False, include_input=False)
  if problems[0]["type"] == "json_invalid":
    return Refusal(400, "bad_json", f"the body cannot be read: {problems[0]['msg']}")
  return invalid("; ".join(problem(row["loc"], row["msg"]) for row in problems[:_SHOWN]))


def problem(place: tuple[int | str, ...], message: str) -> str:
  """`texts.3: Input should be a valid string`."""
  return f"{'.'.join(str(part)[:80] for part in place) or 'the body'}: {message}"
