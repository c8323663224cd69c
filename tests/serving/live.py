"""A real service over a tiny T5 on loopback, in a thread of the test's process."""

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import requests

from prompt_tuning.data import vocabularies
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.predictor import Predictor
from prompt_tuning.serving import server
from prompt_tuning.serving.limits import Limits
from prompt_tuning.serving.service import Service

WIDTH = 16
LABELS = {"mood": ["negative", "positive"], "size": ["small", "large", "huge"]}
BATCH = 8
SECONDS = 60


def tiny_predictor() -> Predictor:
  """A predictor with two prompts that choose and one that decodes."""
  config = T5Config(
    vocab_size=4096,
    d_model=WIDTH,
    num_heads=2,
    d_kv=8,
    d_ff=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  rng = np.random.default_rng(0)
  prompts = {
    name: rng.normal(size=(length, WIDTH)).astype(np.float32)
    for name, length in (("mood", 3), ("size", 5), ("free", 2))
  }
  return Predictor(
    T5.random(config, jax.random.key(0)),
    prompts,
    LABELS,
    vocabularies.EMBEDDED,
    capacity=6,
    max_prompt_len=6,
    max_input_len=32,
    max_output_len=4,
    batch_size=BATCH,
  )


class Held:
  """A real predictor whose passes can be made to wait, and counted, or to fail."""

  def __init__(self, predictor: Predictor):
    self._predictor = predictor
    self.go = threading.Event()
    self.go.set()
    self.begun = threading.Event()
    self.passes: list[list[str]] = []
    self.error: Exception | None = None

  def __getattr__(self, name: str):
    return getattr(self._predictor, name)

  def answer(self, prepared):
    self.passes.append([row.query.text for row in prepared])
    self.begun.set()
    assert self.go.wait(SECONDS)
    if self.error is not None:
      raise self.error
    return self._predictor.answer(prepared)


@dataclasses.dataclass
class Client:
  """Talks to a running service."""

  url: str
  service: Service
  server: server.Server
  thread: threading.Thread
  token: str | None = None

  def call(self, method: str, path: str, **options) -> requests.Response:
    headers = dict(options.pop("headers", {}))
    if self.token:
      headers.setdefault("Authorization", f"Bearer {self.token}")
    return requests.request(
      method, self.url + path, timeout=SECONDS, headers=headers, **options
    )

  def post(self, path: str, **body) -> requests.Response:
    return self.call("POST", f"/v1/{path}", json=body)

  def metric(self, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = self.call("GET", "/metrics").text.splitlines()
    rows = [line for line in lines if line.partition("{")[0].split()[0] == name]
    return sum(float(line.split()[-1]) for line in rows)

  @property
  def address(self) -> tuple[str, int]:
    host, port = self.url.removeprefix("http://").split(":")
    return host, int(port)


@contextlib.contextmanager
def running(
  load: Callable[[], Predictor], token: str | None = None, prompt_dir=None, **limits
) -> Iterator[Client]:
  """A service that is loading or ready."""
  service = Service(load, BATCH, Limits(**limits), prompt_dir)
  web = server.Server(service, token.encode() if token else None)
  listener = server.bound("127.0.0.1", 0)
  service.start()
  thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
  thread.start()
  wait_until(lambda: web.started)
  try:
    yield Client(web.address(), service, web, thread, token)
  finally:
    web.stop()
    thread.join(SECONDS)
    service.batcher.close()
    service.thread.join(SECONDS)


def wait_until(is_so: Callable[[], object], seconds: float = SECONDS) -> None:
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end, "it took too long"
    time.sleep(0.01)


def ready(client: Client) -> Client:
  wait_until(lambda: client.call("GET", "/readyz").status_code == 200)
  return client


def raw(client: Client, *parts: bytes, pause: float = 0.0) -> bytes:
  """Sends bytes as they are and gives what comes back until the server closes."""
  with socket.create_connection(client.address, timeout=SECONDS) as connection:
    for part in parts:
      connection.sendall(part)
      time.sleep(pause)
    found = b""
    while part := connection.recv(65536):
      found += part
  return found
