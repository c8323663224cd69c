"""Prompt recycling: label words, held-out ends, ReCoRD's candidates, random targets."""

import functools

import numpy as np
import pytest
import seqio
from more_records import (
  HELD_OUT,
  MORE,
  RECORDS,
  examples,
  first_example,
  prepared,
  texts,
  with_long_training,
)

from prompt_tuning.data import recycling, vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.evaluation import Evaluation

IMDB = {"0_1": ("0", "1"), "negative_positive": ("negative", "positive")}
QQP = {
  "not_duplicate_duplicate": ("not_duplicate", "duplicate"),
  "0_1": ("0", "1"),
  "unique_duplicate": ("unique", "duplicate"),
  "not_spc_duplicate_duplicate": ("not duplicate", "duplicate"),
}
PARTS = {  # name -> parts, the training part first
  "pr:glue_sst2_v200": ("train", "test", "test_rc"),
  **{f"pr:imdb_v100_{words}_verbalizers": ("train", "test", "test_rc") for words in IMDB},
  **{
    f"pr:glue_qqp_v200_{words}_verbalizers": ("training", "test", "rc", "rc_normed")
    for words in QQP
  },
  "pr:super_glue_record_v102": ("training", "test", "rc"),
}
DATA = {  # part of a name -> data set, held out
  "sst2": ("glue/sst2:2.0.0", 1000),
  "imdb": ("imdb_reviews/plain_text:1.0.0", 1000),
  "qqp": ("glue/qqp:2.0.0", 10_000),
  "record": ("super_glue/record:1.0.2", 10_000),
}


@pytest.fixture(autouse=True)
def embedded():
  vocabularies.use(vocabularies.EMBEDDED)
  yield
  vocabularies.use(None)


def data_of(name):
  return next(found for part, found in DATA.items() if part in name)


@pytest.mark.parametrize("name", PARTS)
def test_mixtures_are_all_parts_and_those_to_evaluate(name):
  parts = [f"{name}_{part}" for part in PARTS[name]]
  for mixture, members in ((name, parts), (f"{name}_eval", parts[1:])):
    found = seqio.MixtureRegistry.get(mixture)
    rates = {task.name: found.get_rate(task) for task in found.tasks}
    assert rates == dict.fromkeys(members, 1.0)


@pytest.mark.parametrize("name", PARTS)
def test_the_end_of_the_training_split_is_held_out(name):
  data, held = data_of(name)
  task = with_long_training(f"{name}_{PARTS[name][0]}")
  assert task.source.tfds_dataset.name == data
  total = HELD_OUT[data] + MORE
  assert task.num_input_examples("validation") == held
  assert task.num_input_examples("train") == total - held
  for split, first in (("train", 0), ("validation", total - held)):
    row = first_example(task, split, {"inputs": 64, "targets": 8})
    assert f"({first})".encode() in row["inputs_pretokenized"]


@pytest.mark.parametrize("words", IMDB)
def test_imdb_is_the_bare_text(words):
  name, labels = f"pr:imdb_v100_{words}_verbalizers", IMDB[words]
  rows = RECORDS["imdb_reviews/plain_text:1.0.0"]["test"]
  assert texts(f"{name}_test", "validation") == [
    (row["text"], labels[row["label"]]) for row in rows
  ]
  assert texts(f"{name}_test_rc", "validation") == [
    (row["text"], label) for row in rows for label in labels
  ]


@pytest.mark.parametrize("words", QQP)
def test_qqp_is_taskless_and_answers_with_the_words_of_its_name(words):
  name, labels = f"pr:glue_qqp_v200_{words}_verbalizers", QQP[words]
  rows = [
    (
      f"question1: {row['question1']} question2: {row['question2']}",
      labels,
      labels[row["label"]],
    )
    for row in RECORDS["glue/qqp:2.0.0"]["validation"]
  ]
  assert texts(f"{name}_test", "validation") == [(text, right) for text, _, right in rows]
  candidates = [(text, label) for text, both, _ in rows for label in both]
  assert texts(f"{name}_rc", "validation") == candidates
  assert texts(f"{name}_rc_normed", "validation") == candidates
  post = seqio.TaskRegistry.get(f"{name}_test").postprocess_fn
  assert [post(label) for label in (*labels, "both")] == [0, 1, -1]


def test_sst2_is_taskless():
  rows = RECORDS["glue/sst2:2.0.0"]["validation"]
  words = ("negative", "positive")
  assert texts("pr:glue_sst2_v200_test", "validation") == [
    (f"sentence: {row['sentence']}", words[row["label"]]) for row in rows
  ]
  assert texts("pr:glue_sst2_v200_test_rc", "validation") == [
    (f"sentence: {row['sentence']}", word) for row in rows for word in words
  ]


def test_record_s_candidates_are_its_entities_and_several_may_be_right():
  rows = examples("pr:super_glue_record_v102_rc", "validation")
  records = RECORDS["super_glue/record:1.0.2"]["validation"]
  expected = [
    (number, i, entity, entity in record["answers"])
    for number, record in enumerate(records)
    for i, entity in enumerate(record["entities"])
  ]
  assert [
    (*row["idx"].tolist(), row["targets_pretokenized"].decode(), bool(row["is_correct"]))
    for row in rows
  ] == expected
  assert max(len(record["answers"]) for record in records) > 1
  assert sum(right for *_, right in expected) == sum(len(r["answers"]) for r in records)
  first = records[0]
  assert rows[0]["inputs_pretokenized"].decode() == (
    f"query: {first['query']} entities: {', '.join(first['entities'])} "
    f"passage: {first['passage']}"
  )


@pytest.mark.parametrize(
  ("name", "metrics"),
  [
    ("pr:glue_sst2_v200_test_rc", {"accuracy", "f1", "auc-roc", "auc-pr"}),
    (
      "pr:imdb_v100_negative_positive_verbalizers_test_rc",
      {"accuracy", "f1", "auc-roc", "auc-pr"},
    ),
    (
      "pr:imdb_v100_0_1_verbalizers_test_rc",
      {f"{n}{m}" for n in ("", "normed_") for m in ("accuracy", "f1", "auc-roc", "auc-pr")},
    ),
    ("pr:super_glue_record_v102_rc", {"accuracy", "normed_accuracy"}),
  ],
)
def test_which_metrics_there_are(name, metrics):
  task = seqio.TaskRegistry.get(name)
  assert not task.predict_metric_fns and len(task.score_metric_fns) == len(task.metric_fns)
  targets = [((n, i), n % 2 == i, 1.0, 1 + i) for n in range(4) for i in range(2)]
  # The word of two tokens is right twice: -3 / 2 > -2, but -3 < -2.
  scores = [-1.0, -4.0, -2.0, -3.0] * 2
  found = [metric(targets, scores) for metric in task.score_metric_fns]
  values = {key: value for one in found for key, value in one.items()}
  assert set(values) == metrics
  assert values["accuracy"] == 50.0
  if "normed_accuracy" in values:
    assert values["normed_accuracy"] == 100.0


@pytest.mark.parametrize("words", QQP)
def test_only_one_of_qqp_s_is_normed_by_length(words):
  targets = [((0, 0), False, 1.0, 1), ((0, 1), True, 1.0, 2)]
  found = {}
  for part in ("rc", "rc_normed"):
    (metric,) = seqio.TaskRegistry.get(
      f"pr:glue_qqp_v200_{words}_verbalizers_{part}"
    ).score_metric_fns
    found[part] = metric(targets, [-2.0, -3.0])["accuracy"]
  assert found == {"rc": 0.0, "rc_normed": 100.0}


def wonder(batch, task):
  """Log-likelihoods of a reader who takes "wonderful" to be positive, nothing else."""
  vocabulary = vocabularies.EMBEDDED.load()
  scores = []
  for inputs, target in zip(
    batch["encoder_input_tokens"], batch["decoder_target_tokens"], strict=True
  ):
    likes = vocabulary.decode(inputs.tolist()).count("wonderful")
    positive = "positive" in vocabulary.decode(target.tolist())
    scores.append(float(likes) if positive else 0.5)
  return np.array(scores, np.float32)


def test_a_scored_task_is_evaluated_from_the_data_to_the_metrics():
  name = "pr:imdb_v100_negative_positive_verbalizers_test_rc"
  prepared("imdb_reviews/plain_text:1.0.0")
  config = DatasetConfig(
    mixture_or_task_name=name,
    task_feature_lengths={"inputs": 64, "targets": 8},
    split="validation",
    batch_size=4,
    shuffle=False,
    seed=0,
  )
  evaluation = Evaluation(config, seqio.get_mixture_or_task(name), None)
  values, texts_of = evaluation.run(None, wonder, 0)
  # Positive minus negative: 1.5 (right), -0.5 (right), 0.5 (wrong, "not the wonderful").
  # Precision 1 / 2 and recall 1 / 1; the positive one is above both others.
  assert values[name] == pytest.approx(
    {"accuracy": 200 / 3, "f1": 200 / 3, "auc-roc": 100.0, "auc-pr": 100.0}
  )
  assert texts_of == {name: []}


@functools.cache
def random_targets(seed):
  prepared("c4/en:2.2.0")
  task = seqio.TaskRegistry.get("c4_v220_random_positive_negative_targets")
  lengths = {"inputs": 16, "targets": 16}
  rows = task.get_dataset(lengths, "train", shuffle=False, seed=seed).as_numpy_iterator()
  return [(row["inputs"].tolist(), row["targets"].tolist()) for row in rows]


def test_random_targets_are_either_word_about_equally_often():
  encode = vocabularies.EMBEDDED.load().encode
  words = [[*encode(word), 1] for word in ("negative", "positive")]
  found = [targets for _, targets in random_targets(1)]
  assert len(found) > 150
  assert {tuple(targets) for targets in found} == {tuple(word) for word in words}
  share = found.count(words[1]) / len(found)
  assert abs(share - 0.5) < 3 * 0.5 / len(found) ** 0.5  # three standard deviations
  assert all(inputs[-1] == 1 and len(inputs) <= 16 for inputs, _ in random_targets(1))


def test_random_targets_are_a_function_of_the_seed():
  assert random_targets(1) == random_targets.__wrapped__(1)
  assert random_targets(1) != random_targets(2)


def test_the_label_words_are_the_original_s():
  assert set(recycling.IMDB_LABELS) == set(IMDB.values())
  assert set(recycling.QQP_LABELS) == set(QQP.values())
