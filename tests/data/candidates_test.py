"""Candidates of an example: as rows to be scored, and side by side."""

import dataclasses

import pytest
import seqio
import tensorflow as tf

from prompt_tuning.data import (
  candidates,
  metrics,
  postprocessors,
  ranking_metrics,
  variants,
  vocabularies,
)

QUESTIONS = {
  "inputs": ["is tea hot", "is ice hot", "is it"],
  "targets": ["yes", "no", "<unk>"],
}


def labelled():
  dataset = tf.data.Dataset.from_tensor_slices(QUESTIONS)
  return candidates.with_labels(dataset, labels=("no", "yes"))


def test_the_label_words_are_candidates_and_the_target_is_right():
  first = next(labelled().as_numpy_iterator())
  assert first["candidates"].tolist() == [b"no", b"yes"]
  assert first["right"].tolist() == [b"yes"]


def test_rows_are_numbered_by_example_and_candidate():
  found = list(candidates.as_rows(labelled()).as_numpy_iterator())
  assert [
    (*row["idx"].tolist(), row["inputs"], row["targets"], bool(row["is_correct"]))
    for row in found
  ] == [
    (0, 0, b"is tea hot", b"no", False),
    (0, 1, b"is tea hot", b"yes", True),
    (1, 0, b"is ice hot", b"no", True),
    (1, 1, b"is ice hot", b"yes", False),
    (2, 0, b"is it", b"no", False),  # a test split says nothing
    (2, 1, b"is it", b"yes", False),
  ]
  assert {key: row.dtype for key, row in found[0].items() if key == "idx"} == {
    "idx": "int32"
  }


def test_side_by_side():
  found = list(candidates.as_one(labelled()).as_numpy_iterator())
  assert len(found) == 3
  assert {key: value.tolist() for key, value in found[1].items()} == {
    "inputs": [b"is ice hot", b"is ice hot"],
    "targets": [b"no", b"yes"],
    "is_correct": [True, False],
  }


RECORD = {
  "passage": "Lena Berg won.\n@highlight\nShe is from Oslo",
  "query": "@placeholder beat them all.",
  "entities": ["Lena Berg", "Oslo", "Berg"],
  "answers": ["Lena Berg", "Berg"],
  "idx": {"passage": 3, "query": 8},
}


def test_record_has_its_entities_as_candidates():
  (found,) = candidates.record(tf.data.Dataset.from_tensors(RECORD)).as_numpy_iterator()
  assert found["inputs"] == (
    b"record query: @placeholder beat them all. entities: Lena Berg, Oslo, Berg "
    b"passage: Lena Berg won. She is from Oslo"
  )
  assert found["candidates"].tolist() == [b"Lena Berg", b"Oslo", b"Berg"]
  assert found["right"].tolist() == [b"Lena Berg", b"Berg"]
  rows = candidates.as_rows(candidates.record(tf.data.Dataset.from_tensors(RECORD)))
  assert [bool(row["is_correct"]) for row in rows] == [True, False, True]


@pytest.fixture
def features():
  vocabulary = vocabularies.EMBEDDED.load()
  return {name: seqio.Feature(vocabulary, rank=2) for name in ("inputs", "targets")}


@pytest.mark.parametrize("lengths", [None, {"inputs": 4, "targets": 2}, {"targets": 2}])
def test_tokens_are_columns_that_end_in_eos(features, lengths):
  dataset = candidates.tokenize(candidates.as_one(labelled()), features, lengths)
  (row, *_) = dataset.as_numpy_iterator()
  encode = vocabularies.EMBEDDED.load().encode
  for name, texts in {"inputs": ["is tea hot"] * 2, "targets": ["no", "yes"]}.items():
    room = (lengths or {}).get(name)
    expected = [[*encode(text)[: room - 1 if room else None], 1] for text in texts]
    longest = max(map(len, expected))
    assert row[name].dtype == "int32"
    assert row[name].shape == (longest, 2)
    assert row[name].T.tolist() == [ids + [0] * (longest - len(ids)) for ids in expected]
    assert row[f"{name}_pretokenized"].tolist() == [text.encode() for text in texts]
  assert row["is_correct"].tolist() == [False, True]


def described(labels=("no", "yes")):
  return variants.Description(
    source=variants.tfds("boolq:1.0.0", ("validation",)),
    preprocessors=[],
    postprocess=variants.labelled(labels),
    metrics=[metrics.accuracy],
    labels=labels,
  )


def test_a_scored_task_has_rows_scores_and_no_label_words():
  scored = candidates.scored(described())
  dataset = tf.data.Dataset.from_tensor_slices(QUESTIONS)
  for step in scored.preprocessors:
    dataset = step(dataset)
  assert [row["targets"] for row in dataset.as_numpy_iterator()] == [b"no", b"yes"] * 3
  assert scored.postprocess is postprocessors.rank_classification
  assert scored.labels is None
  own = candidates.scored(described(), [ranking_metrics.normed_rank_classification])
  assert own.metrics == [ranking_metrics.normed_rank_classification]


def test_its_metric_knows_the_number_of_classes():
  targets = [((n, i), n == i, 1.0, 1 + i) for n in range(3) for i in range(3)]
  scores = [1.0 if n == i else 0.0 for n in range(3) for i in range(3)]
  (metric,) = candidates.scored(described(("no", "yes", "maybe"))).metrics
  assert metric(targets, scores) == {"accuracy": 100.0, "mean_3class_f1": 100.0}


@pytest.mark.parametrize(("normed", "accuracy"), [(False, 0.0), (True, 100.0)])
def test_ranked_may_divide_by_the_length(normed, accuracy):
  targets = [((0, 0), False, 1.0, 1), ((0, 1), True, 1.0, 4)]
  found = candidates.ranked(("no", "yes"), normed)(targets, [-1.0, -2.0])
  assert found["accuracy"] == accuracy


def test_a_task_without_label_words_cannot_be_scored():
  with pytest.raises(AssertionError):
    candidates.scored(dataclasses.replace(described(), labels=None))
