"""A tokenizer of the `tokenizers` package as a seqio vocabulary: pad 0, EOS 1."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import seqio
import tensorflow as tf
import tokenizers

from prompt_tuning import checks
from prompt_tuning.special_tokens import SpecialTokens

_WORD_START = "▁"  # SentencePiece's mark
_ODD = "\x01 ẞ \U000e0001 🎬 ꙮ"  # what only bytes can spell


class TokenizerVocabulary(seqio.Vocabulary):
  """Ids are the tokenizer's in the order of `TokenOrder`; only `around` is added to a text.

  Special tokens that are spelled out in a text are text, so that nobody can forge the end
  of a turn, unless `specials` asks for them.

  Args:
    tokenizer: It is set to read special tokens as `specials` says.
    special: Its special tokens.
    specials: Whether "<|im_start|>" in a text is that token.
    around: Ids before and after every text, see `chat_templates`.

  Raises:
    InputError: It has tokens for too few texts, or none for padding.
  """

  def __init__(
    self,
    tokenizer: tokenizers.Tokenizer,
    special: SpecialTokens,
    specials: bool = False,
    around: tuple[Sequence[int], Sequence[int]] = ((), ()),
  ):
    super().__init__()
    tokenizer.encode_special_tokens = not specials
    order, count = special.order(), special.count
    assert count is not None  # there is a tokenizer
    self.tokenizer, self._special, self._specials = tokenizer, special, specials
    self._around = around
    self._theirs, self._ours = order.theirs(count), order.ours(count)
    content = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    self._key = (content, order, specials, around)
    if order.pad in tokenizer.encode(_ODD, add_special_tokens=False).ids:
      raise checks.InputError(
        f"the tokenizer of {special.where} makes its token {order.pad} of what it does not "
        "know, which is the one for padding here; expected one that spells the unknown in "
        "bytes; choose another"
      )

  @property
  def bos_id(self) -> int | None:
    """Id of the beginning of a text, if there is one."""
    return self._id(self._special.bos)

  @property
  def eos_id(self) -> int:
    """Id of the end of a text."""
    return 1

  @property
  def unk_id(self) -> int:
    """Id that takes the place of ids beyond the vocabulary; padding, without an own one."""
    found = self._id(self._special.unk)
    return self.pad_id if found is None else found

  @property
  def _base_vocab_size(self) -> int:
    return len(self._theirs)

  def _id(self, token: int | None) -> int | None:
    is_one = token is not None and 0 <= token < len(self._ours)
    return int(self._ours[token]) if is_one else None

  def pieces(self) -> Iterator[str]:
    """The text of every id in order, with ▁ where a word begins."""
    for token in self._theirs.tolist():
      text = self.tokenizer.id_to_token(token) or ""
      if not text.startswith(_WORD_START):  # bytes are spelled in letters of their own
        text = self.tokenizer.decode([token]).replace(" ", _WORD_START, 1)
      yield text

  def _encode(self, s: str) -> list[int]:
    ids = self._ours[self.tokenizer.encode(s, add_special_tokens=False).ids]
    before, after = self._around
    # Padding that is spelled out is none.
    return [*before, *ids[ids != self.pad_id].tolist(), *after]

  def _decode(self, ids: Sequence[int]) -> str:
    known = [int(number) for number in ids if 1 < number < len(self._theirs)]
    return self.tokenizer.decode(self._theirs[known].tolist(), skip_special_tokens=True)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    if s.shape.rank:
      rows = tf.RaggedTensorSpec([*s.shape[1:], None], tf.int32, s.shape.rank - 1)
      return tf.map_fn(self._encode_tf, s, fn_output_signature=rows)
    ids = tf.numpy_function(self._encode_bytes, [s], tf.int32, stateful=False)
    ids.set_shape([None])
    return ids

  def _encode_bytes(self, text: np.ndarray | bytes) -> np.ndarray:
    content = np.asarray(text, object).item()  # an array without axes where TF is eager
    return np.array(self._encode(content.decode("utf-8", "replace")), np.int32)

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    texts = tf.numpy_function(self._decode_rows, [ids], tf.string, stateful=False)
    texts.set_shape(ids.shape[:-1])
    return texts

  def _decode_rows(self, ids: np.ndarray) -> np.ndarray:
    rows = ids.reshape(-1, ids.shape[-1]).tolist()
    texts = np.array([self._decode(row).encode() for row in rows], object)
    return texts.reshape(ids.shape[:-1])

  def __eq__(self, other: object) -> bool:
    return isinstance(other, TokenizerVocabulary) and self._key == other._key

  def __hash__(self) -> int:
    return hash(self._key)

  def __reduce__(self):
    parts = (self.tokenizer, self._special, self._specials, self._around)
    return TokenizerVocabulary, parts

  def __str__(self) -> str:
    return f"the tokenizer of {self._special.where}"
