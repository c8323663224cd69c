"""A request waits for its job, for its deadline, or for its client to leave."""

import asyncio
import contextlib
import time
from typing import Any

from starlette.requests import Request

from prompt_tuning.queries import Answer
from prompt_tuning.serving import bodies, refusals
from prompt_tuning.serving.batcher import Batcher, Job


async def answers(request: Request, batcher: Batcher, job: Job) -> list[Answer]:
  """Queues a job and gives its answers.

  Raises:
    Refusal: There is no room, the deadline passes, the client leaves or the model fails.
    InputError: A prompt was removed meanwhile.
  """
  job.done.set_running_or_notify_cancel()  # or a cancelled task would cancel it
  batcher.submit(job)
  done: asyncio.Future[list[Answer]] = asyncio.wrap_future(job.done)
  gone: asyncio.Future[None] = asyncio.ensure_future(_disconnected(request))
  either: set[asyncio.Future[Any]] = {done, gone}
  try:
    await asyncio.wait(
      either,
      timeout=max(0.0, job.deadline - time.monotonic()),
      return_when=asyncio.FIRST_COMPLETED,
    )
    if done.done():
      return done.result()
    if gone.done():
      batcher.abandon(job, "disconnected")
      raise bodies.gone()
    batcher.abandon(job, "late")
    raise refusals.late(job.timeout_ms)
  finally:
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
      await gone
    if not done.done():  # nobody will look; an error in it is no news
      batcher.abandon(job, "disconnected")
      done.cancel()


async def _disconnected(request: Request) -> None:
  """Returns when the client has left; its body was read."""
  while (await request.receive())["type"] != "http.disconnect":
    pass
