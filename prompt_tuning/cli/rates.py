"""`prompt-tuning rates`: which learning rate suits a run."""

import pathlib
from collections.abc import Sequence

from prompt_tuning import checks, config
from prompt_tuning.cli import compiled, flags, runs


def main(command: str, arguments: Sequence[str]) -> int:
  """Runs the test and prints what it says."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Trains for a few steps while the learning rate grows, and says which to "
    "use; writes every loss and a picture. Nothing that is learned is kept.",
    epilog="Needs pip install 'prompt-tuning[demo,docs]'; a line that works as pasted:\n  "
    "prompt-tuning rates runs/rates --gin_file=experiments/movie_reviews.gin",
  )
  add = parser.add_argument
  add("out", type=pathlib.Path, help="folder to write")
  flags.add_gin(parser)
  add("--steps", type=int, default=60, help="of the test (default 60)")
  add("--low", type=float, default=1e-4, help="rate of the first step (default 1e-4)")
  add("--high", type=float, default=10.0, help="rate of the last step (default 10)")
  given = flags.parsed(parser, arguments)
  if not given.gin_file:
    raise checks.InputError(
      "no --gin_file is given, expected at least one; "
      f"`prompt-tuning {command} --help` shows a line that works"
    )
  runs.quiet()
  from prompt_tuning import rates

  ramp = rates.Ramp(given.low, given.high, given.steps)
  bindings = [*given.gin_bindings, f"MODEL_DIR = {str(given.out)!r}"]
  paths = runs.paths(given.gin_search_paths)
  settings, text = config.load("train.train", given.gin_file, bindings, paths)
  if given.dry_run:
    print(runs.description(settings, text))
    return 0
  compiled.keep()
  print(rates.report(rates.range_test(settings, given.out, ramp)))
  return 0
