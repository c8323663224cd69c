"""Label words: exactly as written, or as the vocabulary cannot help spelling them."""

import pytest

from prompt_tuning.data import label_words, vocabularies

WORDS = ("False", "True")


@pytest.fixture
def folding():
  """A vocabulary that knows no capitals."""
  vocabularies.use(vocabularies.EMBEDDED)
  yield
  vocabularies.use(None)


def test_without_a_vocabulary_only_the_words_themselves_count():
  found = [label_words.class_of(text, WORDS) for text in ("True", "False", "true", "")]
  assert found == [1, 0, None, None]


def test_a_vocabulary_that_folds_case_is_understood(folding):
  texts = ("true", "True", "false", "falsehood")
  assert [label_words.class_of(text, WORDS) for text in texts] == [1, 1, 0, None]


def test_a_vocabulary_with_capitals_keeps_them_apart(fixtures):
  path = str(fixtures / "t5_vocab.model")
  vocabularies.use(vocabularies.SentencePiece(sentencepiece_model_file=path))
  assert [label_words.class_of(text, WORDS) for text in ("True", "true")] == [1, None]
  vocabularies.use(None)


def test_words_are_declared_by_task():
  label_words.declare("a_task_of_this_test", ["no", "yes"])
  assert label_words.of("a_task_of_this_test") == ("no", "yes")
  assert label_words.of("another_task") is None
