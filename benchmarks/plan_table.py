r"""What T5 1.1 XXL and mT5-XXL need on 1, 8, 32 and 256 devices: docs/plan.md.

  pip install -e '.[tpu]'      # for the TPU compiler; without it activations are estimated
  python benchmarks/plan_table.py --out docs/plan.json

Batches of 32 (of 256 on 256 devices), inputs of 512 and targets of 16, prompts of 100, as
in the paper; activations in bfloat16.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import pathlib

from prompt_tuning import config, plan, plan_devices, plan_report
from prompt_tuning.cli.plan import OTHERWISE

MODELS = {"T5 1.1 XXL": "t5_1_1_xxl", "mT5-XXL": "mt5_xxl"}
DEVICES = {1: "v5e:1x1", 8: "v5e:2x4", 32: "v5e:4x8", 256: "v5e:16x16"}
MEMORIES = {"v5e": "16GiB", "v4": "32GiB", "H100": "80GB", "v5p": "95GiB"}


def row(model: str, count: int, memory: str, compiler: bool) -> dict:
  """The plan of one model on devices of one kind."""
  files = [f"models/{MODELS[model]}_prompt.gin", "runs/prompt_finetune.gin"]
  batch = [f"BATCH_SIZE = {max(32, count)}"]
  run, _ = config.load("train.train", files, batch, (), OTHERWISE)
  if compiler:
    devices, name = plan_devices.tpus(DEVICES[count]), f"TPU, {DEVICES[count]}"
  else:
    devices, name = plan_devices.virtual(max(DEVICES))[:count], None
  hbm = plan_devices.size("--hbm", MEMORIES[memory])
  target = plan.Devices(devices=devices, hbm=hbm, compiler=name)
  found = plan_report.record(run, target, plan.plan(run, target))
  return {"model": model, "memory": memory, **found}


def cell(found: dict) -> str:
  """What to set, and what it takes; or what is missing."""
  best = found["recommended"]
  if best is None:
    lacking = found["nearest"]["bytes"]["total"] - found["budget"]
    return f"lacks {plan.gib(lacking)}"
  words = [best["weight_dtype"], "FSDP" if best["parameter_dims"] == 2 else ""]
  if best["num_partitions"] > 1:
    words.append(f"{best['num_partitions']} partitions")
  words.append("" if best["remat"] == "none" else f"remat {best['remat']}")
  if best["num_microbatches"] > 1:
    words.append(f"{best['num_microbatches']} microbatches")
  return f"{', '.join(filter(None, words))}: {plan.gib(best['bytes']['total'])}"


def table(rows: list[dict]) -> str:
  """The rows as Markdown, devices down and memories across."""
  lines = [
    f"| model, devices | {' | '.join(f'{k} {v}' for k, v in MEMORIES.items())} |",
    f"|---|{'---|' * len(MEMORIES)}",
  ]
  for model in MODELS:
    for count in DEVICES:
      cells = [
        cell(x)
        for memory in MEMORIES
        for x in rows
        if (x["model"], x["devices"], x["memory"]) == (model, count, memory)
      ]
      lines.append(f"| {model}, {count} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  """Plans all and writes them."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--estimate", action="store_true", help="ask no compiler")
  given = parser.parse_args()
  compiler = importlib.util.find_spec("libtpu") is not None and not given.estimate
  plan_devices.virtual(1 if compiler else max(DEVICES))
  rows = [
    row(model, count, memory, compiler)
    for model in MODELS
    for count in DEVICES
    for memory in MEMORIES
  ]
  by = f"libtpu {importlib.metadata.version('libtpu')}" if compiler else "estimate"
  found = {"jax": importlib.metadata.version("jax"), "activations_by": by, "plans": rows}
  given.out.write_text(json.dumps(found, indent=1) + "\n")
  print(table(rows))


if __name__ == "__main__":
  main()
