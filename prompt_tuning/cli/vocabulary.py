"""`prompt-tuning vocabulary`: a SentencePiece model for a corpus folder."""

import pathlib
from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Trains the vocabulary and prints its path."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Trains a SentencePiece model on the text of a corpus folder and puts "
    "it there: unigram, lower-casing, with a piece for every byte. T5's 100 sentinels "
    "come above the pieces when it is loaded, so NUM_EMBEDDINGS is pieces + 100, rounded "
    "up to 128.",
    epilog="a line that works as pasted:\n  prompt-tuning vocabulary runs/corpus",
  )
  parser.add_argument("corpus", type=pathlib.Path, help="a corpus folder")
  parser.add_argument("--pieces", type=int, default=3996, help="pieces (default 3996)")
  given = parser.parse_args(arguments)
  from prompt_tuning.data import vocabularies

  out = given.corpus / "sentencepiece.model"
  vocabularies.train([given.corpus / "text.txt"], out, given.pieces)
  print(out)
  return 0
