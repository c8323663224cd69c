"""Whole words of real vocabularies."""

from prompt_tuning.data import vocabularies, whole_words
from prompt_tuning.data.vocabularies import SentencePiece


def test_they_begin_words_and_have_letters_only():
  found = whole_words.of(vocabularies.EMBEDDED)
  assert len(found) == 2896 and list(found) == sorted(found)
  assert list(found.items())[:3] == [(260, "the"), (261, "a"), (264, "of")]
  tokenizer = vocabularies.EMBEDDED.load().tokenizer
  pieces = {n: tokenizer.id_to_piece(n) for n in range(tokenizer.get_piece_size())}
  left_out = {pieces[n] for n in pieces.keys() - found.keys()}
  for piece in ("▁", "s", ".", "<unk>", "<0x41>", "▁'"):
    assert piece in left_out
  assert not [piece for piece in left_out if piece[0] == "▁" and piece[1:].isalpha()]


def test_of_t5_s_vocabulary_they_are_of_any_language(fixtures):
  path = str(fixtures / "t5_vocab.model")
  found = whole_words.of(SentencePiece(sentencepiece_model_file=path))
  assert len(found) == 21537
  assert found[8] == "the" and {"für", "Intellectual"} <= set(found.values())


def test_bytes_have_none():
  assert whole_words.of(vocabularies.BYT5) == {}
