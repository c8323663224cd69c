"""Evaluation: every example once, in order, with seqio's metrics and files."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import vocabularies
from prompt_tuning.data.board import Board
from prompt_tuning.data.evaluation import Evaluation


@pytest.fixture
def evaluation(dataset_config, numbers, tmp_path):
  config = dataset_config(
    split="validation", batch_size=3, shuffle=False, task_feature_lengths=None
  )
  return Evaluation(config, numbers, str(tmp_path / "log"))


def always_zero(batch, task):
  assert task == "numbers_of_the_data_tests"
  row = [*vocabularies.EMBEDDED.load().encode("0"), 1]
  return np.tile(np.array(row, np.int32), (len(batch["encoder_input_tokens"]), 1))


def row_numbers(batch, task):
  """The score of "example <i>" is -i, read from its last token before EOS."""
  decode = vocabularies.EMBEDDED.load().decode
  rows = batch["encoder_input_tokens"]
  return np.array([-int(decode(row.tolist()).split()[-1]) for row in rows], np.float32)


def test_metrics_count_each_example_once(evaluation, numbers):
  metrics, texts = evaluation.run(always_zero, row_numbers, 3)
  # 0, 2 and 4 are even; the rows that fill up the last batch are not counted.
  assert metrics == {numbers.name: {"right": 3.0, "likelihood": -(0 + 1 + 2 + 3 + 4) / 5}}
  assert texts == {numbers.name: ["0"] * 5}


def test_every_prediction_is_on_disk_beside_the_metrics(evaluation, numbers, tmp_path):
  evaluation.run(always_zero, row_numbers, 3)
  evaluation.run(always_zero, row_numbers, 9)
  path = tmp_path / "log" / f"{numbers.name}-metrics.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["step"] for row in rows] == [3, 9]
  assert all(row["right"] == 3 for row in rows)
  path = tmp_path / "log" / f"{numbers.name}-000009.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["input"]["inputs_pretokenized"] for row in rows] == [
    f"example {i}" for i in range(5)
  ]
  assert [row["score"] for row in rows] == [0.0, -1.0, -2.0, -3.0, -4.0]


def test_numbers_and_examples_are_in_tensorboard_under_t5x_s_tags(tmp_path):
  metrics = {
    "accuracy": seqio.metrics.Scalar(62.5),
    "x samples": seqio.metrics.Text("**inputs**: good"),
  }
  for step in (3, 9):
    Board(str(tmp_path))("a_task", step, metrics, None, None, None)
  found = {}
  for path in (tmp_path / "a_task").glob("events.out.tfevents.*"):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        found[value.tag, event.step] = value
  assert {step for tag, step in found if tag == "eval/accuracy"} == {3, 9}
  assert found["eval/accuracy", 9].simple_value == 62.5
  (text,) = [v for (tag, step), v in found.items() if "x samples" in tag and step == 9]
  assert text.tensor.string_val == [b"**inputs**: good"]


def test_an_evaluation_writes_tensorboard_s_files(evaluation, numbers, tmp_path):
  evaluation.run(always_zero, row_numbers, 3)
  assert list((tmp_path / "log" / numbers.name).glob("events.out.tfevents.*"))


def test_examples_and_the_majority_are_the_split_s(evaluation, numbers):
  assert evaluation.task_names == [numbers.name]
  assert [e["targets_pretokenized"] for e in evaluation.examples(numbers.name)] == [
    b"0",
    b"1",
    b"0",
    b"1",
    b"0",
  ]
  assert evaluation.majority(numbers.name) == ("0", 60.0)


def test_teacher_forced_batches_give_padding_no_weight(evaluation):
  first, last = evaluation.teacher_forced(10)
  assert (first["decoder_loss_weights"].sum(axis=1) > 0).all()
  assert (last["decoder_loss_weights"].sum(axis=1) > 0).tolist() == [True, True, False]
  assert last["encoder_input_tokens"].shape[0] == 3
  assert len(evaluation.teacher_forced(1)) == 1
  assert evaluation.teacher_forced(0) == []


def test_a_split_without_examples_is_refused(dataset_config, numbers):
  config = dataset_config(split="empty", shuffle=False)
  with pytest.raises(checks.InputError, match=r"'empty'.*yields no example"):
    Evaluation(config, numbers, None)


def test_without_a_folder_nothing_is_written(dataset_config, numbers, tmp_path):
  config = dataset_config(split="validation", shuffle=False)
  found, _ = Evaluation(config, numbers, None).run(always_zero, row_numbers, 0)
  assert found[numbers.name]["right"] == 3.0
  assert not list(tmp_path.iterdir())
