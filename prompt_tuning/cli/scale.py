"""`prompt-tuning scale`: prompt tuning against model tuning, by size of the model."""

import pathlib
from collections.abc import Sequence

from prompt_tuning import checks
from prompt_tuning.cli import flags, runs


def main(command: str, arguments: Sequence[str]) -> int:
  """Runs the comparison and prints its table."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Trains a prompt and the whole model on the demo's task, for models of "
    "several sizes and several seeds; writes a table and a picture. What is finished is "
    "not repeated.",
    epilog="Needs pip install 'prompt-tuning[demo,docs]'; a line that works as pasted:\n  "
    "prompt-tuning scale runs/scale --rung 6m=package://assets/t5_1_1_reviews",
  )
  add = parser.add_argument
  add("out", type=pathlib.Path, help="folder to write")
  add(
    "--rung",
    action="append",
    required=True,
    metavar="[NAME:]SIZE=CHECKPOINT",
    help="a size of the reviews family and its weights; repeatable, from small to large",
  )
  add("--seeds", type=int, default=3, help="runs of each kind (default 3)")
  flags.add_bindings(parser)
  given = flags.parsed(parser, arguments)
  checks.number("--seeds", given.seeds, 1, "give a number of runs")
  runs.quiet()
  from prompt_tuning import scale

  rungs = [scale.Rung(*_parts(text)) for text in given.rung]
  print(scale.table(scale.scale(given.out, rungs, given.seeds, given.gin_bindings)))
  return 0


def _parts(text: str) -> tuple[str, str, str]:
  """(name, size, checkpoint) of "[NAME:]SIZE=CHECKPOINT"."""
  head, found, checkpoint = text.partition("=")
  name, _, size = head.rpartition(":")
  if not found or not size or not checkpoint:
    raise checks.InputError(
      f"--rung is {text!r}, expected [NAME:]SIZE=CHECKPOINT; e.g. --rung 3m=runs/3m"
    )
  return name or size, size, checkpoint
