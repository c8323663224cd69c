"""Answers in the form in which the leaderboards of GLUE and SuperGLUE take them.

BoolQ.jsonl     {"idx": 0, "label": "true"}
MultiRC.jsonl   {"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [...]}]}}
MNLI-m.tsv      index <tab> prediction
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data import (
  coreference,
  glue_benchmark,
  label_words,
  postprocessors,
  super_glue_benchmark,
)

Example = Mapping[str, Any]
Answer = Callable[[str, Example], Any]  # an answer's text and its example -> what is sent
_FIVE = 5.0  # STS-B goes from 0 to 5


@dataclasses.dataclass(frozen=True)
class Submission:
  """A file of answers.

  Attributes:
    name: Of the file.
    content: Of the file.
    unreadable: Answers that were none of the label words; the first word stands for them.
  """

  name: str
  content: str
  unreadable: int


def of(
  task: str, dataset: str, examples: Sequence[Example], texts: Sequence[str]
) -> Submission | None:
  """The answers to a task, or None where no leaderboard asks for them.

  Args:
    task: Its name, which may have label words of its own.
    dataset: Of TFDS, "super_glue/boolq:1.0.2".
    examples: With the numbers of the records; a task that has not kept them has no file.
    texts: An answer for each.
  """
  config = dataset.partition(":")[0]
  file = _file(config, label_words.of(task))
  if file is None or not all(_has_number(e, config) for e in examples):
    return None
  name, labels, answer = file
  unreadable = sum(label_words.class_of(t, labels) is None for t in texts) if labels else 0
  pairs = zip(examples, texts, strict=True)
  rows = [(example, answer(text, example)) for example, text in pairs]
  return Submission(name, _form(config, name)(rows), unreadable)


Rows = Iterable[tuple[Example, Any]]


def _json_lines(rows: Rows) -> str:
  return _dumped({"idx": int(row["idx"]), "label": label} for row, label in rows)


def _record(rows: Rows) -> str:
  """One answer per query, though a query comes once for each right answer."""
  found: dict[int, str] = {}
  for row, label in rows:
    found.setdefault(int(row["idx/query"]), label)
  return _dumped({"idx": query, "label": label} for query, label in found.items())


def _multirc(rows: Rows) -> str:
  """Answers within questions within paragraphs."""
  found: dict[int, dict[int, list[dict[str, int]]]] = {}
  for row, label in rows:
    paragraph = found.setdefault(int(row["idx/paragraph"]), {})
    answers = paragraph.setdefault(int(row["idx/question"]), [])
    answers.append({"idx": int(row["idx/answer"]), "label": label})
  return _dumped(
    {
      "idx": number,
      "passage": {
        "questions": [{"idx": question, "answers": a} for question, a in paragraph.items()]
      },
    }
    for number, paragraph in found.items()
  )


def _dumped(rows: Iterable[Mapping[str, Any]]) -> str:
  return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _table(rows: Rows) -> str:
  lines = sorted((int(row["idx"]), label) for row, label in rows)
  return "index\tprediction\n" + "".join(f"{idx}\t{label}\n" for idx, label in lines)


def _form(config: str, name: str) -> Callable[[Rows], str]:
  if config == "super_glue/record":
    return _record
  if config == "super_glue/multirc":
    return _multirc
  return _table if name.endswith(".tsv") else _json_lines


def _one_of(labels: Sequence[str], sent: Sequence[Any]) -> Answer:
  return lambda text, example: sent[label_words.class_of(text, labels) or 0]


def _similarity(text: str, example: Example) -> str:
  return f"{min(max(postprocessors.string_to_float(text), 0.0), _FIVE):.3f}"


def _same_noun(text: str, example: Example) -> str:
  return "True" if coreference.wsc_matches(text, example) == 1 else "False"


def _free(text: str, example: Example) -> str:
  return text


# What stands for the label words of a task; None for the words themselves.
_NUMBERS, _LOWER = (0, 1), ("false", "true")
_CLASSIFICATION: dict[str, tuple[str, Sequence[Any] | None]] = {
  "super_glue/boolq": ("BoolQ.jsonl", _LOWER),
  "super_glue/cb": ("CB.jsonl", None),
  "super_glue/copa": ("COPA.jsonl", _NUMBERS),
  "super_glue/multirc": ("MultiRC.jsonl", _NUMBERS),
  "super_glue/rte": ("RTE.jsonl", None),
  "super_glue/wic": ("WiC.jsonl", _LOWER),
  "super_glue/axb": ("AX-b.jsonl", None),
  "super_glue/axg": ("AX-g.jsonl", None),
  "glue/cola": ("CoLA.tsv", _NUMBERS),
  "glue/sst2": ("SST-2.tsv", _NUMBERS),
  "glue/mrpc": ("MRPC.tsv", _NUMBERS),
  "glue/qqp": ("QQP.tsv", _NUMBERS),
  "glue/mnli_matched": ("MNLI-m.tsv", None),
  "glue/mnli_mismatched": ("MNLI-mm.tsv", None),
  "glue/qnli": ("QNLI.tsv", None),
  "glue/rte": ("RTE.tsv", None),
  "glue/wnli": ("WNLI.tsv", _NUMBERS),
  "glue/ax": ("AX.tsv", None),
}
_LABELS = {
  **{f"glue/{c}": row[1] for c, row in glue_benchmark.CLASSIFICATION.items()},
  **{f"super_glue/{c}": row[1] for c, row in super_glue_benchmark.CLASSIFICATION.items()},
}
_NUMBERED = {
  "super_glue/record": ("idx/query",),
  "super_glue/multirc": ("idx/paragraph", "idx/question", "idx/answer"),
}
_OTHERS: dict[str, tuple[str, Answer]] = {
  "super_glue/record": ("ReCoRD.jsonl", _free),
  "super_glue/wsc.fixed": ("WSC.jsonl", _same_noun),
  "glue/stsb": ("STS-B.tsv", _similarity),
}


def _has_number(example: Example, config: str) -> bool:
  return all(np.ndim(example.get(n, ())) == 0 for n in _NUMBERED.get(config, ("idx",)))


def _file(
  config: str, words: tuple[str, ...] | None
) -> tuple[str, tuple[str, ...] | None, Answer] | None:
  """Name of the file, the label words if there are any, and how an answer is sent."""
  if config in _OTHERS:
    name, answer = _OTHERS[config]
    return name, None, answer
  if config not in _CLASSIFICATION:
    return None
  name, sent = _CLASSIFICATION[config]
  theirs = _LABELS[config]
  labels = words or theirs
  if len(labels) != len(theirs):
    return None  # other classes than the leaderboard's
  return name, labels, _one_of(labels, sent or theirs)
