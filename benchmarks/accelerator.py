r"""How fast a prompt trains for small to XXL, with random weights: time, MFU, memory.

  python benchmarks/accelerator.py --out runs/accelerator.json

Where there is an accelerator it measures; elsewhere the same command prints what a plan
says of each size on one device of 80 GB. Every size is laid out as its plan recommends.
The peak of memory is that of the process, so that sizes go from small to large.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from prompt_tuning import config, plan, step_shapes, throughput, trees
from prompt_tuning.cli.plan import OTHERWISE
from prompt_tuning.models import kernels
from prompt_tuning.step_shapes import StepShapes
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states

SIZES = ("small", "base", "large", "xl", "xxl")
# Dense bfloat16 operations per second that makers state, by `device_kind`.
PEAKS = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "NVIDIA A100-SXM4-80GB": 312e12,
  "NVIDIA H100 80GB HBM3": 989e12,
  "NVIDIA H200": 989e12,
}
PLANNED_HBM = 80 * 10**9  # where there is no accelerator
WARM, STEPS = 3, 10


def run_of(size: str, changes: Sequence[str] = ()) -> TrainConfig:
  """Prompt tuning in the paper's setting, its frozen weights in bfloat16."""
  files = [f"models/t5_1_1_{size}_prompt.gin", "runs/prompt_finetune.gin"]
  bindings = ["BATCH_SIZE = 32", "WEIGHT_DTYPE = 'bfloat16'", *changes]
  return config.load("train.train", files, bindings, (), OTHERWISE)[0]


def drawn(shape: jax.ShapeDtypeStruct, seed: int) -> jax.Array:
  """Random numbers made where they will lie, in their dtype."""

  def draw() -> jax.Array:
    key = jax.random.key(seed)
    if jnp.issubdtype(shape.dtype, jnp.integer):
      return jax.random.randint(key, shape.shape, 3, 100, shape.dtype)
    return 0.02 * jax.random.normal(key, shape.shape, shape.dtype)

  return jax.jit(draw, out_shardings=shape.sharding)()


def measured(run: TrainConfig, option: plan.Option, devices: list[Any]) -> dict[str, Any]:
  """Seconds of a step, median of ten, and what follows from them."""
  run = option.choice.applied(run)
  layout = run.partitioner.layout(run.train_dataset.batch_size, devices)
  kernel = kernels.best(jax.default_backend(), len(devices))
  shapes = StepShapes.of(run, layout, kernel)
  leaves, structure = jax.tree.flatten((shapes.state.params, shapes.frozen, shapes.batch))
  arrays = [drawn(leaf, seed) for seed, leaf in enumerate(leaves)]
  params, frozen, batch = jax.tree.unflatten(structure, arrays)
  split = dataclasses.replace(
    shapes.split, tunable=trees.with_values(shapes.split.tunable, params)
  )
  state = states.create(split, step_shapes.optimizer(run), jax.random.key(0))
  state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, shapes.state))
  began = time.perf_counter()
  step = shapes.function().lower(state, frozen, batch).compile()
  compiling, seconds = time.perf_counter() - began, []
  for _ in range(WARM + STEPS):
    began = time.perf_counter()
    state, sums = step(state, frozen, batch)
    jax.block_until_ready((state.params, sums))
    seconds.append(time.perf_counter() - began)
  rates = _rates(run, statistics.median(seconds[WARM:]), layout.mesh.devices.flat)
  return {**rates, "compile_seconds": compiling}


def _rates(run: TrainConfig, seconds: float, devices: Any) -> dict[str, Any]:
  lengths = run.train_dataset.task_feature_lengths or {}
  rows, inputs = run.train_dataset.batch_size, lengths["inputs"] + run.learned.prompt.length
  # A frozen model has no gradients of weights: two products of three.
  flops = throughput.training_flops(run.model, rows, inputs, lengths["targets"]) * 2 / 3
  devices = list(devices)
  peak = PEAKS.get(devices[0].device_kind) or throughput.matmul_peak("bfloat16")
  stats = [device.memory_stats() or {} for device in devices]
  return {
    "device": devices[0].device_kind,
    "devices": len(devices),
    "step_seconds": seconds,
    "tokens_per_second": rows * (inputs + lengths["targets"]) / seconds,
    "model_flop_utilisation": flops / seconds / peak / len(devices),
    "peak_bytes": max(x.get("peak_bytes_in_use", 0) for x in stats),
  }


def line(found: dict[str, Any]) -> str:
  """One row of the table."""
  if "step_seconds" in found:
    return (
      f"{found['size']:<8}{found['step_seconds'] * 1e3:>10.1f} ms"
      f"{found['tokens_per_second']:>14,.0f} tokens/s"
      f"{found['model_flop_utilisation']:>8.1%} MFU"
      f"{plan.gib(found['peak_bytes']):>12} peak, "
      f"planned {plan.gib(found['planned_bytes'])}, "
      f"compiled in {found['compile_seconds']:.0f} s"
    )
  fits = "planned" if found["fits"] else "does not fit:"
  return f"{found['size']:<8}{fits} {plan.gib(found['planned_bytes'])}, {found['choice']}"


def main() -> None:
  """Measures or plans every size."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES)
  parser.add_argument("--gin", action="append", default=[], help='e.g. "PACK = True"')
  given = parser.parse_args()
  here = jax.default_backend() != "cpu"
  devices = jax.devices() if here else jax.devices()[:1]
  hbm = PLANNED_HBM
  if here:
    hbm = (devices[0].memory_stats() or {}).get("bytes_limit", hbm)
  rows = []
  for size in sorted(given.sizes, key=SIZES.index):
    run = run_of(size, given.gin)
    found = plan.plan(run, plan.Devices(devices=devices, hbm=hbm))
    option = found.best or found.nearest or found.given
    row = {
      "size": size,
      "changes": given.gin,
      "fits": found.best is not None,
      "choice": str(option.choice),
      "planned_bytes": option.total,
    }
    if here and found.best is not None:
      row |= measured(run, option, devices)
      jax.clear_caches()
    rows.append(row)
    print(line(row), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
  main()
