"""From QQP to MRPC and back: the target's texts, the source's words."""

import pytest
import seqio
from benchmark_records import answered, examples, numbers, texts

from prompt_tuning.data import glue_transfer, label_words

FORMS = ("", "taskless_", "task_index_")
SUFFIXES = ("", "_examples")
NAMES = {"mrpc": "glue_mrpc_from_qqp", "qqp": "glue_qqp_from_mrpc"}

assert glue_transfer.VERSION == "v002"


def test_texts_have_the_fields_and_words_of_the_target():
  assert texts("glue_mrpc_from_qqp_v002", "validation") == [
    (
      "mrpc sentence1: He resigned on Monday . sentence2: On Monday , he stepped down .",
      "equivalent",
    )
  ]
  assert texts("taskless_glue_qqp_from_mrpc_v002_examples", "validation") == [
    (
      "question1: How old is the Earth? question2: What is the age of the Earth?",
      "duplicate",
    )
  ]


@pytest.mark.parametrize("name", NAMES.values())
def test_only_the_validation_split_is_evaluated(name):
  task = seqio.TaskRegistry.get(f"task_index_{name}_v002_examples")
  assert list(task.splits) == ["validation"]


@pytest.mark.parametrize(
  ("target", "words"),
  [("mrpc", ("not_duplicate", "duplicate")), ("qqp", ("not_equivalent", "equivalent"))],
)
def test_it_answers_in_the_words_of_the_source(target, words):
  for form in FORMS:
    for suffix in SUFFIXES:
      assert label_words.of(f"{form}{NAMES[target]}_v002{suffix}") == words
  post = seqio.TaskRegistry.get(f"{NAMES[target]}_v002").postprocess_fn
  assert [post(word, example={}) for word in (*words, "not", "")] == [0, 1, -1, -1]


# 2 found, 1 missed, 1 too many ("maybe" for the class 0): F1 4 / (4 + 1 + 1).
@pytest.mark.parametrize(
  ("target", "targets", "answers"),
  [
    (
      "mrpc",
      ["equivalent", "equivalent", "equivalent", "not_equivalent", "not_equivalent"],
      ["duplicate", "duplicate", "not_duplicate", "not_duplicate", "maybe"],
    ),
    (
      "qqp",
      ["duplicate", "duplicate", "duplicate", "not_duplicate", "not_duplicate"],
      ["equivalent", "equivalent", "not_equivalent", "not_equivalent", "maybe"],
    ),
  ],
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_both_kinds_are_scored_from_the_words_of_the_source(
  form, target, targets, answers, suffix
):
  name = f"{form}{NAMES[target]}_v002{suffix}"
  found = answered(name, targets, answers)
  assert numbers(found) == pytest.approx({"f1": 100 * 4 / 6, "accuracy": 60.0})
  assert (f"{name} samples" in found) == bool(suffix)


def test_a_shown_answer_is_what_the_model_said():
  name = "taskless_glue_mrpc_from_qqp_v002_examples"
  (row,) = examples(name, "validation")
  found = seqio.TaskRegistry.get(name).postprocess_fn("not_duplicate", example=row)
  assert found == {
    "prediction": 0,
    "prediction_pretokenized": "not_duplicate",
    "inputs_pretokenized": (
      "sentence1: He resigned on Monday . sentence2: On Monday , he stepped down ."
    ),
    "targets_pretokenized": "equivalent",
  }


@pytest.mark.parametrize(("source", "target"), [("qqp", "mrpc"), ("mrpc", "qqp")])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_mixture_is_the_source_and_the_transfer_of_one_form(
  source, target, form, suffix
):
  for prefix in ("", "mt5_", "byt5_"):
    start, end = f"{prefix}{form}", f"v002{suffix}"
    mixture = seqio.MixtureRegistry.get(f"{start}{NAMES[target]}_zeroshot_{end}")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == {
      f"{start}glue_{source}_{end}": 1.0,
      f"{start}{NAMES[target]}_{end}": 1.0,
    }
