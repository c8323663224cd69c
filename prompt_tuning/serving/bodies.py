"""Bodies of requests, read within limits and checked before anybody looks at them."""

import asyncio
from typing import TypeVar

import pydantic
from starlette.requests import ClientDisconnect, Request

from prompt_tuning.serving import refusals
from prompt_tuning.serving.limits import Limits
from prompt_tuning.serving.refusals import Refusal

JSON = "application/json"
BYTES = "application/octet-stream"
_Model = TypeVar("_Model", bound=pydantic.BaseModel)


async def read(request: Request, limits: Limits) -> bytes:
  """The body.

  Raises:
    Refusal: It is too large, too slow or compressed.
  """
  if request.headers.get("content-encoding", "identity").lower() != "identity":
    raise Refusal(415, "unsupported_media_type", "the body is compressed; send it as it is")
  declared = request.headers.get("content-length", "")
  if declared.isdecimal() and int(declared[:20]) > limits.body_bytes:
    raise _too_large(limits)
  parts, size = [], 0
  try:
    async with asyncio.timeout(limits.body_s):
      async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > limits.body_bytes:
          raise _too_large(limits)
  except TimeoutError:
    message = f"the body did not arrive within {limits.body_s:g} s; send it faster"
    raise Refusal(408, "slow_body", message, {"Connection": "close"}) from None
  except ClientDisconnect:
    raise gone() from None
  return b"".join(parts)


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


def _too_large(limits: Limits) -> Refusal:
  message = f"the body is larger than {limits.body_bytes} bytes; send less at a time"
  return Refusal(413, "too_large", message)
