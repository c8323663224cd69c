"""`prompt-tuning mrqa`: a file of the MRQA shared task as a table of questions."""

import pathlib
from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Writes the table and prints how many questions it has."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Turns a .jsonl or .jsonl.gz file of the MRQA 2019 shared task into a .tsv "
    "with a row for every question: id, context, question, answer, answers. "
    "experiments/own_data.gin reads it with "
    "INPUT_TEMPLATE = 'question: {question} context: {context}', TARGET_COLUMN = 'answer', "
    "ANSWERS_COLUMN = 'answers' and METRICS = ['squad'].",
    epilog="a line that works as pasted, where there is such a file:\n"
    "  prompt-tuning mrqa BioASQ.jsonl.gz BioASQ.tsv",
  )
  parser.add_argument("source", type=pathlib.Path, help="file of MRQA")
  parser.add_argument("target", type=pathlib.Path, help=".tsv file to write")
  given = parser.parse_args(arguments)
  from prompt_tuning.data import mrqa_files

  count = mrqa_files.convert(given.source, given.target)
  print(f"{count:,} questions in {given.target}")
  return 0
