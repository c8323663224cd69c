"""From decoded text to what metrics compare, as seqio calls it: twice per example."""

import functools

import numpy as np
import pytest

from prompt_tuning.data import postprocessors

CLASSES = ("negative", "positive")
labelled = functools.partial(postprocessors.string_label_to_class_id, label_classes=CLASSES)


@pytest.mark.parametrize(
  ("text", "found"),
  [("negative", 0), ("positive", 1), ("Positive", -1), (" positive", -1), ("", -1)],
)
def test_label_words_become_their_index(text, found):
  assert postprocessors.string_label_to_class_id(text, CLASSES) == found
  # seqio hands over the example as well.
  assert labelled(text, example={}, is_target=True) == found


def test_the_default_can_be_chosen():
  found = postprocessors.string_label_to_class_id("maybe", ("no", "yes"), default=7)
  assert found == 7
  assert postprocessors.string_to_float("maybe", default=2.5) == 2.5


@pytest.mark.parametrize(
  ("text", "number"),
  [
    ("3.2", 3.2),
    ("-1.0", -1.0),
    (" 4 ", 4.0),
    ("four", -1.0),
    ("", -1.0),
    ("3,2", -1.0),
    ("nan", -1.0),
    ("inf", -1.0),
  ],
)
def test_numbers_are_read(text, number):
  found = postprocessors.string_to_float(text, example={}, is_target=False)
  assert (found, type(found)) == (number, float)


@pytest.mark.parametrize(("text", "value"), [("True", 1), ("False", 0), ("true", -1)])
def test_multirc_targets_know_their_question(text, value):
  example = {"idx/question": np.int32(12), "idx/answer": np.int32(3)}
  target = postprocessors.multirc(text, example=example, is_target=True)
  assert target == {"value": value, "group": 12}
  assert postprocessors.multirc(text, example=example) == {"value": value}


def test_questions_have_all_right_answers():
  example = {
    "answers": np.array([b"Lena Berg", "Bj\u00f6rn".encode()], object),
    "idx/passage": np.int32(2),
    "idx/query": np.int32(9),
  }
  right = ["Lena Berg", "Bj\u00f6rn"]
  assert postprocessors.qa("Lena Berg", example=example, is_target=True) == right
  assert postprocessors.qa("Lena", example=example, is_target=False) == "Lena"
  target = postprocessors.record("Lena Berg", example=example, is_target=True)
  assert target == {"value": right, "group": (2, 9)}
  assert postprocessors.record("Lena", example=example) == {"value": "Lena"}


def test_a_scored_candidate_knows_its_example_and_its_length():
  example = {
    "idx": np.array([4, 1]),
    "is_correct": np.bool_(True),
    "targets": np.array([7, 8, 1]),
  }
  score = functools.partial(postprocessors.rank_classification, example=example)
  assert score(-0.5, is_target=False) == -0.5
  assert score(-0.5, is_target=True) == ((4, 1), True, 1.0, 3)
  example["weight"] = np.float32(0.25)
  assert score(-0.5, is_target=True) == ((4, 1), True, 0.25, 3)


@pytest.mark.parametrize(
  ("text", "is_target", "found"),
  [
    ("duplicate", False, 1),
    ("not_duplicate", False, 0),
    ("equivalent", False, 1),
    ("same", False, -1),
    ("equivalent", True, 1),
    ("duplicate", True, -1),  # targets are in this task's words already
  ],
)
def test_another_task_s_words_are_this_task_s(text, is_target, found):
  post = functools.partial(
    postprocessors.string_label_to_class_id,
    label_classes=("not_equivalent", "equivalent"),
  )
  value = postprocessors.replacing(
    text, {"duplicate": "equivalent"}, post, is_target=is_target, example={}
  )
  assert value == found


def test_an_answer_comes_with_its_texts():
  example = {
    "inputs_pretokenized": "caf\u00e9 au lait".encode(),
    "targets_pretokenized": b"positive",
    "inputs": np.array([5, 1]),
  }
  post = functools.partial(postprocessors.with_examples, postprocess=labelled)
  assert post("positive", example=example, is_target=True) == 1
  assert post("good", example=example, is_target=False) == {
    "prediction": -1,
    "prediction_pretokenized": "good",
    "inputs_pretokenized": "caf\u00e9 au lait",
    "targets_pretokenized": "positive",
  }
  assert post("negative", example={}) == {
    "prediction": 0,
    "prediction_pretokenized": "negative",
    "inputs_pretokenized": None,
    "targets_pretokenized": None,
  }


def test_without_a_postprocessor_the_text_is_the_answer():
  post = functools.partial(postprocessors.with_examples, postprocess=None)
  assert post("Tom", example={}, is_target=True) == "Tom"
  assert post("Tom", example={})["prediction"] == "Tom"
