"""Which pieces of a vocabulary are whole words."""

from collections.abc import Iterable

from prompt_tuning.data.vocabularies import Bytes, SentencePiece, Tokenizer, Vocabulary

_WORD_START = "▁"  # SentencePiece's mark


def of(vocabulary: Vocabulary) -> dict[int, str]:
  """The whole words, {id: text}, ids ascending, which is by frequency as a rule.

  A whole word begins where a word begins and has letters only, of any script:

    ▁the  ▁Movies  ▁über      yes
    ing   ▁2022    ▁it's  ▁   no

  Bytes have none.

  Raises:
    InputError: The vocabulary is absent or damaged.
  """
  if isinstance(vocabulary, Bytes):
    return {}
  words = (
    (n, text[1:])
    for n, text in enumerate(_pieces(vocabulary))
    if text.startswith(_WORD_START)
  )
  return {n: word for n, word in words if word.isalpha()}


def _pieces(vocabulary: SentencePiece | Tokenizer) -> Iterable[str]:
  """The text of every id in order."""
  if isinstance(vocabulary, Tokenizer):
    return vocabulary.load().pieces()
  pieces = vocabulary.load().tokenizer
  return map(pieces.id_to_piece, range(pieces.get_piece_size()))
