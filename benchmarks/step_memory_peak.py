"""The largest resident size of a whole process that trains, ours and peft's in turns.

  python benchmarks/step_memory_peak.py

Fresh processes; the step is that of `step_speed`. Ours compiles it in them, and once more
finds it compiled.
"""

import argparse
import tempfile
from functools import partial

import results
from worker import Answer, Worker, in_turns

STEPS = 3


def trained(script: str, *arguments: str) -> Answer:
  """Memory and the last step's seconds of a process that made a few steps."""
  with Worker(script, *arguments, "equal") as worker:
    last = [worker.ask("equal") for _ in range(STEPS)][-1]
    return last | worker.ask("memory")


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=3)
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as cache:
    contestants = {
      "ours": partial(trained, "ours.py"),
      "peft": partial(trained, "peer.py"),
      "ours, compiled before": partial(trained, "ours.py", f"--cache={cache}"),
    }
    contestants["ours, compiled before"]()
    found = in_turns(contestants, given.rounds, warm=0)
  bytes_ = {name: [x["bytes"] for x in answers] for name, answers in found.items()}
  ratios = results.ratios(bytes_["ours"], bytes_["peft"])
  results.write(
    "step_memory_peak",
    [
      results.row(
        "memory of a process that trains, ours over peft's", ratios, "x", 0.85, "less"
      ),
      *(
        results.row(f"memory, {name}", [x / 2**20 for x in each], "MiB")
        for name, each in bytes_.items()
      ),
    ],
  )


if __name__ == "__main__":
  main()
