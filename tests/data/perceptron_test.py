"""Label words side by side: tokens [length, candidates], the right one, held-out sizes."""

import numpy as np
import pytest
import seqio
from more_records import (
  HELD_OUT,
  MORE,
  RECORDS,
  examples,
  first_example,
  with_long_training,
)

from prompt_tuning.data import perceptron, vocabularies

_PAIR = "sentence1: {sentence1} sentence2: {sentence2}"
_NLI = "hypothesis: {hypothesis} premise: {premise}"
_ENTAILED, _YES_NO = ("entailment", "not_entailment"), ("False", "True")
# name -> data set, inputs of a record without the task's name, label words, held out
TASKS = {
  "glue_cola_v200": (
    "glue/cola:2.0.0",
    "sentence: {sentence}",
    ("unacceptable", "acceptable"),
    500,
  ),
  "glue_sst2_v200": (
    "glue/sst2:2.0.0",
    "sentence: {sentence}",
    ("negative", "positive"),
    2000,
  ),
  "glue_mrpc_v200": ("glue/mrpc:2.0.0", _PAIR, ("not_equivalent", "equivalent"), 200),
  "glue_qqp_v200": (
    "glue/qqp:2.0.0",
    "question1: {question1} question2: {question2}",
    ("not_duplicate", "duplicate"),
    5000,
  ),
  "glue_qnli_v200": (
    "glue/qnli:2.0.0",
    "question: {question} sentence: {sentence}",
    _ENTAILED,
    3000,
  ),
  "glue_rte_v200": ("glue/rte:2.0.0", _PAIR, _ENTAILED, 200),
  "super_glue_boolq_v102": (
    "super_glue/boolq:1.0.2",
    "passage: {passage} question: {question}",
    _YES_NO,
    400,
  ),
  "super_glue_cb_v102": (
    "super_glue/cb:1.0.2",
    _NLI,
    ("entailment", "contradiction", "neutral"),
    50,
  ),
  "super_glue_copa_v102": (
    "super_glue/copa:1.0.2",
    "choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
    ("choice1", "choice2"),
    50,
  ),
  "super_glue_rte_v102": ("super_glue/rte:1.0.2", _NLI, _ENTAILED, 200),
  "super_glue_wic_v102": (
    "super_glue/wic:1.0.2",
    _PAIR + " word: {word}",
    _YES_NO,
    400,
  ),
}
every_task = pytest.mark.parametrize("name", TASKS)
LENGTHS = {"inputs": 128, "targets": 16, "is_correct": 4}


def rows(name, split, lengths=LENGTHS):
  return examples(name, split, lengths=lengths)


def test_the_tasks_are_the_original_s():
  assert {name: held for name, (*_, held) in TASKS.items()} == perceptron.HELD_OUT


@every_task
def test_an_example_holds_every_label_word(name):
  data, text, labels, _ = TASKS[name]
  found = rows(f"{name}_perceptron_test", "validation")
  records = RECORDS[data]["validation"]
  assert len(found) == len(records)
  encode = vocabularies.EMBEDDED.load().encode
  for row, record in zip(found, records, strict=True):
    inputs = text.format(**record)
    assert row["inputs_pretokenized"].tolist() == [inputs.encode()] * len(labels)
    assert row["targets_pretokenized"].tolist() == [label.encode() for label in labels]
    assert row["is_correct"].tolist() == [i == record["label"] for i in range(len(labels))]
    assert row["is_correct"].dtype == bool
    assert row["inputs"].dtype == row["targets"].dtype == np.int32
    assert row["inputs"].T.tolist() == [[*encode(inputs), 1]] * len(labels)
    width = row["targets"].shape[0]
    assert row["targets"].T.tolist() == [
      ([*encode(label), 1] + [0] * width)[:width] for label in labels
    ]
    assert width == max(len(encode(label)) + 1 for label in labels)


def test_t5_s_own_tokens(fixtures):
  t5 = vocabularies.SentencePiece(sentencepiece_model_file=str(fixtures / "t5_vocab.model"))
  (row,) = examples("glue_sst2_v200_perceptron_test", "validation", t5, LENGTHS)
  assert row["targets"].T.tolist() == [[2841, 1], [1465, 1]]  # negative, positive


def test_trimming_leaves_eos_at_the_end_of_each_candidate():
  lengths = {"inputs": 6, "targets": 3, "is_correct": 4}
  name = "super_glue_cb_v102_perceptron_test"
  (whole, *_), (cut, *_) = (rows(name, "validation", which) for which in (LENGTHS, lengths))
  assert cut["inputs"].shape == (6, 3)
  assert (cut["inputs"][:-1] == whole["inputs"][:5]).all()
  assert (cut["inputs"][-1] == 1).all()
  assert len(cut["targets"]) <= 3
  for candidate, longer in zip(cut["targets"].T, whole["targets"].T, strict=True):
    kept = candidate[candidate > 0].tolist()
    assert kept == [*longer[longer > 1].tolist()[:2], 1]


@pytest.mark.parametrize("part", ["perceptron_train", "generation_train"])
@every_task
def test_the_end_of_the_training_split_is_held_out(name, part):
  data, _, _, held = TASKS[name]
  task = with_long_training(f"{name}_{part}")
  assert set(task.splits) == {"train", "validation"}
  total = HELD_OUT[data] + MORE
  assert task.num_input_examples("validation") == held
  assert task.num_input_examples("train") == total - held
  first = first_example(task, "validation", LENGTHS)
  texts = np.atleast_1d(first["inputs_pretokenized"]).tolist()
  assert all(f"({total - held})".encode() in text for text in texts)


@every_task
def test_what_is_scored_is_the_held_out_or_the_official_validation_split(name):
  data, text, labels, held = TASKS[name]
  held_out = with_long_training(f"{name}_rank_classification_validation")
  assert held_out.num_input_examples("validation") == held
  found = rows(f"{name}_rank_classification_test", "validation")
  records = RECORDS[data]["validation"]
  assert [row["idx"].tolist() for row in found] == [
    [number, i] for number in range(len(records)) for i in range(len(labels))
  ]
  pairs = [
    (text.format(**record), label, i == record["label"])
    for record in records
    for i, label in enumerate(labels)
  ]
  assert [
    (
      row["inputs_pretokenized"].decode(),
      row["targets_pretokenized"].decode(),
      bool(row["is_correct"]),
    )
    for row in found
  ] == pairs
  assert all(row["inputs"][-1] == row["targets"][-1] == 1 for row in found)


@every_task
def test_mixtures_are_the_parts(name):
  parts = {
    "perceptron": ["perceptron_train", "perceptron_test"],
    "generation": [
      "generation_train",
      "generation_test",
      "rank_classification_validation",
      "rank_classification_test",
    ],
  }
  for mixture, members in parts.items():
    found = seqio.MixtureRegistry.get(f"{name}_{mixture}")
    rates = {task.name: found.get_rate(task) for task in found.tasks}
    assert rates == {f"{name}_{member}": 1.0 for member in members}


def example(right):
  """An example of COPA as it comes from the data set, with a right candidate."""
  return {
    "inputs_pretokenized": np.array([b"premise: It froze."] * 2, object),
    "targets_pretokenized": np.array([b"choice1", b"choice2"], object),
    "is_correct": np.arange(2) == right,
  }


def test_a_target_is_the_class_of_the_right_candidate():
  post = seqio.TaskRegistry.get("super_glue_copa_v102_perceptron_test").postprocess_fn
  for right in (0, 1):  # whatever the decoded text of all candidates is
    assert post("choice1 choice2", example=example(right), is_target=True) == right


@pytest.mark.parametrize(
  ("answer", "found"), [("choice1", 0), ("choice2", 1), ("neither", -1)]
)
def test_a_prediction_is_the_class_of_its_word(answer, found):
  post = seqio.TaskRegistry.get("super_glue_copa_v102_perceptron_train").postprocess_fn
  assert post(answer, example=example(1), is_target=False) == {
    "prediction": found,
    "prediction_pretokenized": answer,
    "inputs_pretokenized": "premise: It froze.",
    "targets_pretokenized": "choice2",
  }


def test_metrics_are_the_benchmark_s_and_wrong_answers_are_shown():
  name = "super_glue_copa_v102_perceptron_test"
  task = seqio.TaskRegistry.get(name)
  post = task.postprocess_fn
  examples_of_copa = [example(0), example(1), example(1), example(0)]
  targets = [post("", example=row, is_target=True) for row in examples_of_copa]
  answers = ["choice1", "choice1", "choice2", "none"]
  found = [
    post(answer, example=row, is_target=False)
    for answer, row in zip(answers, examples_of_copa, strict=True)
  ]
  accuracy, shown = [metric(targets, found) for metric in task.metric_fns]
  assert accuracy == {"accuracy": 50.0}
  wrong = shown[f"{name} negative samples"].textdata
  assert wrong.count("**prediction**") == 2 and "**prediction**: none" in wrong
