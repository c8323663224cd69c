"""Seconds from the command to the first training step of the demo, compiled before.

pip install -e '.[demo]'
python benchmarks/start.py
"""

import argparse
import pathlib
import tempfile
from typing import Any

import command
import results
import worker

EXPERIMENT = ["experiments/movie_reviews.gin"]
BINDINGS: dict[str, Any] = {"STATS_PERIOD": 1, "TRAIN_STEPS_RELATIVE": 300}


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=3)
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:

    def start() -> worker.Answer:
      folder = pathlib.Path(name) / "run"
      rows = command.timed("train", EXPERIMENT, folder, BINDINGS, until=1).rows
      return {"seconds": min(rows.values())}

    found = worker.in_turns({"train": start}, given.rounds)["train"]
  seconds = [x["seconds"] for x in found]
  what = "from the command to the demo's first step"
  results.write("start", [results.row(what, seconds, "s", 15.0, "less")])


if __name__ == "__main__":
  main()
