"""A learning-rate range test: the loss of a run whose rate grows from step to step.

The rate goes up by the same factor with every step (Smith 2017, section 3.3). Too low and
the loss stays, too high and it bursts; between them lie the rates to train with:

  loss  ~~~~~~~~.                   /
                 `-.               /
                    `-.___________/
            1e-3     1e-2     1e-1     1

OUT/
  rates.json  rates.svg     rate and loss of every step, and what they say
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from prompt_tuning import assembly, calibration, checks, files, partitioning
from prompt_tuning.analysis import pictures
from prompt_tuning.feed import Feed
from prompt_tuning.progress import Progress
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.types import Array

_SMOOTH = 0.8  # share of the past in the smoothed loss
_BURST = 4.0  # the test ends where the loss is so many times its lowest
_LEAST = 1.0  # nats, below which losses are all low
_BELOW = 3.0  # the rate to train with is that of the lowest loss over this


@dataclasses.dataclass(frozen=True)
class Ramp:
  """Rates from `low` to `high`, each the same multiple of the one before.

  Attributes:
    low: Of the first step.
    high: Of the last step.
    count: Steps.
    first: Number of the first step.
  """

  low: float
  high: float
  count: int
  first: int = 0

  def __post_init__(self):
    checks.number("--steps", self.count, 10, "give more")
    checks.number("--low", self.low, 0, "give a rate")
    if not 0 < self.low < self.high < math.inf:
      raise checks.InputError(
        f"--low is {self.low} and --high {self.high}, expected rates above 0, the lower "
        "one first; correct them"
      )

  def __call__(self, step: Array | int) -> Array:
    """float32 rate at `step`, an integer scalar."""
    share = jnp.asarray(step - self.first).astype(jnp.float32) / (self.count - 1)
    return self.low * (self.high / self.low) ** share


def range_test(config: TrainConfig, out: pathlib.Path, ramp: Ramp) -> dict[str, Any]:
  """Trains for as many steps as the ramp has, saves nothing of what is learned.

  Args:
    config: A run; its own schedule, evaluations and saves do not count.
    out: Folder to write.
    ramp: The rates.

  Returns:
    {"rates", "losses", "smoothed": a number for each step, "lowest": the rate of the
    lowest loss, "suggested": the rate to train with, "embedding_rms"}; losses are those of
    a target token.

  Raises:
    InputError: Something given cannot be used.
  """
  pictures.check()
  config.check()
  folder = files.output_folder(str(out), "the folder for the test")
  layout = config.partitioner.layout(config.train_dataset.batch_size)
  base = config.learned.load(config.model, config.checkpoint, layout)
  losses = list(until_burst(_losses(config, base, layout, ramp)))
  found = described([float(ramp(i)) for i in range(len(losses))], losses)
  found["embedding_rms"] = calibration.rms(assembly.table(base.model))
  (folder / "rates.json").write_text(json.dumps(found, indent=2) + "\n")
  pictures.rates(found, out / "rates.svg")
  return found


def until_burst(losses: Iterable[float]) -> Iterator[float]:
  """The losses up to one that is no number or far above the lowest before it."""
  lowest = math.inf
  for loss in losses:
    yield loss
    if not loss <= _BURST * max(lowest, _LEAST):
      return
    lowest = min(lowest, loss)


def _losses(config: TrainConfig, base: Any, layout: Any, ramp: Ramp) -> Iterator[float]:
  """The loss per target token of each step, before its update."""
  learned, trainer = config.learned, config.trainer
  key_learned, key_train = jax.random.split(jax.random.key(trainer.random_seed))
  split = states.Split.of(learned.model(base, config.vocabulary, key_learned))
  first, _ = trainer.steps(base.step)
  rates = dataclasses.replace(ramp, first=first)
  optimizer = learned.optimizer(config.optimizer.transformation(rates, first))
  state = states.create(split, optimizer, key_train, first)
  frozen = layout.place(split.frozen)
  update = steps.train_step(split, optimizer, config.loss, trainer.num_microbatches)
  feed = Feed(config.train_dataset, config.vocabulary, layout.mesh, config.packing)
  feed.open(0, epath.Path("."))
  bar, size = Progress("step", ramp.count), config.train_dataset.batch_size
  for _ in range(ramp.count):
    batch = partitioning.from_rows(next(feed), size, layout.mesh)
    state, sums = update(state, frozen, batch)
    values = steps.metrics(config.loss, [jax.device_get(sums)])
    bar.advance()
    yield values.get("loss_per_nonpadding_target_token", values["loss"])
  bar.close()


def described(rates: Sequence[float], losses: Sequence[float]) -> dict[str, Any]:
  """What losses at growing rates say; see `range_test`."""
  smoothed, past = [], losses[0]
  for loss in losses:
    past = _SMOOTH * past + (1 - _SMOOTH) * loss
    smoothed.append(past)
  finite = [x if math.isfinite(x) else math.inf for x in smoothed]
  lowest = rates[int(np.argmin(finite))]
  return {
    "rates": list(rates),
    "losses": [_number(x) for x in losses],
    "smoothed": [_number(x) for x in smoothed],
    "lowest": lowest,
    "suggested": lowest / _BELOW,
  }


def _number(x: float) -> float | None:
  """What JSON has a word for."""
  return x if math.isfinite(x) else None


def report(found: dict[str, Any]) -> str:
  """What the test says, in two lines."""
  rms = found["embedding_rms"]
  return (
    f"lowest loss at {found['lowest']:.2g}; train with LEARNING_RATE="
    f"{found['suggested']:.2g}\nthe root mean square of the token table is {rms:.3g}"
  )
