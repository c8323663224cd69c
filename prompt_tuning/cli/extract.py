"""`prompt-tuning extract`: one variable of a checkpoint as .npy."""

from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Writes the variable and prints its path and shape."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Writes one variable of a model checkpoint as a numpy file, e.g. the "
    "embedding table for EMBEDDING_FILE. bfloat16 becomes float32.",
    epilog="a line that works as pasted:\n  prompt-tuning extract "
    "package://assets/t5_1_1_reviews token_embedder/embedding runs/table.npy",
  )
  parser.add_argument("path", help="checkpoint of any format")
  parser.add_argument("variable", help="its T5X path, with or without target/ in front")
  parser.add_argument("out", help="a new .npy file")
  given = parser.parse_args(arguments)
  from prompt_tuning import inspection

  shape = inspection.extract(given.path, given.variable, given.out)
  print(f"{given.out} {list(shape)}")
  return 0
