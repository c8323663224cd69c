"""Whether a training step fits on devices that need not be here, and how to make it fit."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax

from prompt_tuning import checks, choices, step_memory, step_shapes, throughput
from prompt_tuning.choices import Choice
from prompt_tuning.step_memory import Resident
from prompt_tuning.step_shapes import StepShapes
from prompt_tuning.train_config import TrainConfig

RESERVE = 0.1  # of a device's memory: for fragmentation, collectives and the runtime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices:
  """What a plan is for.

  Attributes:
    devices: All of them, virtual or compile-only.
    hbm: Memory of each in bytes.
    compiler: Name of the compiler that is asked, e.g. "TPU compiler, v5e:4x8"; None where
      there is none for these devices, so that activations are estimated.
    whole: Whether all layers are compiled instead of a few.
  """

  devices: Sequence[Any]
  hbm: int
  compiler: str | None = None
  whole: bool = False

  @property
  def budget(self) -> int:
    """Bytes that a step may use."""
    return int(self.hbm * (1 - RESERVE))


@dataclasses.dataclass(frozen=True)
class Option:
  """One way to run and what it needs, in bytes per device.

  Attributes:
    choice: The way.
    used: Devices that take part.
    resident: What lies there.
    activations: Everything else; None where what lies there is too much already.
    flops: Operations per device, as the compiler counts; None where it was not asked.
    budget: What may be used.
  """

  choice: Choice
  used: int
  resident: Resident
  activations: int | None
  flops: float | None
  budget: int

  @property
  def total(self) -> int:
    """What is needed; at least, where activations are not known."""
    return self.resident.total + (self.activations or 0)

  @property
  def fits(self) -> bool:
    """Whether it does."""
    return self.activations is not None and self.total <= self.budget

  def __str__(self) -> str:
    least = "at least " if self.activations is None else ""
    verdict = "fits" if self.fits else "does not fit"
    return f"{self.choice}: {least}{gib(self.total)}, {verdict}"


@dataclasses.dataclass(frozen=True)
class Plan:
  """The answer.

  Attributes:
    frozen: Parameters that do not learn.
    tunable: Parameters that do.
    model_flops: Of a step on all devices, see `throughput.training_flops`.
    counted_flops: Of a step on all devices, as XLA counts before it optimises.
    given: The run as it is.
    best: The first choice that fits, or None.
    nearest: Where none fits, the one that lacks least.
  """

  frozen: int
  tunable: int
  model_flops: float
  counted_flops: float
  given: Option
  best: Option | None
  nearest: Option | None


def plan(run: TrainConfig, target: Devices) -> Plan:
  """Plans a training run; allocates nothing.

  Raises:
    InputError: The run cannot be laid out on these devices at all.
  """
  given = option(run, Choice.of(run), target)
  _say(f"as given: {given}")
  tried = []
  best = None
  for choice in choices.choices(run, len(target.devices)):
    found = given if choice == given.choice else _possible(run, choice, target)
    if found is None:
      continue
    if found is not given:
      _say(str(found))
    tried.append(found)
    if found.fits:
      best = found
      break
  shapes = step_shapes.split(run)
  known = [x for x in tried if x.activations is not None] or tried
  nearest = None if best else min(known, key=lambda x: x.total, default=None)
  return Plan(
    frozen=step_shapes.parameters(shapes.frozen),
    tunable=step_shapes.parameters(shapes.tunable),
    model_flops=_model_flops(run),
    counted_flops=step_memory.counted(run),
    given=given,
    best=best,
    nearest=nearest,
  )


def option(run: TrainConfig, choice: Choice, target: Devices) -> Option:
  """What one choice needs.

  Raises:
    InputError: It cannot be laid out on these devices.
  """
  chosen = run if choice == Choice.of(run) else choice.applied(run)
  chosen.check()
  layout = chosen.partitioner.layout(chosen.train_dataset.batch_size, target.devices)
  resident = Resident.of(StepShapes.of(chosen, layout))
  found = Option(choice, layout.mesh.size, resident, None, None, target.budget)
  if not resident.total < target.budget:
    return found
  estimate = step_memory.estimated(chosen, layout)
  found = dataclasses.replace(found, activations=estimate)
  if target.compiler is None or not found.fits:
    return found
  return _compiled(found, chosen, layout, target)


def _compiled(found: Option, run: TrainConfig, layout: Any, target: Devices) -> Option:
  _say(f"compiling {found.choice}")
  try:
    said = step_memory.compiled(run, layout, target.whole)
  except jax.errors.JaxRuntimeError as error:
    if step_memory.OUT_OF_MEMORY not in str(error):
      raise
    return dataclasses.replace(found, activations=None)
  return dataclasses.replace(found, activations=said.activations, flops=said.flops)


def _possible(run: TrainConfig, choice: Choice, target: Devices) -> Option | None:
  """None where the model does not divide that way."""
  try:
    return option(run, choice, target)
  except checks.InputError:
    return None


def _model_flops(run: TrainConfig) -> float:
  prompt = getattr(run.learned, "prompt", None)
  lengths = run.train_dataset.task_feature_lengths or {}
  inputs = lengths["inputs"] + (0 if prompt is None else prompt.length)
  rows = run.train_dataset.batch_size
  return throughput.training_flops(run.model, rows, inputs, lengths["targets"])


def gib(count: float) -> str:
  """Bytes for people."""
  return f"{count / 2**30:,.2f} GiB"


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
