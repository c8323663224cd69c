"""Records of GLUE, as TFDS `glue` has them in both of its versions."""

from collections.abc import Iterable
from typing import Any

from tfds_records import Records


def rows(fields: str, *values: tuple) -> list[dict[str, Any]]:
  names = (*fields.split(), "label")
  return [dict(zip(names, row, strict=True), idx=i) for i, row in enumerate(values)]


def split(fields: str, train: Iterable, validation: Iterable, test: Iterable) -> Records:
  parts = {"train": train, "validation": validation, "test": test}
  return {name: rows(fields, *values) for name, values in parts.items()}


_MNLI = {
  "train": [
    ("Someone is asleep.", "The baby fell asleep at once.", 0),
    ("The shop is shut.", "The shop sells tea.", 1),
    ("Nobody came.", "Forty guests came.", 2),
  ],
  "matched": [("He owns a car.", "He parked his car outside.", 0)],
  "mismatched": [("It never rains.", "It rained all week.", 2)],
  "test": [("The train is late.", "We still wait for the train.", -1)],
}
_NLI = "hypothesis premise"
_PAIR = "sentence1 sentence2"

GLUE: dict[str, Records] = {
  "cola": split(
    "sentence",
    [
      ("The boats sailed past the lighthouse.", 1),
      ("Sailed the boats lighthouse past.", 0),
    ],
    [("Mary wondered which picture he liked.", 1)],
    [("The gardener water the roses.", -1)],
  ),
  "sst2": split(
    "sentence",
    [("tedious from start to finish", 0), ("a joy to watch", 1)],
    [("it 's charming", 1)],
    [("uneasy mishmash", -1)],
  ),
  "mrpc": split(
    _PAIR,
    [
      ("Profit rose 4 percent .", "Profit was up 4 percent .", 1),
      ("Two airports closed on Friday .", "Two were hurt on Friday .", 0),
    ],
    [("He resigned on Monday .", "On Monday , he stepped down .", 1)],
    [("Shares fell .", "Shares of the bank fell .", -1)],
  ),
  "qqp": split(
    "question1 question2",
    [
      ("How do I swim?", "How can I learn to swim?", 1),
      ("Why is the sky blue?", "Why is the sea salty?", 0),
    ],
    [("How old is the Earth?", "What is the age of the Earth?", 1)],
    [("What is tea?", "What is coffee?", -1)],
  ),
  "stsb": split(
    _PAIR,
    [
      ("A man plays a guitar.", "A man plays a flute.", 2.5),
      ("A dog runs on grass.", "A dog runs in a field.", 3.14),
    ],
    [("A child eats.", "A child is eating.", 5.0)],
    [("Birds fly.", "Fish swim.", -1.0)],
  ),
  "mnli": {
    "train": rows(_NLI, *_MNLI["train"]),
    "validation_matched": rows(_NLI, *_MNLI["matched"]),
    "validation_mismatched": rows(_NLI, *_MNLI["mismatched"]),
    "test_matched": rows(_NLI, *_MNLI["test"]),
    "test_mismatched": rows(_NLI, *_MNLI["test"]),
  },
  **{
    f"mnli_{kind}": {
      "validation": rows(_NLI, *_MNLI[kind]),
      "test": rows(_NLI, *_MNLI["test"]),
    }
    for kind in ("matched", "mismatched")
  },
  "qnli": split(
    "question sentence",
    [
      ("Who wrote the letter?", "The letter is by Ada.", 0),
      ("When did he die?", "He was born in Leeds.", 1),
    ],
    [("Where is the bridge?", "The bridge is in Porto.", 0)],
    [("What is it made of?", "It is made of oak.", -1)],
  ),
  "rte": split(
    _PAIR,
    [
      ("The firm of Oslo sells boats.", "The firm is in Oslo.", 0),
      ("The firm sells boats.", "The firm is rich.", 1),
    ],
    [("Ann met Bo in Rome.", "Bo was in Rome.", 0)],
    [("The court agreed.", "The court met.", -1)],
  ),
  "wnli": split(
    _PAIR,
    [
      ("The cup fell as it was full.", "The cup was full.", 1),
      ("The cup fell off as it was round.", "The shelf was round.", 0),
    ],
    [("Jo thanked Kim as she had helped.", "Kim had helped.", 1)],
    [("Jo thanked Kim as she was glad.", "Jo was glad.", -1)],
  ),
  "ax": {
    "test": rows(_NLI, ("The cat did not sit on the mat.", "The cat sat on the mat.", -1))
  },
}
