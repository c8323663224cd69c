"""What every request passes: guard, count, log, and errors that tell nothing inward."""

import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prompt_tuning.serving import refusals, security
from prompt_tuning.serving.metrics import Metrics
from prompt_tuning.serving.refusals import Refusal
from prompt_tuning.serving.security import Guard

_LOG = logging.getLogger("prompt_tuning.serving")
_PROBES = ("/healthz", "/readyz")
_REJECTED = (401, 403, 429, 503, 504)
_LOGGED = 100  # characters of a path


class Gate:
  """The outermost application.

  Args:
    app: What answers.
    guard: Who may ask.
    metrics: Where requests are counted.
    most: Most requests at a time; those of probes are always taken.
  """

  def __init__(self, app: ASGIApp, guard: Guard, metrics: Metrics, most: int):
    self._app, self._guard, self._metrics, self._most = app, guard, metrics, most
    self.in_flight = 0

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one request (ASGI)."""
    if scope["type"] != "http":
      return
    response = _Watched(send)
    start = time.perf_counter()
    is_probe = scope["path"] in _PROBES
    self.in_flight += not is_probe
    try:
      self._check(scope, is_probe)
      await self._app(scope, receive, response.send)
    except Refusal as refusal:
      await refusal.response()(scope, receive, response.send)
    except Exception:
      if response.status is None:  # else the application has answered and logged it
        await refusals.failed().response()(scope, receive, response.send)
      _LOG.exception("%s %s failed", scope["method"], _shown(scope))
    finally:
      self.in_flight -= not is_probe
      self._record(scope, response.status or 499, time.perf_counter() - start)

  def _check(self, scope: Scope, is_probe: bool) -> None:
    self._guard.check(scope["path"], dict(scope["headers"]))
    if not is_probe and self.in_flight > self._most:
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
  """Notes the status of a response and adds headers to it."""

  def __init__(self, send: Send):
    self._send = send
    self.status: int | None = None

  async def send(self, message: Message) -> None:
    if message["type"] == "http.response.start":
      self.status = message["status"]
      headers: list[Any] = list(message.get("headers", []))
      message = {**message, "headers": [*headers, *security.HEADERS]}
    await self._send(message)


def _shown(scope: Scope) -> str:
  """A path that fits into a line of a log, whatever a client sent: percent-encoded."""
  path = scope.get("raw_path") or b""
  return ascii(path.decode("latin-1"))[1:-1][:_LOGGED]
