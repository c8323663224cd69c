"""Bodies of requests, read within limits and checked before anybody looks at them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

import pydantic
from starlette.requests import ClientDisconnect, Request

from prompt_tuning.serving import refusals
from prompt_tuning.serving.limits import Limits
from prompt_tuning.serving.refusals import Refusal

JSON = "application/json"
BYTES = "application/octet-stream"
_Model = TypeVar("_Model", bound=pydantic.BaseModel)


class Intake:
  """All bodies that are arriving at a service: their size together, and their end.

  Attributes:
    size: Bytes that have arrived of bodies that nobody has looked at yet.
    is_closed: Whether no body is waited for any more.
  """

  def __init__(self) -> None:
    self.size = 0
    self.is_closed = False
    self._waits: set[asyncio.Timeout] = set()

  def close(self) -> None:
    """Ends the wait for bodies, of requests that come later too; for the event loop."""
    if not self.is_closed:
      self.is_closed = True
      for wait in self._waits:
        if not wait.expired():
          wait.reschedule(0)  # a time that has passed: at once

  @contextlib.asynccontextmanager
  async def waiting(self, seconds: float) -> AsyncIterator[None]:
    """Ends what is within with `TimeoutError`, after `seconds` or on `close`."""
    async with asyncio.timeout(0 if self.is_closed else seconds) as wait:
      self._waits.add(wait)
      try:
        yield
      finally:
        self._waits.discard(wait)


async def read(request: Request, limits: Limits) -> bytes:
  """The body.

  Raises:
    Refusal: It is too large, too slow or compressed, or it is one of too many.
  """
  _check_head(request, limits)
  intake: Intake = request.state.intake
  parts, size = [], 0
  try:
    async with intake.waiting(limits.body_s):
      async for part in request.stream():
        parts.append(part)
        size += len(part)
        intake.size += len(part)
        _check_size(size, intake.size, limits)
  except TimeoutError:
    raise (refusals.stopping() if intake.is_closed else _slow(limits)) from None
  except ClientDisconnect:
    raise gone() from None
  finally:
    intake.size -= size
  return b"".join(parts)


def _check_head(request: Request, limits: Limits) -> None:
  if request.headers.get("content-encoding", "identity").lower() != "identity":
    raise Refusal(415, "unsupported_media_type", "the body is compressed; send it as it is")
  declared = request.headers.get("content-length", "")
  if declared.isdecimal() and int(declared[:20]) > limits.body_bytes:
    raise _too_large(limits)


def _check_size(one: int, together: int, limits: Limits) -> None:
  if one > limits.body_bytes:
    raise _too_large(limits)
  if together > max(limits.bodies_bytes, limits.body_bytes):
    message = "the bodies of other requests take all the room; ask again in 1 s"
    raise Refusal(503, "busy", message, {"Retry-After": "1"})


def kind(request: Request, *known: str) -> str:
  """The content type of a body, one of `known`.

  Raises:
    Refusal: It is another.
  """
  found, *parameters = request.headers.get("content-type", "").lower().split(";")
  charset = {part.strip() for part in parameters if part.strip().startswith("charset")}
  if found.strip() not in known or charset - {"charset=utf-8", 'charset="utf-8"'}:
    message = f"the content-type is no {' and no '.join(known)} in UTF-8; send one"
    raise Refusal(415, "unsupported_media_type", message)
  return found.strip()


async def parse(request: Request, model: type[_Model], limits: Limits) -> _Model:
  """The body as a `model`.

  Raises:
    Refusal: It is no JSON, or of another shape.
  """
  kind(request, JSON)
  try:
    return model.model_validate_json(await read(request, limits))
  except pydantic.ValidationError as error:
    raise refusals.misshapen(error) from None


def gone() -> Refusal:
  """The client left; nobody reads this but the log."""
  return Refusal(499, "gone", "the client closed the connection")


def _slow(limits: Limits) -> Refusal:
  message = f"the body did not arrive within {limits.body_s:g} s; send it faster"
  return Refusal(408, "slow_body", message, {"Connection": "close"})


def _too_large(limits: Limits) -> Refusal:
  message = f"the body is larger than {limits.body_bytes} bytes; send less at a time"
  return Refusal(413, "too_large", message)
