"""SmolLM2 on movie reviews: an instruction, and prompts of 10 and 50 tokens by seed.

python benchmarks/real_model.py OUT [LENGTH ...]     # docs/real_model.json, and the table

Every run is a process of its own, and what is finished is not repeated.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

from prompt_tuning.analysis import spreads

DOCS = pathlib.Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- real -->\n", "<!-- /real -->"
SEEDS = (0, 1, 2)
EXPERIMENT = "--gin_file=experiments/movie_reviews_smollm2"
TASK = "movie_reviews_sentiment_continued"
RULE = "majority vote"  # the paper's


def run(*arguments: str) -> dict[str, float]:
  """Seconds, those of all processor cores, and the most memory in MiB of a command."""
  print("$ prompt-tuning", *arguments, file=sys.stderr)
  began = time.monotonic()
  process = subprocess.Popen([sys.executable, "-m", "prompt_tuning", *arguments])
  _, status, used = os.wait4(process.pid, 0)
  if status:
    sys.exit("the command has failed")
  return {
    "seconds": time.monotonic() - began,
    "cpu_seconds": used.ru_utime + used.ru_stime,
    "memory": used.ru_maxrss / 1024,
  }


def instruction(out: pathlib.Path) -> float:
  """Accuracy of the hand-written instruction on the test split, in percent."""
  if not (out / "results.json").exists():
    run("eval", f"{EXPERIMENT}_instruction.gin", f"--gin.EVAL_OUTPUT_DIR='{out}'")
  (card,) = json.loads((out / "results.json").read_text())["prompts"]
  return card["tasks"][TASK]["accuracy"]


def tuned(out: pathlib.Path, length: int, seed: int) -> dict[str, Any]:
  """A run's accuracies on the test split, its seconds and memory."""
  place = out / "measured.json"
  if not place.exists():
    cost = run(
      "train",
      f"{EXPERIMENT}.gin",
      f"--gin.MODEL_DIR='{out}'",
      f"--gin.PROMPT_LENGTH={length}",
      f"--gin.RANDOM_SEED={seed}",
    )
    place.write_text(json.dumps(cost))
  found = json.loads((out / "summary.json").read_text())["tasks"][TASK]
  scores = {name: found[name]["accuracy"] for name in ("majority", "untuned", "prompt")}
  return {"length": length, "seed": seed, **scores, **json.loads(place.read_text())}


def together(out: pathlib.Path, length: int) -> float:
  """Accuracy of the prompts of all seeds as one ensemble, in percent."""
  folder = out / f"{length}_ensemble"
  if not (folder / "results.json").exists():
    prompts = [str(out / f"{length}_{seed}") for seed in SEEDS]
    run(
      "ensemble",
      f"{EXPERIMENT}_ensemble.gin",
      f"--gin.PROMPT_FILES={prompts}",
      f"--gin.EVAL_OUTPUT_DIR='{folder}'",
    )
  found = json.loads((folder / "results.json").read_text())
  return found["rules"][RULE][TASK]["accuracy"]


def table(results: dict[str, Any]) -> str:
  """The results as a Markdown table."""
  rows, lines = (
    results["runs"],
    ["| | accuracy, % | processor minutes | memory |", "|---|---|---|---|"],
  )
  first = rows[0]
  for name in ("majority", "untuned"):
    lines.append(f"| {name} | {first[name]:.1f} | | |")
  lines.append(f"| hand-written instruction | {results['instruction']:.1f} | | |")
  for length in sorted({row["length"] for row in rows}):
    own = [row for row in rows if row["length"] == length]
    shown = spreads.text(spreads.spread([row["prompt"] for row in own]))
    minutes = statistics.median(row["cpu_seconds"] for row in own) / 60
    memory = max(row["memory"] for row in own) / 1024
    lines.append(
      f"| prompt of {length} tokens, {len(own)} seed{'s' * (len(own) > 1)} | {shown} | "
      f"{minutes:.0f} | {memory:.1f} GiB |"
    )
    score = results["ensembles"][str(length)]
    lines.append(f"| the {len(own)} together, an ensemble | {score:.1f} | | |")
  return "\n".join(lines) + "\n"


def main() -> None:
  """Runs what is missing, writes results and table."""
  out, *lengths = sys.argv[1:]
  folder = pathlib.Path(out)
  asked = [(n, seed) for seed in SEEDS for n in map(int, lengths or ("10", "50"))]
  runs = [tuned(folder / f"{n}_{seed}", n, seed) for n, seed in asked]
  results = {
    "instruction": instruction(folder / "instruction"),
    "runs": runs,
    "ensembles": {str(n): together(folder, n) for n in sorted({n for n, _ in asked})},
  }
  (DOCS / "real_model.json").write_text(json.dumps(results, indent=2) + "\n")
  page = DOCS / "decoder_only.md"
  head, _, rest = page.read_text().partition(BEGIN)
  tail = rest.partition(END)[2]
  page.write_text(f"{head}{BEGIN}{table(results)}{END}{tail}")


if __name__ == "__main__":
  main()
