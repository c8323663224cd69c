"""XSum and CNN / Daily Mail: exact texts, and ROUGE by hand."""

import pytest
import seqio
from more_records import examples, texts

from prompt_tuning.data import summarization

# The records have the same texts in all data sets of summaries.
EXPECTED = {
  "train": [
    ("summarize: A storm hit Kent. Two roads were shut.", "Storm shuts roads"),
    ("summarize: Leeds beat Hull 2-1.", "Leeds beat Hull"),
  ],
  "validation": [
    ("summarize: The bridge over the Tay\nopened today.", "Tay bridge opens ."),
  ],
  "test": [("summarize: Rain fell all day .", "It rained .")],
}
DATA = {"xsum_v110": "xsum:1.1.0", "cnn_dailymail_v310": "cnn_dailymail:3.1.0"}


def test_there_are_two_data_sets():
  assert set(summarization.TASKS) == set(DATA)


@pytest.mark.parametrize("suffix", ["", "_examples"])
@pytest.mark.parametrize("prefix", ["", "mt5_", "byt5_"])
@pytest.mark.parametrize("name", DATA)
def test_texts_are_the_original_s(name, prefix, suffix):
  full = f"{prefix}{name}{suffix}"
  assert seqio.TaskRegistry.get(full).source.tfds_dataset.name == DATA[name]
  assert {split: texts(full, split) for split in EXPECTED} == EXPECTED


@pytest.mark.parametrize(
  ("target", "prediction", "one", "two", "lsum"),
  [
    # 5 of 6 words; the, cat, on, the, mat in order; 3 of 5 pairs.
    ("the cat sat on the mat", "the cat lay on the mat", 500 / 6, 60.0, 500 / 6),
    # All words and, line by line, their order; 2 of 3 pairs (cats purr, dogs bark).
    ("cats purr . dogs bark", "dogs bark . cats purr", 100.0, 200 / 3, 100.0),
    # In one line only two of the four words are in order.
    ("cats purr dogs bark", "dogs bark cats purr", 100.0, 200 / 3, 50.0),
    # F of precision 2 / 2 and recall 2 / 6; of 1 / 1 and 1 / 5.
    ("Heavy rain closed the northern line", "heavy rain", 50.0, 100 / 3, 50.0),
    ("It rained", "Sun", 0.0, 0.0, 0.0),
  ],
)
def test_rouge_by_hand(target, prediction, one, two, lsum):
  (metric,) = seqio.TaskRegistry.get("xsum_v110").metric_fns
  expected = {"rouge1": one, "rouge2": two, "rougeLsum": lsum}
  assert metric([target], [prediction]) == pytest.approx(expected)


def test_rouge_of_a_split_is_the_mean_of_its_examples():
  (metric,) = seqio.TaskRegistry.get("cnn_dailymail_v310").metric_fns
  values = metric(["cats purr", "heavy rain fell"], ["cats purr", "rain"])
  # 100 and F of precision 1 / 1, recall 1 / 3; there is no pair in "rain".
  assert values == pytest.approx({"rouge1": 75.0, "rouge2": 50.0, "rougeLsum": 75.0})


def test_texts_are_compared_as_they_are_and_no_negatives_are_shown():
  name = "xsum_v110_examples"
  task, rows = seqio.TaskRegistry.get(name), examples(name, "train")
  post = task.postprocess_fn
  targets = [
    post(row["targets_pretokenized"].decode(), example=row, is_target=True) for row in rows
  ]
  found = [
    post(text, example=row, is_target=False)
    for text, row in zip(["Storm shuts roads", "Hull lose"], rows, strict=True)
  ]
  assert targets == ["Storm shuts roads", "Leeds beat Hull"]
  scores, shown = [metric(targets, found) for metric in task.metric_fns]
  # 100, and 1 word shared of 3 and 2: F 2 / 5.
  assert scores == pytest.approx({"rouge1": 70.0, "rouge2": 50.0, "rougeLsum": 70.0})
  assert list(shown) == [f"{name} samples"]
  assert "**inputs**: summarize: Leeds beat Hull 2-1." in shown[f"{name} samples"].textdata
  assert seqio.TaskRegistry.get("xsum_v110").postprocess_fn("It rained") == "It rained"
