"""Queries: texts as tokens, what is refused of them, and likelihoods as answers."""

import numpy as np
import pytest

from prompt_tuning import checks, queries
from prompt_tuning.data import vocabularies
from prompt_tuning.queries import Prepared, Query, Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
  """Bytes: "a" is 100."""
  return Tokenizer(vocabularies.BYT5, max_input_len=8, max_output_len=4)


def ids(text):
  return [byte + 3 for byte in text.encode()]


def test_a_text_becomes_tokens_with_eos(tokenizer):
  prepared = tokenizer.prepare(Query(text="a bé"))
  np.testing.assert_array_equal(prepared.inputs, [*ids("a bé"), 1])
  assert prepared.inputs.dtype == np.int32
  assert prepared.candidates is None


def test_candidates_are_padded_to_the_longest(tokenizer):
  prepared = tokenizer.prepare(Query(text="a", candidates=("no", "yes", "x")))
  expected = [[*ids("no"), 1, 0], [*ids("yes"), 1], [*ids("x"), 1, 0, 0]]
  np.testing.assert_array_equal(prepared.candidates, expected)
  np.testing.assert_array_equal(tokenizer.labels(("no", "yes", "x")), expected)


def test_a_text_may_be_as_long_as_the_limit(tokenizer):
  assert len(tokenizer.prepare(Query(text="abcdefg")).inputs) == 8
  assert tokenizer.prepare(Query(text="a", candidates=("abc",))).candidates.shape == (1, 4)


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    ({"text": ""}, "the text is empty, expected some words"),
    ({"text": " \n\t"}, "the text is empty"),
    ({"text": "abcdefgh"}, "the text has 9 tokens with EOS, expected at most 8; shorten"),
    ({"text": "a", "candidates": ()}, "there are no candidates, expected at least one"),
    ({"text": "a", "candidates": ("b", " ")}, "the candidate ' ' is empty"),
    ({"text": "a", "candidates": ("b", "cdef")}, "candidate 'cdef' has 5 tokens with EOS"),
    ({"text": "a", "candidates": ("b", "c", "b")}, "the same to the vocabulary"),
  ],
)
def test_what_cannot_be_asked_is_refused(tokenizer, asked, message):
  with pytest.raises(checks.InputError, match=message):
    tokenizer.prepare(Query(**asked))


def test_words_that_the_vocabulary_does_not_know_are_no_labels():
  tokenizer = Tokenizer(vocabularies.EMBEDDED, 8, 4)
  np.testing.assert_array_equal(tokenizer.labels(("bad", "good"))[:, -1], 1)
  with pytest.raises(checks.InputError, match="the same to the vocabulary"):
    tokenizer.labels(("good", "Good"))  # it folds case


def test_what_was_decoded_is_read_up_to_eos(tokenizer):
  tokens = np.array([*ids("ok"), 1, 0, 0], np.int32)
  answer = tokenizer.decoded(np.array([5, 6, 1], np.int32), tokens, -2.5)
  assert answer == queries.Answer("ok", -2.5, (), 6)


def answered(normalized, likelihoods):
  targets = np.array([[5, 1, 0, 0], [5, 6, 7, 1]], np.int32)
  query = Query(text="a", candidates=("b", "c"), length_normalized=normalized)
  prepared = Prepared(query, np.array([100, 1], np.int32), targets)
  return queries.best(prepared, np.float32(likelihoods))


def test_the_most_probable_candidate_is_the_answer():
  assert answered(False, [-2.0, -3.0]) == queries.Answer(
    "b", -2.0, (-2.0, -3.0), 8, ("b", "c")
  )
  assert answered(False, [-4.0, -3.0]).text == "c"
  assert answered(False, [-3.0, -3.0]).text == "b"  # the first of equals


def test_normalized_scores_are_per_token_with_eos():
  assert answered(True, [-2.0, -3.0]) == queries.Answer(
    "c", -0.75, (-1.0, -0.75), 8, ("b", "c")
  )


def test_one_prompt_is_for_all_texts():
  texts = ["a", "b", "c"]
  assert queries.per_text(None, texts, "prompt") == [None] * 3
  assert queries.per_text("x", texts, "prompt") == ["x"] * 3
  assert queries.per_text(["x", None, "y"], texts, "prompt") == ["x", None, "y"]
  refusal = "there are 2 and 3 texts, expected one prompt for each text"
  with pytest.raises(checks.InputError, match=refusal):
    queries.per_text(["x", "y"], texts, "prompt")
