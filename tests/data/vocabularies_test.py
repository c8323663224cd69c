"""Vocabularies: laid out as T5's, trained from little text, refused when they are not."""

import pytest

from prompt_tuning import checks
from prompt_tuning.data import vocabularies


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("vocabulary")
  text = "\n".join(f"the film number {i} is good or bad" for i in range(300))
  (folder / "text.txt").write_text(text)
  out = folder / "sentencepiece.model"
  vocabularies.train([folder / "text.txt"], out, 300)
  assert sorted(path.name for path in folder.iterdir()) == [out.name, "text.txt"]
  return vocabularies.SentencePiece(sentencepiece_model_file=str(out)).load()


def test_a_trained_vocabulary_is_laid_out_as_t5_s(trained):
  assert (trained.pad_id, trained.eos_id, trained.unk_id) == (0, 1, 2)
  assert trained.vocab_size == 300 + vocabularies.EXTRA_IDS
  assert trained.decode([299 + 100]) == "<extra_id_0>"


def test_nothing_is_unknown_to_it_and_case_is_folded(trained):
  assert trained.encode("The FILM is good") == trained.encode("the film is good")
  assert trained.decode(trained.encode("the film ü жук 🎬")) == "the film ü жук 🎬"
  assert 2 not in trained.encode("ü жук 🎬")


def test_the_embedded_vocabulary_fits_its_model():
  found = vocabularies.EMBEDDED.load()
  assert found.vocab_size == 4096
  for word in ("positive", "negative"):
    assert len(found.encode(word)) == 1
  assert vocabularies.EMBEDDED.load() is found


def test_the_vocabulary_of_the_run_wins_over_a_default():
  vocabularies.use(vocabularies.EMBEDDED)
  assert vocabularies.current(vocabularies.T5) is vocabularies.EMBEDDED


def test_text_that_is_absent_or_too_little_is_refused(tmp_path):
  with pytest.raises(checks.InputError, match="there is no text"):
    vocabularies.train([tmp_path / "none.txt"], tmp_path / "x.model", 300)
  (tmp_path / "text.txt").write_text("a b c\n")
  with pytest.raises(checks.InputError, match="no vocabulary of 4000 pieces"):
    vocabularies.train([tmp_path / "text.txt"], tmp_path / "x.model", 4000)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x0a\xff\xff\xff"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, content):
  path = tmp_path / "sentencepiece.model"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(checks.InputError, match=r"sentencepiece\.model cannot be read"):
    vocabularies.SentencePiece(sentencepiece_model_file=str(path)).load()


def test_the_original_s_vocabulary_reads_as_the_original_read_it(fixtures, golden):
  model = vocabularies.SentencePiece(
    sentencepiece_model_file=str(fixtures / "t5_vocab.model")
  ).load()
  assert model.vocab_size == 32100
  assert model.encode("positive") == [1465]
  assert model.encode("negative") == [2841]
