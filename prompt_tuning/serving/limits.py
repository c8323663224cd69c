"""How much one request may ask, and how long anything may wait."""

import dataclasses
import math

from prompt_tuning import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """What the service takes before it refuses.

  Attributes:
    queue: Most texts that wait for the model.
    wait_ms: Longest that a text waits for others to share its pass.
    timeout_ms: Time for an answer where a request names none.
    max_timeout_ms: Most that a request may name.
    grace_s: Longest that a stopping service works on.
    body_bytes: Largest body.
    body_s: Longest that a body, or the head of a request, may take to arrive.
    bodies_bytes: Most of all bodies that are arriving; the largest one always fits.
    texts: Most texts of a request.
    characters: Longest text, label or target.
    labels: Most labels of a text.
  """

  queue: int = 1024
  wait_ms: float = 5
  timeout_ms: int = 30_000
  max_timeout_ms: int = 120_000
  grace_s: float = 30
  body_bytes: int = 8 << 20
  body_s: float = 30
  bodies_bytes: int = 256 << 20
  texts: int = 128
  characters: int = 20_000
  labels: int = 64

  @property
  def requests(self) -> int:
    """Most requests at a time; each that waits has a text in the queue."""
    return self.queue + 64

  def check(self) -> None:
    """Raises `InputError` for limits that contradict each other."""
    for name in ("queue", "timeout_ms", "body_bytes", "texts", "characters", "labels"):
      checks.whole(_flag(name), getattr(self, name), 1, "give as many")
    for name in ("wait_ms", "grace_s"):
      value = getattr(self, name)
      is_finite = math.isfinite(value)
      checks.number(_flag(name), value if is_finite else str(value), 0, "give a number")
    if self.texts > self.queue:
      raise checks.InputError(
        f"--max-texts is {self.texts}, expected at most the {self.queue} of --max-queue, "
        "since a request is taken whole; lower it or raise --max-queue"
      )
    if self.timeout_ms > self.max_timeout_ms:
      raise checks.InputError(
        f"--timeout-ms is {self.timeout_ms}, expected at most the {self.max_timeout_ms} "
        "of --max-timeout-ms; lower it or raise --max-timeout-ms"
      )


def _flag(name: str) -> str:
  stays = name in ("timeout_ms", "grace_s")
  return f"--{'' if stays else 'max-'}{name.replace('_', '-')}"
