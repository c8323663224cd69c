"""A plan as text and as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from prompt_tuning.plan import RESERVE, Devices, Option, Plan, gib
from prompt_tuning.train_config import TrainConfig

_WIDTH = (26, 18)  # of the columns


def record(run: TrainConfig, target: Devices, found: Plan) -> dict[str, Any]:
  """The plan as JSON: bytes and operations; per device unless "global"."""
  return {
    "devices": len(target.devices),
    "hbm": target.hbm,
    "budget": target.budget,
    "activations_by": target.compiler or "estimate",
    "batch_size": run.train_dataset.batch_size,
    "lengths": dict(run.train_dataset.task_feature_lengths or {}),
    "parameters": {"frozen": found.frozen, "tunable": found.tunable},
    "flops": {
      "model_global": found.model_flops,
      "counted_global": found.counted_flops,
    },
    "fits": found.given.fits,
    "given": _option(found.given, run),
    "recommended": _option(found.best, run),
    "nearest": _option(found.nearest, run),
  }


def _option(option: Option | None, run: TrainConfig) -> dict[str, Any] | None:
  if option is None:
    return None
  return {
    **dataclasses.asdict(option.choice),
    "devices_used": option.used,
    "bytes": {
      **dataclasses.asdict(option.resident),
      "activations": option.activations,
      "total": option.total,
    },
    "flops_compiled": option.flops,
    "fits": option.fits,
    "flags": option.choice.lines(run),
  }


def report(run: TrainConfig, target: Devices, found: Plan) -> str:
  """The plan as a table, a verdict, and lines to paste."""
  other = found.best or found.nearest
  columns = {"as given": found.given}
  if other is not None and other != found.given:
    columns["recommended" if found.best else "nearest"] = other
  lengths = run.train_dataset.task_feature_lengths or {}
  sizes = ", ".join(f"{name} {size}" for name, size in lengths.items())
  prompt = getattr(run.learned, "prompt", None)
  if prompt is not None:
    sizes += f", prompt {prompt.length}"
  lines = [
    f"{len(target.devices)} devices of {gib(target.hbm)}, of which {RESERVE:.0%} is kept "
    f"free: {gib(target.budget)}",
    f"batch {run.train_dataset.batch_size}, {sizes}; {run.model.dtype} activations",
    f"parameters: {found.frozen:,} frozen, {found.tunable:,} tunable",
    f"FLOPs of a step: {found.model_flops:.3g} of the model with all weights updated, "
    f"{found.counted_flops:.3g} counted by XLA",
    f"activations by {target.compiler or 'estimate: no compiler for the device'}",
    "",
    _row("", list(columns)),
    *_table(list(columns.values()), found),
    "",
    *_verdict(run, target, found),
  ]
  return "\n".join(lines)


def _table(options: Sequence[Option], found: Plan) -> list[str]:
  rows = {
    "NUM_PARTITIONS": [str(x.choice.num_partitions) for x in options],
    "parameter dims": [str(x.choice.parameter_dims) for x in options],
    "LAYER_REMAT": [x.choice.remat for x in options],
    "microbatches": [str(x.choice.num_microbatches) for x in options],
    "WEIGHT_DTYPE": [x.choice.weight_dtype for x in options],
    "devices used": [str(x.used) for x in options],
    "weights": [gib(x.resident.weights) for x in options],
    "tunable and optimizer": [
      gib(x.resident.learned + x.resident.optimizer) for x in options
    ],
    "batch": [gib(x.resident.batch) for x in options],
    "activations": ["?" if x.activations is None else gib(x.activations) for x in options],
    "total": [(">= " if x.activations is None else "") + gib(x.total) for x in options],
    "model FLOPs per device": [f"{found.model_flops / x.used:.3g}" for x in options],
    "counted FLOPs per device": [
      f"{x.flops or found.counted_flops / x.used:.3g}" for x in options
    ],
  }
  return [_row(name, values) for name, values in rows.items()]


def _row(name: str, values: Sequence[str]) -> str:
  cells = "".join(value.rjust(_WIDTH[1]) for value in values)
  return f"{name.ljust(_WIDTH[0])}{cells}".rstrip()


def _verdict(run: TrainConfig, target: Devices, found: Plan) -> list[str]:
  lines = ["fits as given" if found.given.fits else "does not fit as given"]
  if found.best is not None and found.best != found.given:
    lines += ["recommended:", *(f"  {line}" for line in found.best.choice.lines(run))]
  if found.best is None:
    if found.nearest is None:
      return [*lines, "the batch does not divide over these devices in any way"]
    missing = found.nearest.total - target.budget
    least = "at least " if found.nearest.activations is None else ""
    lines.append(
      f"nothing fits: the nearest lacks {least}{gib(max(missing, 0))} on each device; take "
      "more devices, larger ones, a smaller BATCH_SIZE or shorter TASK_FEATURE_LENGTHS"
    )
  return lines
