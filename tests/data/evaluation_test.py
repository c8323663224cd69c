"""Evaluation: every example once, in order, with seqio's metrics and files."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import batches, vocabularies
from prompt_tuning.data.board import Board
from prompt_tuning.data.evaluation import Evaluation
from prompt_tuning.data.packing import Packing
from prompt_tuning.data.table import Table


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


def test_of_many_examples_the_first_are_read(dataset_config, numbers):
  config = dataset_config(split="validation", batch_size=3, num_examples=4)
  metrics, texts = Evaluation(config, numbers, None).run(always_zero, row_numbers, 3)
  assert metrics == {numbers.name: {"right": 2.0, "likelihood": -(0 + 1 + 2 + 3) / 4}}
  assert texts == {numbers.name: ["0"] * 4}
  examples, dataset = batches.inference_examples(config, numbers)
  assert [row["inputs_pretokenized"] for row in examples] == [
    f"example {i}".encode() for i in range(4)
  ]
  assert len(list(dataset)) == 4


@pytest.mark.parametrize("number", [0, -1, 2.5, "all"])
def test_a_number_of_examples_is_a_whole_one(dataset_config, number):
  with pytest.raises(checks.InputError, match=r"num_examples is .* leave it out"):
    dataset_config(num_examples=number)


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


def test_batches_are_counted_over_all_tasks(dataset_config, numbers):
  again = seqio.TaskRegistry.add(
    f"{numbers.name}_again",
    source=numbers.source,
    preprocessors=numbers.preprocessors,
    output_features=numbers.output_features,
    metric_fns=numbers.metric_fns,
  )
  name = f"{numbers.name}_twice"
  seqio.MixtureRegistry.add(name, [(numbers.name, 1.0), (again.name, 1.0)])
  config = dataset_config(
    mixture_or_task_name=name, split="validation", batch_size=3, shuffle=False
  )
  evaluation = Evaluation(config, seqio.get_mixture_or_task(name), None)
  assert [len(evaluation.teacher_forced(n)) for n in (0, 1, 3, 9)] == [0, 1, 3, 4]


def spelled(batch, name):
  """The texts of the segments of packed rows, or of rows with weight."""
  decode = vocabularies.EMBEDDED.load().decode
  side = name.split("_")[0]
  weighted = (batch["decoder_loss_weights"].max(axis=1, keepdims=True) > 0).astype(int)
  ids = batch.get(f"{side}_segment_ids", np.broadcast_to(weighted, batch[name].shape))
  return [
    decode(row[segments == n].tolist())
    for row, segments in zip(batch[name], ids, strict=True)
    for n in range(1, segments.max() + 1)
  ]


@pytest.mark.parametrize("count", [1, 2, 10])
def test_packed_batches_have_the_examples_of_the_unpacked(count, dataset_config, numbers):
  config = dataset_config(
    split="validation",
    batch_size=3,
    shuffle=False,
    pack=True,
    task_feature_lengths={"inputs": 24, "targets": 9},
  )
  evaluation = Evaluation(config, numbers, None)
  packing = Packing(prompt_len=2)
  unpacked, packed = (
    evaluation.teacher_forced(count),
    evaluation.teacher_forced(count, packing),
  )
  for name in ("encoder_input_tokens", "decoder_target_tokens"):
    ours = [text for batch in packed for text in spelled(batch, name)]
    theirs = [text for batch in unpacked for text in spelled(batch, name)]
    assert sorted(ours) == sorted(theirs) and len(theirs) == min(5, 3 * count)
  for name in ("decoder_target_tokens", "decoder_loss_weights"):
    assert sum(b[name].sum() for b in packed) == sum(
      (b[name] * (b["decoder_loss_weights"] > 0)).sum() for b in unpacked
    )
  (batch,) = packed
  assert batch["encoder_segment_ids"].shape == (3, 26)
  assert not batch["decoder_loss_weights"][-1].any()


def test_teacher_forced_batches_are_packed_where_the_config_says_so(evaluation):
  first, _ = evaluation.teacher_forced(10, Packing(prompt_len=2))
  assert "encoder_segment_ids" not in first


@pytest.fixture
def embedded():
  vocabularies.use(vocabularies.EMBEDDED)
  yield
  vocabularies.use(None)


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize("measured", [True, False])
def test_predictions_are_in_order_whatever_their_length(measured, dataset_config, tmp_path):
  path = tmp_path / "validation.csv"
  texts = ["long words " * (60 - i if i % 3 else 1) + str(i) for i in range(25)]
  path.write_text("text,label\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
  Table(
    name=f"lengths_of_the_evaluation_test_{measured}",
    train=str(path),
    validation=str(path),
    inputs="{text}",
    targets="label",
  ).register()
  task = seqio.get_mixture_or_task(f"lengths_of_the_evaluation_test_{measured}")
  if not measured:
    task = seqio.TaskRegistry.add(
      f"{task.name}_task",
      source=task.source,
      preprocessors=task.preprocessors,
      output_features=task.output_features,
    )
  config = dataset_config(
    mixture_or_task_name=task.name,
    split="validation",
    batch_size=4,
    shuffle=False,
    task_feature_lengths={"inputs": 300, "targets": 6},
  )
  shapes = set()

  def repeat(batch, task):
    """The last number of each input."""
    shapes.add(batch["encoder_input_tokens"].shape)
    spelling = vocabularies.EMBEDDED.load()
    found = np.zeros((len(batch["encoder_input_tokens"]), 6), np.int32)
    for row, tokens in zip(found, batch["encoder_input_tokens"], strict=True):
      answer = [*spelling.encode(spelling.decode(tokens.tolist()).split()[-1]), 1]
      row[: len(answer)] = answer
    return found

  evaluation = Evaluation(config, task, None)
  if measured:
    found = evaluation.run(repeat, None, 0)[1][task.name]
  else:
    found = evaluation.unmeasured(repeat)[task.name][1]
  assert found == [str(i) for i in range(25)]
  assert 1 < len(shapes) <= 5


def test_a_split_without_examples_is_refused(dataset_config, numbers):
  config = dataset_config(split="empty", shuffle=False)
  with pytest.raises(checks.InputError, match=r"'empty'.*yields no example"):
    Evaluation(config, numbers, None)


def test_without_a_folder_nothing_is_written(dataset_config, numbers, tmp_path):
  config = dataset_config(split="validation", shuffle=False)
  found, _ = Evaluation(config, numbers, None).run(always_zero, row_numbers, 0)
  assert found[numbers.name]["right"] == 3.0
  assert not list(tmp_path.iterdir())
