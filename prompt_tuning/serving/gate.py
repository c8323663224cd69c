"""What every request passes: guard, count, log, and errors that tell nothing inward."""

import asyncio
import contextlib
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prompt_tuning.serving import refusals, security
from prompt_tuning.serving.bodies import Intake
from prompt_tuning.serving.metrics import Metrics
from prompt_tuning.serving.refusals import Refusal
from prompt_tuning.serving.security import Guard

_LOG = logging.getLogger("prompt_tuning.serving")
_PROBES = ("/healthz", "/readyz")
_EXEMPT = (*_PROBES, "/metrics")  # answered however busy the service is
_REJECTED = (401, 403, 429, 503, 504)
_CLOSE = (b"connection", b"close")
_REST_S = 0.5  # how long the rest of an unread body is waited for
_LOGGED = 100  # characters of a path


class Gate:
  """The outermost application.

  Args:
    app: What answers.
    guard: Who may ask.
    metrics: Where requests are counted.
    most: Most requests at a time; probes and metrics are always answered.

  Attributes:
    in_flight: How many requests are being answered, without those.
    intake: The bodies that are arriving; once it is closed, answers end connections.
  """

  def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics, most: int):
    self._app, self._guard, self._metrics, self._most = app, guard, metrics, most
    self.in_flight = 0
    self.intake = Intake()

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one request (ASGI)."""
    if scope["type"] != "http":
      return
    response = _Watched(scope, receive, send, self.intake)
    start = time.perf_counter()
    is_exempt = scope["path"] in _EXEMPT
    self.in_flight += not is_exempt
    scope.setdefault("state", {})["intake"] = self.intake
    try:
      self._check(scope, is_exempt)
      await self._app(scope, response.receive, response.send)
    except Refusal as refusal:
      await refusal.response()(scope, receive, response.send)
    except asyncio.CancelledError:  # the service ends before the answer is there
      if response.status is not None:
        raise
      await refusals.stopping().response()(scope, receive, response.send)
    except Exception:
      if response.status is None:  # else the application has answered and logged it
        await refusals.failed().response()(scope, receive, response.send)
      _LOG.exception("%s %s failed", scope["method"], _shown(scope))
    finally:
      self.in_flight -= not is_exempt
      self._record(scope, response.status or 499, time.perf_counter() - start)

  def _check(self, scope: Scope, is_exempt: bool) -> None:
    self._guard.check(scope["path"], dict(scope["headers"]))
    if not is_exempt and self.in_flight > self._most:
      message = f"{self._most} requests are being answered; ask again in 1 s"
      raise Refusal(503, "busy", message, {"Retry-After": "1"})

  def _record(self, scope: Scope, status: int, seconds: float) -> None:
    """Counts and logs a request; what it asked stays untold."""
    route = getattr(scope.get("route"), "path", "other")
    self._metrics.requests.labels(route, status).inc()
    self._metrics.seconds.observe(seconds)
    if scope["path"] not in _PROBES:
      if status in _REJECTED:
        self._metrics.rejected.labels(status).inc()
      ms = seconds * 1000
      _LOG.info("%s %s %d %.1f ms", scope["method"], _shown(scope), status, ms)


class _Watched:
  """Notes the status of a response, adds headers to it, and lets it arrive."""

  def __init__(self, scope: Scope, receive: Receive, send: Send, intake: Intake):
    self._receive, self._send, self._intake = receive, send, intake
    self._is_asked_to_close = _CLOSE in scope["headers"]
    self._is_read = False
    self.status: int | None = None

  async def receive(self) -> Message:
    message = await self._receive()
    self._is_read |= not message.get("more_body", False)
    return message

  async def send(self, message: Message) -> None:
    if message["type"] == "http.response.start":
      headers: list[Any] = [*message.get("headers", []), *security.HEADERS]
      if self._intake.is_closed and _CLOSE not in headers:
        headers.append(_CLOSE)  # or a client would ask again just as the socket closes
      if self._is_asked_to_close or _CLOSE in headers:
        await self._read_rest()
      self.status = message["status"]
      message = {**message, "headers": headers}
    await self._send(message)

  async def _read_rest(self) -> None:
    """Drops what is left of a body; to close on it would reset what a client may read."""
    with contextlib.suppress(TimeoutError):
      async with asyncio.timeout(_REST_S):
        while not self._is_read:
          await self.receive()


def _shown(scope: Scope) -> str:
  """A path that fits into a line of a log, whatever a client sent: percent-encoded."""
  path = scope.get("raw_path") or b""
  return ascii(path.decode("latin-1"))[1:-1][:_LOGGED]
