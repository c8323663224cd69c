"""`prompt-tuning spot`: which prompts are alike, and which should start a new one."""

from collections.abc import Sequence

from prompt_tuning import checks
from prompt_tuning.cli import flags, runs


def main(command: str, arguments: Sequence[str]) -> int:
  """Prints the similarities, or a target's ranked sources and how to start from them."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Compares trained prompts of one model: prompts of similar tasks are "
    "similar (SPoT, Vu et al. 2022). With --target, ranks them as starts for a new task "
    "and shows the flags of a run that starts from the best, or from the average of the "
    "best.",
    epilog="a line that works as pasted:\n"
    "  prompt-tuning spot runs/movies runs/boolq runs/own_data --out runs/spot\n"
    "and with a short run of the new task:\n"
    "  prompt-tuning spot runs/movies runs/boolq --target runs/own_data",
  )
  add = parser.add_argument
  add("source", nargs="+", help="prompt of any format: a MODEL_DIR, a file, an adapter")
  add("--target", metavar="PROMPT", help="prompt of the new task, trained for some steps")
  add("--top", type=int, metavar="K", help="sources to average (default 3)")
  add(
    "--measure",
    default="average",
    metavar="average|tokens",
    help="cosine of the average tokens (default), or of every pair of tokens, averaged",
  )
  add(
    "--step",
    type=int,
    metavar="N",
    help="compare prompts as they were at step N of their MODEL_DIR (default: the best)",
  )
  add("--out", metavar="FOLDER", help="where similarity.json and similarity.svg go")
  given = parser.parse_args(arguments)
  if given.top is not None:
    checks.whole("--top", given.top, 1, "give a number of sources")
  runs.quiet()
  from prompt_tuning import transfer

  result = transfer.transfer(
    given.source, given.target, given.top, given.measure, given.step
  )
  if given.out is not None:
    transfer.write(result, given.out)
  print(transfer.report(result))
  return 0
