"""What the service counts, for Prometheus."""

from collections.abc import Callable

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
  """Counters of one service; several may live in one process."""

  def __init__(self):
    self._registry = CollectorRegistry()
    self.requests = self._counter("requests", "Requests.", "route", "status")
    self.seconds = self._histogram("request_seconds", "Seconds per request.", _SECONDS)
    self.batches = self._histogram("batch_rows", "Texts that share a pass.", _ROWS)
    self.batch_seconds = self._histogram("batch_seconds", "Seconds per pass.", _SECONDS)
    self.rows = self._counter("rows", "Texts answered.", "kind")
    self.tokens = self._counter("tokens", "Tokens read and written.")
    self.rejected = self._counter("rejected", "Requests refused unseen or late.", "status")
    self.dropped = self._counter("dropped_rows", "Texts dropped uncomputed.", "why")

  def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
    """Shows a value that is asked for when it is read."""
    Gauge(_named(name), text, registry=self._registry).set_function(value)

  def text(self) -> bytes:
    """Everything in Prometheus's text format."""
    return prometheus.generate_latest(self._registry)

  def _counter(self, name: str, text: str, *labels: str) -> Counter:
    return Counter(_named(name), text, labels, registry=self._registry)

  def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(_named(name), text, buckets=buckets, registry=self._registry)


def _named(name: str) -> str:
  return f"prompt_tuning_{name}"
