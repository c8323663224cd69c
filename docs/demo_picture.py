"""Draws docs/demo.svg from a finished demo run, and keeps its numbers beside it.

make demo && .venv/bin/pip install -c constraints.txt '.[docs]'
.venv/bin/python docs/demo_picture.py runs/demo
"""

import json
import pathlib
import platform
import sys

import jax
import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from prompt_tuning import metrics_log, summary

HERE = pathlib.Path(__file__).parent


def results(run: pathlib.Path) -> dict:
  """The numbers of a run that the picture shows."""
  rows = metrics_log.read(run / "metrics.jsonl")
  found = json.loads((run / "summary.json").read_text())
  (task,) = found["tasks"]
  name = f"eval/{task}/accuracy"
  compared = {k: v for k, v in found["tasks"][task].items() if k != "samples"}
  first = found["first_step"]
  return {
    "task": task,
    "validation": [[row["step"] - first, row[name]] for row in rows if name in row],
    "split": found["split"],
    "best_step": found["best_step"] - first,
    **compared,
    "jax": jax.__version__,
    "machine": f"{platform.machine()}, {jax.device_count()} CPU device",
  }


def draw(numbers: dict, path: pathlib.Path) -> None:
  """Validation accuracy by step, and the test split's comparison."""
  figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.5, 3.2))
  steps, accuracy = zip(*numbers["validation"], strict=True)
  left.plot(steps, accuracy, "o-", color="#3465a4")
  left.set(xlabel="step", ylabel="accuracy, %", title="validation split")
  left.set_ylim(50, 80)
  bars = [
    ("majority\nclass", numbers["majority"]["accuracy"], "#babdb6"),
    ("untuned\nmodel", numbers["untuned"]["accuracy"], "#888a85"),
    ("with the\nprompt", numbers["prompt"]["accuracy"], "#3465a4"),
  ]
  for i, (_, value, color) in enumerate(bars):
    low, high = summary.binomial_interval(value, numbers["examples"])
    right.bar(i, value, color=color, yerr=[[value - low], [high - value]], capsize=4)
    right.text(i, high + 1, f"{value:.1f}", ha="center")
  right.set_xticks(range(len(bars)), [label for label, _, _ in bars])
  right.set(ylim=(0, 100), title=f"{numbers['split']} split, 95 % interval")
  for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
  figure.tight_layout()
  figure.savefig(path, metadata={"Date": None})


def main() -> None:
  """Writes demo.json and demo.svg."""
  numbers = results(pathlib.Path(sys.argv[1]))
  (HERE / "demo.json").write_text(json.dumps(numbers, indent=2) + "\n")
  draw(numbers, HERE / "demo.svg")


if __name__ == "__main__":
  main()
