"""A service on a socket: started, announced, and stopped so that nobody loses an answer.

SIGTERM -> /readyz says 503, new work gets 503, what waits is answered (grace_s at most)
        -> the socket closes, the process leaves with status 0
"""

import logging
import os
import socket
import sys
import time
from types import FrameType

import uvicorn

from prompt_tuning import checks
from prompt_tuning.serving import app, refusals
from prompt_tuning.serving.gate import Gate
from prompt_tuning.serving.service import Service, State

_LAST_PORT = 65_535
_LINGER_S = 0.5  # how long a stopping service still says so
_LAST_BYTES_S = 5  # for clients that read slowly


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
      http="h11",
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
    if self.stopped_at is not None and self._is_over(time.monotonic() - self.stopped_at):
      self.should_exit = True
    return await super().on_tick(counter)

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
  """A socket at an address.

  Raises:
    InputError: The address cannot be used.
  """
  try:
    if not 0 <= port <= _LAST_PORT:  # getaddrinfo would take it modulo 2^16
      raise OverflowError(f"ports end at {_LAST_PORT}")
    family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place)
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
  _log_to_stderr()
  server = Server(service, token)
  service.start()
  server.run(sockets=[listener])
  service.batcher.close(refusals.stopping())
  if service.failure is not None:
    raise service.failure
  service.thread.join(timeout=_LAST_BYTES_S)
  if service.thread.is_alive():
    # A device or a compiler still works for nobody; it would abort the interpreter's end.
    sys.stderr.flush()
    os._exit(0)


def _log_to_stderr() -> None:
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
  logger = logging.getLogger("prompt_tuning.serving")
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(logging.INFO)
