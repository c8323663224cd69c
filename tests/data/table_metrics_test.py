"""What a table's metrics say of answers: real evaluations by seqio."""

import itertools
import re

import numpy as np
import pytest
import seqio

from prompt_tuning import checks
from prompt_tuning.data import vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.evaluation import Evaluation
from prompt_tuning.data.table import Table

TEXTS = [
  "the film is good",
  "a film that is bad",
  "a fine old story",
  "it was awful to see",
]
TEXTS.append("so what is it about")
LABELS = ["1", "0", "1", "0", "1"]
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def vocabulary():
  """The embedded model's, as a run would choose it."""
  vocabularies.use(vocabularies.EMBEDDED)
  yield
  vocabularies.use(None)


def registered(targets, **changes) -> str:
  """The name of a new task that answers the five texts."""
  rows = {"text": TEXTS, "target": targets, "all": targets}
  name = f"a_table_of_metrics_{next(_numbers)}"
  settings = {"name": name, "validation": rows, "inputs": "{text}", "targets": "target"}
  Table(**{**settings, **changes}).register()
  return name


def classes(**changes) -> str:
  return registered(LABELS, **{"labels": {"0": "negative", "1": "positive"}, **changes})


def scores(name, answer):
  """The metrics of a task whose inputs are answered by `answer`: [texts] -> [texts]."""
  config = DatasetConfig(
    mixture_or_task_name=name,
    task_feature_lengths={"inputs": 32, "targets": 16},
    split="validation",
    batch_size=8,
  )
  evaluation = Evaluation(config, seqio.get_mixture_or_task(name), None)
  vocabulary = vocabularies.current().load()

  def predict(batch, task):
    assert task == name
    inputs = [
      vocabulary.decode([int(t) for t in row]) for row in batch["encoder_input_tokens"]
    ]
    rows = np.zeros((len(inputs), 16), np.int32)
    for row, text in zip(rows, answer(inputs), strict=True):
      tokens = [*vocabulary.encode(text), 1]
      row[: len(tokens)] = tokens
    return rows

  values, _ = evaluation.run(predict, lambda batch: np.zeros(8), 0)
  return values[name]


def positive(texts):
  return ["positive"] * len(texts)


def itself(texts):
  return texts


def test_label_words_are_scored_as_classes():
  metrics = ["accuracy", "f1", "macro_f1", "matthews_corrcoef", "exact_match"]
  found = scores(classes(metrics=metrics), positive)
  assert found["accuracy"] == found["exact_match"] == pytest.approx(60.0)
  assert found["f1"] == pytest.approx(75.0)
  assert found["mean_2class_f1"] == pytest.approx(37.5)
  assert found["matthews_corrcoef"] == 0.0


@pytest.mark.parametrize("words", [("Negative", "Positive"), ("NEGATIVE", "positive ")])
def test_words_that_the_vocabulary_spells_otherwise_are_scored_right(words):
  name = classes(labels=dict(zip("01", words, strict=True)))
  assert scores(name, positive)["accuracy"] == pytest.approx(60.0)
  assert scores(name, itself)["accuracy"] == 0.0


def test_free_text_is_scored_as_text():
  name = registered(TEXTS, metrics=["accuracy", "exact_match", "rouge", "bleu"])
  found = scores(name, itself)
  assert found["accuracy"] == found["exact_match"] == pytest.approx(100.0)
  assert found["rouge1"] == pytest.approx(100.0)
  assert found["bleu"] == pytest.approx(100.0)
  assert scores(name, positive)["accuracy"] == 0.0


@pytest.mark.parametrize("metric", ["pearson_corrcoef", "spearman_corrcoef"])
def test_numbers_are_scored_as_numbers(metric):
  name = registered([1, 2.5, "3", 4, 5], metrics=[metric])
  for first in ("1", "-3.5", "a word, which is -1"):
    answers = [first, "2.5", "3", "4", "5", *["0"] * 3]
    found = scores(name, lambda texts, answers=answers: answers[: len(texts)])
    assert 90 < found[metric] <= 100.001


def test_any_right_answer_is_right():
  answers = [
    "x|||The film is GOOD",
    '["x", "film that is bad"]',
    "no",
    "no",
    ["no", TEXTS[4]],
  ]
  rows = {"text": TEXTS, "target": ["x"] * 5, "all": answers}
  name = registered([], validation=rows, metrics=["squad"], answers="all")
  assert scores(name, itself)["em"] == pytest.approx(60.0)


def test_the_target_is_the_right_answer_where_no_other_is_named():
  assert scores(registered(TEXTS, metrics=["squad"]), itself)["em"] == pytest.approx(100.0)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"metrics": ["acuracy"]}, "unknown metric 'acuracy'; the nearest known: accuracy"),
    ({"metrics": ["bleu"]}, "its targets 2 label words, expected of accuracy, exact_match"),
    ({"labels": None, "metrics": ["f1"]}, "its targets texts, expected of accuracy, bleu"),
    ({"labels": None, "metrics": ["pearson_corrcoef", "bleu"]}, "its targets numbers"),
    ({"labels": None, "metrics": ["squad", "bleu"]}, "remove bleu or change"),
    ({"labels": None, "answers": "all"}, "expected of squad; remove accuracy"),
    ({"labels": ["0", "1", "2"], "metrics": ["f1"]}, "its targets 3 label words"),
    ({"labels": None, "metrics": ["macro_f1"]}, "macro_f1"),
  ],
)
def test_metrics_that_cannot_compare_the_targets_are_refused(changes, message):
  with pytest.raises(checks.InputError, match=re.escape(message)):
    classes(**changes)
