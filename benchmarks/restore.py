"""Memory and time of restoring a checkpoint onto 8 virtual CPU devices.

  python benchmarks/restore.py /tmp/restore > docs/restore.json

Writes T5 1.1 base with random weights (0.99 GB) once, as T5X and as Hugging Face, and
restores it in fresh processes, alternating: every array split over the devices along its
longest axis that divides by 8. Peak is the growth of the process's largest resident size
over the restore, as a multiple of the bytes that the devices then hold.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

DEVICES = 8
CASES = (("t5x", "float32"), ("t5x", "bfloat16"), ("hf", "float32"), ("hf", "bfloat16"))


def write(folder: pathlib.Path) -> None:
  """The two checkpoints, unless they are there."""
  import dataclasses

  import jax
  import numpy as np
  from etils import epath

  from prompt_tuning import trees
  from prompt_tuning.checkpoints import huggingface, t5x
  from prompt_tuning.checkpoints.leaves import Inline
  from prompt_tuning.models.config import T5Config
  from prompt_tuning.models.t5 import T5

  config = T5Config.of_size("t5_1_1", "base")
  params = trees.values(T5.random(config, jax.random.key(0)))
  if not (folder / "t5x").exists():
    t5x.save(epath.Path(folder / "t5x"), params, 0)
  if not (folder / "hf").exists():
    leaves = {name: Inline(np.asarray(value)) for name, value in params.items()}
    huggingface.save(epath.Path(folder / "hf"), leaves, dataclasses.asdict(config))


def measure(path: str, dtype: str) -> dict[str, float]:
  """Restores once in this process."""
  import jax

  jax.config.update("jax_num_cpu_devices", DEVICES)
  from jax.sharding import NamedSharding, PartitionSpec

  from prompt_tuning import formats
  from prompt_tuning.checkpoints.restore import restore

  mesh = jax.make_mesh((DEVICES,), ("model",))
  checkpoint = formats.load(path)
  shapes = checkpoint.shapes

  def sharding(name: str) -> NamedSharding:
    sizes = [n if n % DEVICES == 0 else 0 for n in shapes[name]]
    axis = max(range(len(sizes)), key=sizes.__getitem__)
    spec = [None] * axis + ["model" if sizes[axis] else None]
    return NamedSharding(mesh, PartitionSpec(*spec))

  jax.block_until_ready(jax.device_put(0.0))
  before, began = resident("VmRSS"), time.monotonic()
  restored = restore(checkpoint, shapes, dtype=dtype, sharding=sharding)
  seconds = time.monotonic() - began
  held = sum(s.data.nbytes for x in restored.values() for s in x.addressable_shards)
  largest = max(x.nbytes for x in restored.values())
  grown = resident("VmHWM") - before
  return {
    "seconds": seconds,
    "held_bytes": held,
    "largest_array_bytes": largest,
    "peak_bytes": grown,
    "peak_ratio": grown / held,
    "peak_ratio_without_one_array": (grown - largest) / held,
  }


def resident(field: str) -> int:
  """Resident bytes of this process, now (VmRSS) or at most (VmHWM)."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(f"{field}:"):
      return int(line.split()[1]) * 1024
  raise RuntimeError(f"{field} is not in /proc/self/status")


def main() -> None:
  """Runs every case several times and prints medians and ranges as JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("folder", type=pathlib.Path, help="where the checkpoints go")
  parser.add_argument("--runs", type=int, default=5)
  parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
  given = parser.parse_args()
  if given.one:
    print(json.dumps(measure(*given.one)))
    return
  write(given.folder)
  rows: dict[str, list[dict[str, float]]] = {}
  for number in range(given.runs):
    for kind, dtype in CASES:
      one = ["--one", str(given.folder / kind), dtype]
      command = [sys.executable, __file__, str(given.folder), *one]
      found = subprocess.run(command, capture_output=True, text=True, check=True)
      rows.setdefault(f"{kind} to {dtype}", []).append(json.loads(found.stdout))
      print(f"run {number + 1}/{given.runs} {kind} {dtype}", file=sys.stderr)
  print(
    json.dumps(
      {"machine": machine(), "cases": {k: spread(v) for k, v in rows.items()}}, indent=2
    )
  )


def spread(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
  """Median, least and most of every number."""
  return {
    name: {
      "median": statistics.median(row[name] for row in rows),
      "least": min(row[name] for row in rows),
      "most": max(row[name] for row in rows),
    }
    for name in rows[0]
  }


def machine() -> dict[str, str]:
  """Processor and versions."""
  import jax

  names = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  model = next(
    line.split(":")[1].strip() for line in names if line.startswith("model name")
  )
  return {
    "processor": f"{model}, {platform.machine()}",
    "python": platform.python_version(),
    "jax": jax.__version__,
  }


if __name__ == "__main__":
  main()
