"""Training examples per second on texts of real lengths, ours and peft's in turns.

  T5_VOCABULARY=/data/t5.model python benchmarks/training_speed.py

Every step takes the next examples of the same stream; laying out the batch is included.
"""

import argparse
import pathlib
import statistics
import sys
from functools import partial

import mixture
import results
from worker import REPO, Answer, Worker, in_turns

OURS = ("padded 100", "padded 20", "packed 100", "packed 20", "blind 100")
PEFT = ("peft 100", "peft 20")
BARS = (
  ("packed 100", "padded 100", 3.0),
  ("packed 20", "padded 20", 4.5),
  ("blind 100", "padded 100", 5.0),
  ("packed 100", "peft 100", 1.5),
  ("packed 20", "peft 20", 1.8),
  ("blind 100", "peft 100", 2.5),
)


def tokens(vocabulary: str) -> list[results.Row]:
  """Encoder places of an example with a prompt of 100 and no padding, on average."""
  parts = mixture.examples(vocabulary)
  return [
    results.row(
      f"{name}: tokens and prompt of 100, on average",
      [100 + statistics.fmean(len(example.inputs) for example in part)],
      "places",
    )
    for name, part in parts.items()
  ]


def rows(found: dict[str, list[Answer]]) -> list[results.Row]:
  """Rates, places per example, ratios, and the share of waiting."""
  rates = {
    name: [one["examples"] / one["seconds"] for one in answers]
    for name, answers in found.items()
  }
  places = {
    name: [one["places"] / one["examples"] for one in answers]
    for name, answers in found.items()
  }
  waiting = [one["waiting"] / one["seconds"] for one in found["packed 100"]]
  return [
    *(
      results.row(f"training, {a} over {b}", results.ratios(rates[a], rates[b]), "x", bar)
      for a, b, bar in BARS
    ),
    *(results.row(f"training, {name}", each, "examples/s") for name, each in rates.items()),
    *(
      results.row(f"{name}: encoder places per example", each, "places")
      for name, each in places.items()
    ),
    results.row("waiting for packed batches, share of a step", waiting, "of 1"),
  ]


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--vocabulary", default=mixture.VOCABULARY)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--cache", type=pathlib.Path, default=REPO / ".cache" / "jax")
  given = parser.parse_args()
  if not given.vocabulary:
    print(
      "no T5 vocabulary (--vocabulary or T5_VOCABULARY), so the embedded one, of fewer "
      "pieces, is taken: lengths are not T5's",
      file=sys.stderr,
    )
  shared = [f"--vocabulary={given.vocabulary}"]
  with (
    Worker("ours.py", *shared, f"--cache={given.cache}", *OURS) as ours,
    Worker("peer.py", *shared, *PEFT) as peer,
  ):
    contestants = {name: partial(ours.ask, name) for name in OURS}
    contestants |= {name: partial(peer.ask, name) for name in PEFT}
    found = in_turns(contestants, given.rounds)
  results.write("training_speed", rows(found) + tokens(given.vocabulary))


if __name__ == "__main__":
  main()
