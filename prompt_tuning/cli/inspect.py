"""`prompt-tuning inspect`: what a checkpoint holds, or how two of them differ."""

from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Prints a description or the differences; 1 where there is any."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Shows format, step, parameters and fingerprint of a checkpoint or "
    "prompt; with --diff, every name that only one of two has (- the first, + the second) "
    "and the largest difference of every other (~). Exit status 1 if they differ at all.",
    epilog="a line that works as pasted:\n  prompt-tuning inspect "
    "package://assets/t5_1_1_reviews",
  )
  parser.add_argument("path", help="checkpoint or prompt of any format")
  parser.add_argument("--diff", metavar="OTHER", help="another one to compare with")
  given = parser.parse_args(arguments)
  from prompt_tuning import inspection

  if given.diff is None:
    print(inspection.inspect(given.path))
    return 0
  lines = inspection.diff(given.path, given.diff)
  print("\n".join(lines) if lines else "equal")
  return 1 if lines else 0
