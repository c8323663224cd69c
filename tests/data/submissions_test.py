"""What is handed in to the leaderboards: names, numbers and words as they want them."""

import json

import numpy as np
import pytest

from prompt_tuning.data import label_words, registry, submissions


def rows(submission):
  return [json.loads(line) for line in submission.content.splitlines()]


def numbered(*numbers):
  return [{"idx": number} for number in numbers]


@pytest.mark.parametrize(
  ("config", "name", "answers", "labels"),
  [
    ("boolq", "BoolQ.jsonl", ["True", "False"], ["true", "false"]),
    ("cb", "CB.jsonl", ["neutral", "contradiction"], ["neutral", "contradiction"]),
    ("copa", "COPA.jsonl", ["choice2", "choice1"], [1, 0]),
    (
      "rte",
      "RTE.jsonl",
      ["not_entailment", "entailment"],
      ["not_entailment", "entailment"],
    ),
    ("wic", "WiC.jsonl", ["False", "True"], ["false", "true"]),
    ("axb", "AX-b.jsonl", ["entailment", "entailment"], ["entailment", "entailment"]),
    (
      "axg",
      "AX-g.jsonl",
      ["entailment", "not_entailment"],
      ["entailment", "not_entailment"],
    ),
  ],
)
def test_super_glue_takes_a_line_per_record(config, name, answers, labels):
  found = submissions.of("a_task", f"super_glue/{config}:1.0.2", numbered(4, 2), answers)
  assert (found.name, found.unreadable) == (name, 0)
  assert rows(found) == [
    {"idx": i, "label": x} for i, x in zip((4, 2), labels, strict=True)
  ]


def test_multirc_nests_answers_in_questions_in_paragraphs():
  places = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3)]
  examples = [
    {"idx/paragraph": p, "idx/question": q, "idx/answer": a} for p, q, a in places
  ]
  answers = ["True", "False", "True", "maybe"]
  found = submissions.of("a_task", "super_glue/multirc:1.0.2", examples, answers)
  assert (found.name, found.unreadable) == ("MultiRC.jsonl", 1)
  first = {"idx": 0, "answers": [{"idx": 0, "label": 1}, {"idx": 1, "label": 0}]}
  second = {"idx": 1, "answers": [{"idx": 2, "label": 1}]}
  third = {"idx": 2, "answers": [{"idx": 3, "label": 0}]}
  assert rows(found) == [
    {"idx": 0, "passage": {"questions": [first, second]}},
    {"idx": 1, "passage": {"questions": [third]}},
  ]


def test_record_is_answered_once_per_query():
  examples = [{"idx/passage": 0, "idx/query": q} for q in (7, 7, 8)]
  found = submissions.of(
    "a_task", "super_glue/record:1.0.2", examples, ["Oslo", "Bergen", "Åse"]
  )
  assert found.name == "ReCoRD.jsonl"
  assert rows(found) == [{"idx": 7, "label": "Oslo"}, {"idx": 8, "label": "Åse"}]


def test_wsc_says_whether_the_noun_was_meant():
  examples = [{"idx": i, "label": -1, "targets_pretokenized": b"the dog"} for i in range(3)]
  found = submissions.of(
    "a_task", "super_glue/wsc.fixed:1.0.2", examples, ["Dog", "a cat", ""]
  )
  assert found.name == "WSC.jsonl"
  assert [row["label"] for row in rows(found)] == ["True", "False", "False"]


@pytest.mark.parametrize(
  ("config", "name", "answers", "labels"),
  [
    ("cola", "CoLA.tsv", ["acceptable", "unacceptable"], ["1", "0"]),
    ("sst2", "SST-2.tsv", ["negative", "positive"], ["0", "1"]),
    ("mrpc", "MRPC.tsv", ["equivalent", "not_equivalent"], ["1", "0"]),
    ("qqp", "QQP.tsv", ["duplicate", "nonsense"], ["1", "0"]),
    ("mnli_matched", "MNLI-m.tsv", ["neutral", "entailment"], ["neutral", "entailment"]),
    ("mnli_mismatched", "MNLI-mm.tsv", ["neutral", "neutral"], ["neutral", "neutral"]),
    ("qnli", "QNLI.tsv", ["entailment", "entailment"], ["entailment", "entailment"]),
    ("rte", "RTE.tsv", ["entailment", "not_entailment"], ["entailment", "not_entailment"]),
    ("wnli", "WNLI.tsv", ["entailment", "not_entailment"], ["1", "0"]),
    ("ax", "AX.tsv", ["contradiction", "neutral"], ["contradiction", "neutral"]),
    ("stsb", "STS-B.tsv", ["3.2", "7"], ["3.200", "5.000"]),
  ],
)
def test_glue_takes_a_table_in_the_order_of_its_records(config, name, answers, labels):
  found = submissions.of("a_task", f"glue/{config}:2.0.0", numbered(9, 3), answers)
  assert found.name == name
  head, *lines = found.content.splitlines()
  assert head == "index\tprediction"
  assert lines == [f"3\t{labels[1]}", f"9\t{labels[0]}"]


def test_similarity_stays_between_zero_and_five():
  found = submissions.of("a_task", "glue/stsb:2.0.0", numbered(0, 1), ["no number", "-3"])
  assert found.content.splitlines()[1:] == ["0\t0.000", "1\t0.000"]


@pytest.mark.parametrize(
  "dataset", ["xsum:1.1.0", "glue/mnli:2.0.0", "super_glue/wsc:1.0.2"]
)
def test_nothing_else_is_handed_in(dataset):
  assert submissions.of("a_task", dataset, numbered(0), ["x"]) is None


@pytest.mark.parametrize(
  ("task", "answers"),
  [
    ("glue_mrpc_from_qqp_v002", ["duplicate", "not_duplicate"]),
    ("taskless_glue_mrpc_v200", ["equivalent", "not_equivalent"]),
  ],
)
def test_a_task_with_words_of_its_own_is_handed_in_by_class(task, answers):
  assert registry.named(task)  # registering it declares its words
  found = submissions.of(task, "glue/mrpc:1.0.0", numbered(0, 1), answers)
  assert found.unreadable == 0
  assert found.content.splitlines()[1:] == ["0\t1", "1\t0"]


@pytest.mark.parametrize(
  ("dataset", "example"),
  [
    ("glue/sst2:2.0.0", {"inputs": 1}),
    ("super_glue/record:1.0.2", {"idx": 1}),
    ("super_glue/copa:1.0.2", {"idx": np.array([0, 1])}),
  ],
)
def test_a_task_that_has_not_kept_the_numbers_of_its_records_is_not_handed_in(
  dataset, example
):
  assert submissions.of("my_own", dataset, [example], ["x"]) is None


def test_a_task_with_other_classes_is_not_handed_in():
  label_words.declare("three_words_for_sst2", ["bad", "so so", "good"])
  found = submissions.of("three_words_for_sst2", "glue/sst2:2.0.0", numbered(0), ["good"])
  assert found is None
