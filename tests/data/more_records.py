"""Records of QA, summaries, NLI, IMDB and C4, and training sets longer than is held out.

examples(task, split), texts(task, split)   as in `benchmark_records`, of all the data
with_long_training(task)                    for sources that are a slice of "train"
"""

import functools
import itertools
import pathlib
from collections.abc import Iterable
from typing import Any

import seqio
from benchmark_records import RECORDS, examples, prepared, texts
from tfds_records import Records, prepare

from prompt_tuning.data import vocabularies

__all__ = ["RECORDS", "examples", "prepared", "texts"]  # all of the data
Rows = Iterable[tuple]


def _splits(fields: str, **values: Rows) -> Records:
  """{split: records} of tuples in the order of the fields."""
  names = fields.split()
  return {
    split: [dict(zip(names, row, strict=True)) for row in rows]
    for split, rows in values.items()
  }


# Question answering: number, question, passage, right answers.

_WINTER = (
  "The winter of 1963 (the coldest since 1740) froze the sea.\nSnow lay until March."
)
_SQUAD = {
  "train": [("s1", "When was it cold?", _WINTER, ["1963", "the winter of 1963"])],
  "validation": [
    ("s2", "Until  when did snow lie?", _WINTER, ["March", "until March", "March"]),
    ("s3", "What did the U.S. buy?", "The U.S. bought Alaska.", ["Alaska"]),
  ],
}
_MRQA = {
  "squad": _SQUAD,
  "bio_asq": {"test": [("b1", "Which gene?", "BRCA-1 was found.", ["BRCA-1", "BRCA1"])]},
  "drop": {"test": [("d1", "How many yards?", "He ran 42 yards.", ["42", "42 yards"])]},
  "duo_rc": {"test": [("u1", "Who is Roy's boss?", "Roy works for Ann.", ["Ann"])]},
  "race": {"test": [("r1", "Where is Li from?", "Li is from Wuhan.", ["Wuhan"])]},
  "relation_extraction": {
    "test": [("e1", "Who founded Acme?", "Acme was founded by Bo.", ["Bo"])]
  },
  "textbook_qa": {"test": [("t1", "What melts?", "Ice melts at 0 C.", ["ice", "Ice"])]},
  "news_qa": {
    "train": [("n1", "Who won?", "(CNN) -- Leeds won, 2-1.", ["Leeds"])],
    "validation": [("n2", "Who lost?", "(CNN) -- Hull lost.", ["Hull"])],
  },
  "trivia_qa": {
    "train": [("v1", "Capital of Peru?", "[DOC] Lima is in Peru.", ["Lima", "lima"])],
    "validation": [("v2", "Capital of Cuba?", "[DOC] Havana, Cuba", ["Havana"])],
  },
  "search_qa": {
    "train": [("q1", "This bird cannot fly", "[PAR] The emu runs.", ["emu"])],
    "validation": [("q2", "This bird sings", "[PAR] The lark sings.", ["lark"])],
  },
  "hotpot_qa": {
    "train": [("h1", "Was Ada a poet?", "[PAR] Ada wrote programs.", ["no"])],
    "validation": [("h2", "Was Keats a poet?", "[PAR] Keats wrote odes.", ["yes"])],
  },
  "natural_questions": {
    "train": [("w1", "who wrote emma", "<P> Emma is by Jane Austen </P>", ["Jane Austen"])],
    "validation": [("w2", "who sang hey jude", "<P> The Beatles </P>", ["The Beatles"])],
  },
}


def _squad_row(number: str, question: str, passage: str, right: list[str]) -> dict:
  found = {"text": right, "answer_start": [max(0, passage.find(r)) for r in right]}
  return {
    "id": number,
    "title": "Winter",
    "context": passage,
    "question": question,
    "answers": found,
  }


def _mrqa_row(number: str, question: str, passage: str, right: list[str]) -> dict:
  return {
    "subset": "MRQA",
    "qid": number,
    "context": passage,
    "question": question,
    "answers": right,
    "context_tokens": _words(passage),
    "question_tokens": _words(question),
    "detected_answers": [_detected(passage, answer) for answer in right],
  }


def _words(text: str) -> dict[str, list]:
  words = text.split()
  return {"tokens": words, "offsets": [text.find(word) for word in words]}


def _detected(passage: str, answer: str) -> dict[str, Any]:
  start = max(0, passage.find(answer))
  return {
    "text": answer,
    "char_spans": [{"start": start, "end": start + len(answer) - 1}],
    "token_spans": [{"start": 0, "end": 0}],
  }


def _answered(row: Any, splits: dict[str, list]) -> Records:
  return {split: [row(*values) for values in rows] for split, rows in splits.items()}


# Summaries: a text, then its summary, per split; what else the records have is constant.

_NEWS = "A storm hit Kent. Two roads were shut."
_TEXTS = {
  "train": [(_NEWS, "Storm shuts roads"), ("Leeds beat Hull 2-1.", "Leeds beat Hull")],
  "validation": [("The bridge over the Tay\nopened today.", "Tay bridge opens .")],
  "test": [("Rain fell all day .", "It rained .")],
}
_STATISTICS = dict.fromkeys(("coverage", "density", "compression"), 0.5)
_BINS = dict.fromkeys(("coverage_bin", "density_bin", "compression_bin"), "medium")
_PAGE = {"title": "Kent", "url": "https://example.org/kent", "date": "2018-01-03"}
_SUMMARIES: dict[str, tuple[str, str, dict[str, Any]]] = {
  "xsum:1.1.0": ("document", "summary", {}),
  "cnn_dailymail:3.1.0": ("article", "highlights", {"id": "a1", "publisher": "cnn"}),
  "cnn_dailymail:3.2.0": ("article", "highlights", {"id": "a1", "publisher": "cnn"}),
  "aeslc:1.0.0": ("email_body", "subject_line", {}),
  "billsum:3.0.0": ("text", "summary", {"title": "An Act"}),
  "gigaword:1.2.0": ("document", "summary", {}),
  "multi_news:1.0.0": ("document", "summary", {}),
  "samsum:1.0.0": ("dialogue", "summary", {"id": "d1"}),
  "newsroom:1.0.0": ("text", "summary", {**_STATISTICS, **_BINS, **_PAGE}),
}


def _summaries(source: str, target: str, others: dict[str, Any]) -> Records:
  return {
    split: [{source: text, target: summary, **others} for text, summary in rows]
    for split, rows in _TEXTS.items()
  }


# Whether a hypothesis follows; film reviews; web pages.

_ANLI = _splits(
  "uid context hypothesis label",
  train=[
    ("a1", "Ida Lind  (born 1950)\nis a poet.", "Ida writes  verse.", 0),
    ("a2", "The lake is in Chile.", "The lake is deep.", 1),
    ("a3", "The shop shut in 1990.", "The shop is open.", 2),
  ],
  validation=[("a4", "Oslo hosted the games.", "Rome hosted the games.", 2)],
  test=[("a5", "He plays chess.", "He plays a game.", 0)],
)
_DOC_NLI = _splits(
  "premise hypothesis label",
  train=[
    ("Two roads in Kent were shut\tby a storm.", "Roads were shut.", 1),
    ("The bridge opened.", "The bridge fell.", 0),
  ],
  validation=[("Rain fell all day.", "It was dry.", 0)],
  test=[("Leeds won.", "Leeds did not lose.", 1)],
)
_SNLI = _splits(
  "premise hypothesis label",
  train=[
    ("A man rides a horse.", "A man is outdoors.", 1),
    ("Kids play ball.", "Kids are playing.", 0),
    ("A woman sleeps.", "A woman runs.", 2),
    ("Two dogs wait.", "The dogs are hungry.", -1),
  ],
  validation=[("A boy reads.", "A boy has a book.", 0)],
  test=[("A girl sings.", "A girl is silent.", 2)],
)
_IMDB = _splits(
  "text label",
  train=[
    ("A wonderful film.<br /><br />I cried.", 1),
    ("Dull and far too long.", 0),
  ],
  test=[
    ("A wonderful cast in a wonderful story.", 1),
    ("I slept through the second half.", 0),
    ("Not the wonderful film they promised.", 0),
  ],
)
_SENTENCE = (
  "On day {} the club met in the old mill and sold {} pots of honey to visitors . "
)
_HTTP = ("4096", "text/html", "2019-04-25T12:57:54Z")
_C4 = _splits(
  "text url content-length content-type timestamp",
  train=[
    (
      "".join(_SENTENCE.format(page + i, 3 * i + 5) for i in range(40)),
      f"https://example.org/{page}",
      *_HTTP,
    )
    for page in range(4)
  ],
  validation=[(_SENTENCE.format(9, 6) * 20, "https://example.org/v", *_HTTP)],
)

RECORDS.update(
  {
    "squad/v1.1:3.0.0": _answered(_squad_row, _SQUAD),
    **{f"mrqa/{name}:1.0.0": _answered(_mrqa_row, rows) for name, rows in _MRQA.items()},
    **{name: _summaries(*fields) for name, fields in _SUMMARIES.items()},
    **{f"anli/{part}:0.1.0": _ANLI for part in ("r1", "r2", "r3")},
    "doc_nli:1.0.0": _DOC_NLI,
    "snli:1.1.0": _SNLI,
    "imdb_reviews/plain_text:1.0.0": _IMDB,
    "c4/en:2.2.0": _C4,
  }
)

# Training sets of which the end is held out: the most that any task takes.
HELD_OUT = {
  "glue/cola:2.0.0": 500,
  "glue/sst2:2.0.0": 2000,
  "glue/mrpc:2.0.0": 200,
  "glue/qqp:2.0.0": 10_000,
  "glue/qnli:2.0.0": 3000,
  "glue/rte:2.0.0": 200,
  "super_glue/boolq:1.0.2": 400,
  "super_glue/cb:1.0.2": 50,
  "super_glue/copa:1.0.2": 50,
  "super_glue/record:1.0.2": 10_000,
  "super_glue/rte:1.0.2": 200,
  "super_glue/wic:1.0.2": 400,
  "imdb_reviews/plain_text:1.0.0": 1000,
}
MORE = 6  # records in front of them


def with_long_training(task: str) -> seqio.Task:
  """A task that reads `HELD_OUT` + `MORE` training records, the n-th ending in "(n)".

  They are the data set's own over and over; its validation split holds them too.
  `prepared` leads the task back to the short one.
  """
  found = seqio.TaskRegistry.get(task)
  data = found.source.tfds_dataset
  data.override_data_dir(str(_long(data.name)))
  return found


def first_example(task: seqio.Task, split: str, lengths: dict[str, int]) -> dict[str, Any]:
  """One example of a task from where it reads now."""
  vocabularies.use(vocabularies.EMBEDDED)
  try:
    dataset = task.get_dataset(lengths, split, shuffle=False).take(1)
    return next(dataset.as_numpy_iterator())
  finally:
    vocabularies.use(None)


@functools.cache
def _long(name: str) -> pathlib.Path:
  own = RECORDS[name]
  size = HELD_OUT[name] + MORE
  rows = itertools.islice(itertools.cycle(own["train"]), size)
  train = [_numbered(row, n) for n, row in enumerate(rows)]
  folder = _long_folder()
  validation = [*own.get("validation", []), *own["train"]]
  prepare(folder, name, {**own, "train": train, "validation": validation})
  return folder


def _numbered(row: dict[str, Any], number: int) -> dict[str, Any]:
  last = max(field for field, value in row.items() if isinstance(value, str))
  return {**row, last: f"{row[last]} ({number})"}


@functools.cache
def _long_folder() -> pathlib.Path:
  return prepared() / "long"
