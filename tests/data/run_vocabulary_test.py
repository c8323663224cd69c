"""A vocabulary that follows the run, whenever the task was registered."""

import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import features, vocabularies
from prompt_tuning.data.run_vocabulary import RunVocabulary

BYTES = vocabularies.Bytes()
SENTINELS = vocabularies.Bytes(extra_ids=100)


@pytest.fixture(autouse=True)
def no_run():
  vocabularies.use(None)
  yield
  vocabularies.use(None)


def test_it_is_the_default_until_a_run_chooses():
  vocabulary = RunVocabulary(BYTES)
  assert (vocabulary.vocab_size, vocabulary.extra_ids) == (259, 0)
  assert vocabulary.encode("ab") == [97 + 3, 98 + 3]
  assert str(vocabulary) == "the vocabulary bytes"
  vocabularies.use(vocabularies.EMBEDDED)
  embedded = vocabularies.EMBEDDED.load()
  assert (vocabulary.vocab_size, vocabulary.extra_ids) == (4096, 100)
  assert vocabulary.encode("a joy") == embedded.encode("a joy")
  assert str(vocabulary) == f"the vocabulary {vocabularies.EMBEDDED.name}"
  vocabularies.use(None)
  assert vocabulary.vocab_size == 259


@pytest.mark.parametrize("run", [SENTINELS, vocabularies.EMBEDDED])
def test_it_does_everything_that_the_run_s_vocabulary_does(run):
  vocabulary, loaded = RunVocabulary(BYTES), run.load()
  vocabularies.use(run)
  for name in ("pad_id", "bos_id", "eos_id", "unk_id", "vocab_size", "_base_vocab_size"):
    assert getattr(vocabulary, name) == getattr(loaded, name), name
  ids = loaded.encode("a joy to watch")
  assert vocabulary.encode("a joy to watch") == ids
  assert vocabulary.encode_tf(tf.constant("a joy to watch")).numpy().tolist() == ids
  assert vocabulary.decode([*ids, 1, 7]) == "a joy to watch"
  assert vocabulary.decode_tf(tf.constant([ids])).numpy().tolist() == [b"a joy to watch"]


def test_two_of_them_are_the_same_where_they_stand_for_the_same():
  first, second = RunVocabulary(BYTES), RunVocabulary(SENTINELS)
  assert first != second
  assert first == RunVocabulary(BYTES) == BYTES.load()
  assert first != vocabularies.EMBEDDED.load()
  vocabularies.use(vocabularies.EMBEDDED)
  assert first == second == vocabularies.EMBEDDED.load()
  assert first != BYTES.load()


def test_a_file_that_is_absent_is_named_when_it_is_needed(tmp_path):
  path = tmp_path / "none.model"
  vocabulary = RunVocabulary(vocabularies.SentencePiece(sentencepiece_model_file=str(path)))
  assert str(vocabulary) == f"the vocabulary {path}"
  with pytest.raises(checks.InputError, match=r"none\.model cannot be read"):
    vocabulary.encode("a")


def test_a_task_registered_before_the_run_speaks_its_vocabulary():
  found = features.text_to_text(BYTES)
  assert found.keys() == {"inputs", "targets"}
  assert all(feature.add_eos for feature in found.values())
  assert (found["inputs"].required, found["targets"].required) == (False, True)
  rows = tf.data.Dataset.from_tensors({"inputs": "ab", "targets": "c"})

  def tokens():
    (row,) = seqio.preprocessors.tokenize(rows, found).as_numpy_iterator()
    return row["inputs"].tolist(), row["targets"].tolist()

  assert tokens() == ([100, 101], [102])
  vocabularies.use(vocabularies.EMBEDDED)
  encode = vocabularies.EMBEDDED.load().encode
  assert tokens() == (encode("ab"), encode("c"))
