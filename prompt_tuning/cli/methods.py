"""`prompt-tuning methods`: every method on the demo's task, side by side."""

import pathlib
from collections.abc import Sequence

from prompt_tuning import checks
from prompt_tuning.cli import compiled, flags, runs


def main(command: str, arguments: Sequence[str]) -> int:
  """Runs the contest and prints its table."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Trains every method on the demo's task for the same number of steps with "
    "several seeds, model tuning too; writes a table and a picture of accuracy, "
    "parameters, bytes and speed. What is finished is not repeated.",
    epilog="Needs pip install 'prompt-tuning[demo,docs]'; a line that works as pasted:\n  "
    "prompt-tuning methods runs/methods --only prompt --only ia3 --seeds 1",
  )
  add = parser.add_argument
  add("out", type=pathlib.Path, help="folder to write")
  add("--only", action="append", metavar="NAME", help="a method; repeatable; default all")
  add("--seeds", type=int, default=3, help="runs of each (default 3)")
  flags.add_bindings(parser)
  given = flags.parsed(parser, arguments)
  checks.number("--seeds", given.seeds, 1, "give a number of runs")
  runs.quiet()
  from prompt_tuning import contest

  known = list(contest.contestants())
  for name in given.only or ():
    checks.choice("method in --only", name, known)
  compiled.keep()
  rows = contest.contest(given.out, given.only or known, given.seeds, given.gin_bindings)
  print(contest.table(rows))
  return 0
