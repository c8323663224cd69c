"""How long the step of a model with more layers compiles: 24 + 24 against 8 + 8.

  python benchmarks/compiling.py

From shapes without arrays to the compiled step, in fresh processes without a cache.
"""

import argparse
from functools import partial

import results
from worker import alone, in_turns

FEW, MANY = 8, 24


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=3)
  given = parser.parse_args()
  contestants = {
    f"{n} + {n} layers": partial(alone, "compiled.py", deed=str(n)) for n in (FEW, MANY)
  }
  found = in_turns(contestants, given.rounds, warm=0)
  few, many = ([x["seconds"] for x in answers] for answers in found.values())
  ratios = results.ratios(many, few)
  results.write(
    "compiling",
    [
      results.row("compiling 24 + 24 layers over 8 + 8", ratios, "x", 2.0, "less"),
      results.row("compiling 8 + 8 layers", few, "s"),
      results.row("compiling 24 + 24 layers", many, "s"),
    ],
  )


if __name__ == "__main__":
  main()
