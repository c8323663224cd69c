"""A step on equal shapes, ours and peft's in turns, and the share of the machine's peak.

  python benchmarks/step_speed.py

T5 1.1 small in float32, a prompt of 100, 8 examples of 128 tokens and targets of 16, all
real. The peak, that of a matrix product, is measured in the same turns.
"""

import argparse
import pathlib
from functools import partial

import results
from worker import REPO, Worker, alone, in_turns

# What the original's step computes, as the compiler counts it.
ORIGINAL = 235.7e9
GATHERED = 197.7e9  # with embeddings looked up instead of multiplied by one-hot rows


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=11)
  parser.add_argument("--cache", type=pathlib.Path, default=REPO / ".cache" / "jax")
  given = parser.parse_args()
  flops = alone("compiled.py", deed="operations")["flops"]
  with (
    Worker("ours.py", f"--cache={given.cache}", "equal") as ours,
    Worker("peer.py", "equal") as peer,
  ):
    contestants = {
      "ours": partial(ours.ask, "equal"),
      "peak": partial(ours.ask, "peak"),
      "peft": partial(peer.ask, "equal"),
    }
    found = in_turns(contestants, given.rounds)
  seconds = {name: [x["seconds"] for x in found[name]] for name in ("ours", "peft")}
  peak = [x["flops_per_second"] for x in found["peak"]]
  reached = [GATHERED / a / b for a, b in zip(seconds["ours"], peak, strict=True)]
  results.write(
    "step_speed",
    [
      results.row(
        "a step on equal shapes, ours over peft's",
        results.ratios(seconds["ours"], seconds["peft"]),
        "x",
        1.0,
        "less",
      ),
      results.row("a step's share of the matrix product's peak", reached, "of 1", 0.85),
      results.row(
        "a step's operations over the original's", [flops / ORIGINAL], "x", 0.84, "less"
      ),
      *(results.row(f"a step, {name}", each, "s") for name, each in seconds.items()),
      results.row("matrix product's peak", [x / 1e9 for x in peak], "GFLOP/s"),
      results.row("a step's operations", [flops / 1e9], "GFLOP"),
    ],
  )


if __name__ == "__main__":
  main()
