"""Winograd schemas: which word is marked, and which answer means a noun."""

import pytest
import tensorflow as tf

from prompt_tuning.data import coreference

PONY = '"Good for him," he said. '


def wsc(text, index, pronoun, noun="John", label=1, **kwargs):
  record = {
    "text": text,
    "span1_index": 0,
    "span1_text": noun,
    "span2_index": index,
    "span2_text": pronoun,
    "label": label,
    "idx": 5,
  }
  rows = coreference.wsc_simple(tf.data.Dataset.from_tensors(record), **kwargs)
  return list(rows.as_numpy_iterator())


@pytest.mark.parametrize(
  ("text", "index", "pronoun", "marked"),
  [
    ("He hit him as he ran .", 2, "him", "He hit *him* as he ran ."),
    ("He hit him as he ran .", 4, "he", "He hit him as *he* ran ."),
    ("He hit him as he ran .", 0, "He", "*He* hit him as he ran ."),
    ("It rained , so use it", 5, "it", "It rained , so use *it*"),
    # The index is one too small: the pronoun is the next word.
    ("They might want to use it , but", 4, "it", "They might want to use *it* , but"),
    # A mark sticks to the pronoun and becomes a word.
    (PONY, 2, "him", '"Good for *him* ," he said.'),
    ("Ann waved when she left.", 3, "she", "Ann waved when *she* left."),
  ],
)
def test_the_pronoun_of_a_record_is_marked(text, index, pronoun, marked):
  (found,) = wsc(text, index, pronoun)
  assert found["inputs"].decode() == f"wsc: {marked}"
  assert found["targets"] == b"John"
  assert (found["label"], found["idx"]) == (1, 5)


@pytest.mark.parametrize(("label", "kept"), [(1, 1), (0, 0), (-1, 0)])
def test_only_right_nouns_are_learned(label, kept):
  assert len(wsc("He ran", 0, "He", label=label, correct_referent_only=True)) == kept
  assert len(wsc("He ran", 0, "He", label=label)) == 1


@pytest.mark.parametrize(
  ("sentence", "pronoun", "marked"),
  [
    ("Bob asked Tom if he can lend, he said.", "he", "Bob asked Tom if *he* can lend, he"),
    ("Ann saw Eve, so Ann hid from her.", "her", "Ann saw Eve, so Ann hid from *her*."),
    ("Ann saw her, and ran from her.", "her", "Ann saw *her*, and ran from her."),
    ("The hero said he won.", "he", "The hero said *he* won."),
    ("He won.", "he", "He won."),
  ],
)
@pytest.mark.parametrize(("label", "answer"), [(0, b"Bob"), (1, b"Tom")])
def test_dpr_marks_the_first_pronoun_and_asks_for_a_candidate(
  sentence, pronoun, marked, label, answer
):
  record = {
    "sentence": sentence,
    "pronoun": pronoun,
    "candidates": ["Bob", "Tom"],
    "label": label,
  }
  rows = coreference.dpr_simple(tf.data.Dataset.from_tensors(record))
  (found,) = rows.as_numpy_iterator()
  assert found["inputs"].decode().startswith(f"wsc: {marked}")
  assert found["targets"] == answer


@pytest.mark.parametrize(
  ("answer", "noun", "means"),
  [
    ("Bob", "Bob", 1),
    ("bob ", "BOB", 1),
    ("the fuzzy bunny", "bunny", 1),
    ("bunny", "my fuzzy bunny", 1),
    ("a  b", "b", 1),
    ("Bob's hat", "bob's", 1),
    ("Bob", "Bob's", 0),
    ("Bob's hat", "hat", 0),
    ("Tom", "Bob", 0),
    ("cats", "the cat", 0),
    ("old Tom", "young Tom", 0),
    ("", "Bob", -1),
    ("the", "Bob", -1),
    (" The those ", "Bob", -1),
  ],
)
def test_an_answer_means_the_noun_or_not(answer, noun, means):
  example = {"label": 1, "targets_pretokenized": noun.encode()}
  assert coreference.wsc_matches(answer, example) == means
  for label in (0, 1):  # the target is the record's label, whatever its text
    example["label"] = label
    assert coreference.wsc_matches(answer, example, is_target=True) == label
