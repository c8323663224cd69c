"""Which strings a classification task chooses from, by the name of the task.

Rank classification asks here (`LABELS = 'task'`), so that every task of a mixture is
answered with its own words. Tasks of one's own declare theirs when they are registered.
"""

import functools
from collections.abc import Sequence

from prompt_tuning.data import vocabularies

_declared: dict[str, tuple[str, ...]] = {}


def declare(task: str, words: Sequence[str]) -> None:
  """Says that `task` is answered with one of `words`, in the order of the classes."""
  _declared[task] = tuple(words)


def of(task: str) -> tuple[str, ...] | None:
  """The words of a task in class order, or None for one that is answered freely."""
  return _declared.get(task) or None


def class_of(text: str, words: Sequence[str]) -> int | None:
  """Which of the label words an answer is, or None.

  A vocabulary that folds case, or lacks a character, decodes a word otherwise than it was
  written; that spelling is the word, too.
  """
  for spelling in (tuple(words), _spelled(tuple(words), vocabularies.chosen())):
    if text in spelling:
      return spelling.index(text)
  return None


@functools.cache
def _spelled(
  words: tuple[str, ...], vocabulary: vocabularies.Vocabulary | None
) -> tuple[str, ...]:
  if vocabulary is None:
    return words
  model = vocabulary.load()
  return tuple(model.decode(model.encode(word)) for word in words)
