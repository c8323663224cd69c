"""Eight prompts in one frozen pass against eight runs of one each.

  pip install -e '.[demo]'
  python benchmarks/sweep_speed.py

The demo's model and settings, eight seeds; from the command to its end, with an evaluation
on the last step. The sentences are some of the demo's in files, for evaluating all of them
would take most of the time. Of the eight runs four are made, two before the sweep and two
after it. What the commands compile is compiled before.
"""

import argparse
import csv
import itertools
import pathlib
import statistics
import tempfile
from typing import Any

import command
import results
import worker

from prompt_tuning.data import movie_reviews

MEMBERS = 8
STEPS = 30
BINDINGS: dict[str, Any] = {
  "TRAIN_STEPS_RELATIVE": STEPS,
  "EVAL_PERIOD": STEPS,
  "SAVE_PERIOD": STEPS,
  "STATS_PERIOD": 5,
  "TEST_SPLIT": None,
  "INPUT_TEMPLATE": "{text}",
  "TARGET_COLUMN": "label",
}
ROWS = {"TRAIN_FILE": ("train", 2000), "VALIDATION_FILE": ("validation", 200)}
WARM = {"TRAIN_STEPS_RELATIVE": 3, "STATS_PERIOD": 1}
SWEEP: dict[str, Any] = {"SWEEP_SEEDS": list(range(MEMBERS)), "SWEEP_LEARNING_RATES": None}


def written(folder: pathlib.Path) -> dict[str, str]:
  """Files of sentences by macro."""
  files = {macro: folder / f"{split}.csv" for macro, (split, _) in ROWS.items()}
  for macro, (split, count) in ROWS.items():
    with files[macro].open("w", newline="") as file:
      rows = csv.writer(file)
      rows.writerow(["text", "label"])
      for text, label in movie_reviews.splits()[split][:count]:
        rows.writerow([text, movie_reviews.LABELS[label]])
  return {macro: str(path) for macro, path in files.items()}


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=1, help="sweeps")
  parser.add_argument("--runs", type=int, default=4, help="of one, per sweep; even")
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    bindings, seeds = BINDINGS | written(pathlib.Path(name)), itertools.count()

    def run(command_: str, experiment: str, more: dict[str, Any]) -> worker.Answer:
      files = [f"experiments/{experiment}.gin", "tables/table.gin"]
      folder = pathlib.Path(name) / "run"
      found = command.timed(command_, files, folder, bindings | more)
      return {"seconds": found.end, "step": found.per_step()}

    def single() -> worker.Answer:
      return run("train", "movie_reviews", {"RANDOM_SEED": next(seeds) % MEMBERS})

    def sweep() -> worker.Answer:
      return run("sweep", "movie_reviews_sweep", SWEEP)

    run("train", "movie_reviews", WARM)
    run("sweep", "movie_reviews_sweep", SWEEP | WARM)
    found: dict[str, list[worker.Answer]] = {"one run": [], "sweep": []}
    for _ in range(given.rounds):
      # Half of the runs before the sweep and half after it.
      half = given.runs // 2
      for part, times in (("one run", half), ("sweep", 1), ("one run", half)):
        deed = {part: sweep if part == "sweep" else single}
        found[part] += worker.in_turns(deed, times, warm=0)[part]
  results.write("sweep_speed", rows(found))


def rows(found: dict[str, list[worker.Answer]]) -> list[results.Row]:
  """Ratios of each sweep to eight runs like those around it, and what they are made of."""
  sweeps, singles = found["sweep"], found["one run"]
  around = len(singles) // len(sweeps)

  def ratios(what: str) -> list[float]:
    eights = [
      MEMBERS * statistics.fmean(x[what] for x in singles[i : i + around])
      for i in range(0, len(singles), around)
    ]
    return results.ratios([x[what] for x in sweeps], eights)

  return [
    results.row("a sweep of 8 over 8 runs, whole", ratios("seconds"), "x", 0.7, "less"),
    results.row("a sweep's step over 8 steps of runs", ratios("step"), "x", 0.9, "less"),
    results.row("a sweep of 8, whole", [x["seconds"] for x in sweeps], "s"),
    results.row("one run, whole", [x["seconds"] for x in singles], "s"),
    results.row("a sweep's step", [x["step"] * 1e3 for x in sweeps], "ms"),
    results.row("a run's step", [x["step"] * 1e3 for x in singles], "ms"),
  ]


if __name__ == "__main__":
  main()
