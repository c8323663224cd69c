"""Which tokens two models are compared by, and their vectors in a model.

  ids of whole words, ascending   [ offset ][   learned from   ][ tested ] ...
                                    1000            4000           1000

Where no word follows those learned from, the ones in front are tested.
"""

import dataclasses
import json
from typing import Protocol

import numpy as np

from prompt_tuning import checks, files, formats, inspection
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.data import vocabularies, whole_words
from prompt_tuning.data.vocabularies import Vocabulary

TABLE = "token_embedder/embedding"
_MOST_TESTED = 1000


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Token ids.

  Attributes:
    learned: What a recycler learns from.
    tested: Others, by which it is judged; there may be none.
    vocabulary: SHA-256 of the vocabulary they are ids of, where it is known.
  """

  learned: np.ndarray
  tested: np.ndarray
  vocabulary: str | None


class Choice(Protocol):
  """A way to choose tokens."""

  def pairs(self, rows: int) -> Pairs:
    """Those of tables with so many rows.

    Raises:
      InputError: There are too few.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
  """Words by id: the first `word_offset` are left out, the next `num_words` taken.

  Attributes:
    num_words: How many.
    word_offset: How many in front are skipped.
    filtered_word: JSON file {id: text} of the words; None is all whole words of the
      vocabulary, see `whole_words.of`.
    vocabulary: The models'; None is the published one with a table of that size.
  """

  num_words: int = 4000
  word_offset: int = 1000
  filtered_word: str | None = None
  vocabulary: Vocabulary | None = None

  def __post_init__(self):
    checks.whole("num_words", self.num_words, 1, "correct it")
    checks.whole("word_offset", self.word_offset, 0, "correct it")

  def pairs(self, rows: int) -> Pairs:
    """See `Choice`."""
    vocabulary = self.vocabulary
    if self.filtered_word is not None:
      ids, where = _listed(self.filtered_word), self.filtered_word
    else:
      vocabulary = vocabulary or vocabularies.of_size(rows)
      ids, where = list(whole_words.of(vocabulary)), f"the vocabulary {vocabulary.name}"
    end = self.word_offset + self.num_words
    if len(ids) < end:
      raise checks.InputError(
        f"{where} has {len(ids)} words, expected {end} ({self.word_offset} skipped, "
        f"{self.num_words} taken); lower num_words or word_offset"
      )
    tested = ids[end : end + _MOST_TESTED] or ids[: self.word_offset][-_MOST_TESTED:]
    known = None if vocabulary is None else vocabulary.fingerprint()
    return Pairs(_within(ids[self.word_offset : end], rows), _within(tested, rows), known)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """The pieces of a text, for prompts that stayed near it (wayward prompts).

  Attributes:
    text: Any.
    vocabulary: See `Words`.
  """

  text: str
  vocabulary: Vocabulary | None = None

  def pairs(self, rows: int) -> Pairs:
    """See `Choice`."""
    vocabulary = self.vocabulary or vocabularies.of_size(rows)
    ids = list(vocabulary.load().encode(self.text))
    if not ids:
      raise checks.InputError(
        f"the text {self.text!r} has no pieces, expected some; give a task in words"
      )
    return Pairs(_within(ids, rows), _within([], rows), vocabulary.fingerprint())


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """The table of a model.

  Attributes:
    checkpoint: Where it lies.
    table: [vocab, d_model].
  """

  checkpoint: Checkpoint
  table: np.ndarray

  @classmethod
  def load(cls, path: str, variable: str = TABLE) -> "Embeddings":
    """Reads the table of a checkpoint of any format, and nothing else.

    Raises:
      InputError: There is no checkpoint, or no table in it.
    """
    checkpoint = formats.load(path)
    leaf = checkpoint.leaf(variable)
    if len(leaf.shape) != 2:
      raise checks.InputError(
        f"{variable} of {path} has shape {list(leaf.shape)}, expected [vocab, d_model]; "
        "name the table"
      )
    return cls(checkpoint, leaf.read())

  def of(self, ids: np.ndarray) -> np.ndarray:
    """The vectors of tokens, [n, d_model] float32."""
    return self.table[ids].astype(np.float32)

  def fingerprint(self) -> str:
    """That of the model, whose other weights are read for it, one at a time."""
    found = self.checkpoint
    leaves = {**found.leaves, TABLE: Inline(self.table)}
    return inspection.fingerprint(Checkpoint(found.path, found.format, leaves))


def check_rows(rows: dict[str, int]) -> None:
  """Raises `InputError` unless all models, {name: rows of the table}, have as many."""
  if len(set(rows.values())) > 1:
    listed = ", ".join(f"{name} has {count}" for name, count in rows.items())
    raise checks.InputError(
      f"the models' tables differ in rows ({listed}), expected one vocabulary for all; "
      "choose models that share it"
    )


def _listed(path: str) -> list[int]:
  """The ids of a JSON file {id: text}, in its order."""
  try:
    found = json.loads(files.path(path).read_text())
    if not isinstance(found, dict):
      raise ValueError("it is no JSON object")
    return [int(name) for name in found]
  except (OSError, ValueError) as error:
    raise checks.InputError(
      f"the word list {path} cannot be read ({str(error)[:120]}), expected JSON "
      '{"id": "text", ...}; correct it'
    ) from error


def _within(ids: list[int], rows: int) -> np.ndarray:
  found = np.asarray(ids, np.int64)
  if found.size and not 0 <= found.min() <= found.max() < rows:
    raise checks.InputError(
      f"the words have ids {found.min()} to {found.max()}, the models' tables {rows} "
      "rows; choose the words of the models' own vocabulary"
    )
  return found
