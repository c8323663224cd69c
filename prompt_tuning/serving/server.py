"""A service on a socket: started, announced, and stopped so that nobody loses an answer.

SIGTERM -> /readyz says 503, new work gets 503, what waits is answered (grace_s at most)
        -> the socket closes, the process leaves with status 0
"""

import asyncio
import contextlib
import functools
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from prompt_tuning import checks
from prompt_tuning.serving import app, refusals
from prompt_tuning.serving.gate import Gate
from prompt_tuning.serving.service import Service, State

_LAST_PORT = 65_535
_LINGER_S = 0.5  # how long a stopping service still says so
_LAST_BYTES_S = 5  # for clients that read slowly
_STEP_S = 0.1  # between two looks at what may have changed


class _Protocol(H11Protocol):
  """HTTP on one connection, which ends where a client is slow to ask anything.

  uvicorn ends connections that are silent after an answer, but waits without end for the
  first request, and for the rest of one that has begun.

  Args:
    head_s: Longest that a request may take to begin.
    given: What uvicorn gives its protocol.
  """

  def __init__(self, head_s: float, **given: Any):
    super().__init__(**given)
    self._head_s = head_s
    self._end: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
    """Begins to wait for a request."""
    super().connection_made(transport)
    self._wait()

  def data_received(self, data: bytes) -> None:
    """Reads on; what is no whole head yet does not prolong the wait."""
    super().data_received(data)
    if self.cycle is None or self.cycle.response_complete:
      self._wait()
    else:
      self._wait_no_more()

  def connection_lost(self, exc: Exception | None) -> None:
    """Forgets the connection."""
    self._wait_no_more()
    super().connection_lost(exc)

  def _wait(self) -> None:
    if self._end is None and not self.transport.is_closing():
      self._end = self.loop.call_later(self._head_s, self.timeout_keep_alive_handler)

  def _wait_no_more(self) -> None:
    if self._end is not None:
      self._end.cancel()
      self._end = None


class Server(uvicorn.Server):
  """uvicorn, which stops when the service has nothing left to answer."""

  def __init__(self, service: Service, token: bytes | None = None):
    self.service = service
    self.gate: Gate = app.application(service, token)
    self.stopped_at: float | None = None
    self._is_announced = False
    config = uvicorn.Config(
      self.gate,
      loop="asyncio",
      http=cast(Any, functools.partial(_Protocol, service.limits.body_s)),
      ws="none",
      lifespan="off",
      log_config=None,
      access_log=False,
      proxy_headers=False,
      server_header=False,
      timeout_graceful_shutdown=_LAST_BYTES_S,
    )
    super().__init__(config)

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """Begins to stop; a second signal stops at once. uvicorn would die of the signal."""
    if self.stopped_at is not None:
      self.force_exit = self.should_exit = True
    self.stop()

  def stop(self) -> None:
    """Begins to stop."""
    self.service.stop()
    self.stopped_at = self.stopped_at or time.monotonic()

  async def on_tick(self, counter: int) -> bool:
    """Announces the service when it is ready, and knows when it is over."""
    if self.service.state is State.READY and not self._is_announced:
      self._is_announced = True
      print(f"serving on {self.address()}", file=sys.stderr, flush=True)
    if self.service.state is State.FAILED:
      self.should_exit = True
    if self.stopped_at is not None:
      self.gate.intake.close()
      self.should_exit |= self._is_over(time.monotonic() - self.stopped_at)
    return await super().on_tick(counter)

  def leave(self) -> bool:
    """Whether the thread of the model ends soon; a second signal does not wait for it."""
    self.service.batcher.close(refusals.stopping())
    end = time.monotonic() + _LAST_BYTES_S
    thread = self.service.thread
    while thread.is_alive() and not self.force_exit and time.monotonic() < end:
      thread.join(timeout=_STEP_S)
    return not thread.is_alive()

  def address(self) -> str:
    """Where it answers."""
    host, port = self.servers[0].sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

  def _is_over(self, seconds: float) -> bool:
    if seconds >= self.service.limits.grace_s:
      self.service.batcher.close(refusals.stopping())
      return True
    return seconds >= _LINGER_S and self.gate.in_flight == 0


def bound(host: str, port: int) -> socket.socket:
  """A socket that listens at an address; what connects waits until it is served.

  Raises:
    InputError: The address cannot be used.
  """
  try:
    if not 0 <= port <= _LAST_PORT:  # getaddrinfo would take it modulo 2^16
      raise OverflowError(f"ports end at {_LAST_PORT}")
    family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # With the protocol named, or asyncio would not switch off Nagle's delay of 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place)
    listener.listen()  # here, since two sockets may be bound to a port if none listens
  except (OSError, OverflowError, UnicodeError) as error:
    why = getattr(error, "strerror", None) or error
    raise checks.InputError(
      f"{host}:{port} cannot be listened on ({why}), expected a free port of this "
      "machine; give another --port, or 0 for any"
    ) from error
  return listener


def run(service: Service, listener: socket.socket, token: bytes | None) -> None:
  """Serves until a signal.

  Raises:
    InputError: Checkpoint or prompt cannot be used.
  """
  server = Server(service, token)
  with _log_to_stderr(), server.capture_signals():
    service.start()
    server.run(sockets=[listener])
    has_left = server.leave()
  if service.failure is not None:
    raise service.failure
  if not has_left:
    # A device or a compiler still works for nobody; it would abort the interpreter's end.
    sys.stderr.flush()
    os._exit(0)


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
  """The log of the service on stderr; afterwards the logger is as it was."""
  logger = logging.getLogger("prompt_tuning.serving")
  before = logger.handlers, logger.propagate, logger.level
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(logging.INFO)
  try:
    yield
  finally:
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])
