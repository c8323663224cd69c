"""From the fields of a record to text, one step at a time."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning.data import preprocessors, vocabularies

FEATURES = {
  name: seqio.Feature(vocabularies.EMBEDDED.load()) for name in ("inputs", "targets")
}


def applied(step, *records, **kwargs):
  """What a step makes of records; bytes come back as text."""
  columns = {key: [record[key] for record in records] for key in records[0]}
  dataset = step(tf.data.Dataset.from_tensor_slices(columns), **kwargs)
  return [
    {k: v.decode() if isinstance(v, bytes) else v for k, v in row.items()}
    for row in dataset.as_numpy_iterator()
  ]


@pytest.mark.parametrize(
  ("label", "word"), [(0, "unsafe"), (1, "safe"), (2, "unclear"), (-1, "<unk>")]
)
def test_classification_names_the_task_its_fields_and_the_label(label, word):
  record = {"asked": "May I swim?", "answer": "No.", "label": label, "idx": 3}
  found = applied(
    preprocessors.classification,
    record,
    name="pool",
    fields=("answer", "asked"),
    labels=("unsafe", "safe", "unclear"),
    titles={"asked": "question"},
  )
  text = "pool answer: No. question: May I swim?"
  assert found == [{"idx": 3, "inputs": text, "targets": word}]


def test_nested_numbers_become_names_with_a_slash_and_none_are_needed():
  nested = {"text": "Hi.", "label": 0, "idx": {"page": 4, "line": 2}}
  rows = tf.data.Dataset.from_tensors(nested)
  kwargs = {"name": "x", "fields": ("text",), "labels": ("a", "b")}
  (found,) = preprocessors.classification(rows, **kwargs).as_numpy_iterator()
  expected = {"idx/page": 4, "idx/line": 2, "inputs": b"x text: Hi.", "targets": b"a"}
  assert found == expected
  (found,) = applied(preprocessors.classification, {"text": "Hi.", "label": 1}, **kwargs)
  assert found == {"inputs": "x text: Hi.", "targets": "b"}


# In steps of 0.2; halves of a step go to the even one: 2.5 is 12.5 steps, 12 of them 2.4.
@pytest.mark.parametrize(
  ("similarity", "text"),
  [
    *[(0.0, "0.0"), (0.1, "0.0"), (0.3, "0.4"), (2.5, "2.4"), (2.7, "2.8")],
    *[(3.14, "3.2"), (4.9, "4.8"), (5.0, "5.0"), (-1.0, "-1.0")],
  ],
)
def test_stsb_rounds_to_a_fifth(similarity, text):
  record = {"sentence1": "A.", "sentence2": "B.", "label": np.float32(similarity), "idx": 0}
  (found,) = applied(preprocessors.stsb, record)
  assert found["inputs"] == "stsb sentence1: A. sentence2: B."
  assert found["targets"] == text


@pytest.mark.parametrize(
  ("text", "bare"),
  [
    ("sst2 sentence: a joy", "sentence: a joy"),
    ("question: sst2 it is", "sst2 it is"),
    ("two  spaces", " spaces"),
    (" leading", "leading"),
    ("word", "word"),
    ("", ""),
  ],
)
def test_the_first_word_goes_once_with_one_space(text, bare):
  rows = [{"inputs": text, "targets": text}]
  found = applied(preprocessors.remove_first_text_token, *rows)
  assert found == [{"inputs": bare, "targets": text}]


def test_white_space_and_markup():
  rows = [{"inputs": "a\t b\n\nc "}]
  assert applied(preprocessors.single_spaced, *rows) == [{"inputs": "a b c "}]
  rows = [{"inputs": "<b>One</b><br><br>Two <i>x</i>"}]
  assert applied(preprocessors.without_markup, *rows) == [{"inputs": "One  Two <i>x</i>"}]


def test_a_field_as_it_is_with_a_label():
  rows = [{"text": "Good  film", "label": 1}, {"text": "?", "label": -1}]
  kwargs = {"field": "text", "labels": ("0", "1")}
  assert applied(preprocessors.labelled_text, *rows, **kwargs) == [
    {"inputs": "Good  film", "targets": "1"},
    {"inputs": "?", "targets": "<unk>"},
  ]


@pytest.mark.parametrize(
  ("words", "text"),
  [
    ({}, "Long text."),
    ({"prefix": "summarize:"}, "summarize: Long text."),
    ({"name": "news", "prefix": "summarize:"}, "news summarize: Long text."),
  ],
)
def test_text_generation(words, text):
  record = {"page": {"body": "Long text.", "notes": {"short": "Short."}}}
  dataset = tf.data.Dataset.from_tensors(record)
  step = preprocessors.text_generation
  dataset = step(dataset, source="page/body", target="page/notes/short", **words)
  (found,) = dataset.as_numpy_iterator()
  assert found == {"inputs": text.encode(), "targets": b"Short."}


def test_a_sentinel_comes_first_and_counts_from_the_top():
  rows = [{"inputs": [5, 6], "targets": [7]}]
  for offset in (0, 8):
    (found,) = applied(
      preprocessors.add_sentinel_to_beginning,
      *rows,
      output_features=FEATURES,
      offset=offset,
    )
    assert found["inputs"].tolist() == [4096 - 1 - offset, 5, 6]
    assert found["targets"].tolist() == [7]


def test_random_targets_are_drawn_anew_and_evenly():
  rows = [{"inputs": [i], "targets": [0]} for i in range(200)]
  texts = ("positive", "not good")
  with seqio.utils.map_seed_manager(7):
    found = applied(
      preprocessors.random_targets, *rows, output_features=FEATURES, targets=texts
    )
  vocabulary = FEATURES["targets"].vocabulary
  drawn = [vocabulary.decode(row["targets"].tolist()) for row in found]
  assert set(drawn) == set(texts)
  assert 70 < drawn.count("positive") < 130  # 100, give or take 4 deviations of 7
  assert [row["inputs"].tolist() for row in found] == [[i] for i in range(200)]
