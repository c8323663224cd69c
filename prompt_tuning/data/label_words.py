"""Which strings a classification task chooses from, by the name of the task.

Rank classification asks here (`LABELS = 'task'`), so that every task of a mixture is
answered with its own words. Tasks of one's own declare theirs when they are registered.
"""

from collections.abc import Sequence

_declared: dict[str, tuple[str, ...]] = {}


def declare(task: str, words: Sequence[str]) -> None:
  """Says that `task` is answered with one of `words`, in the order of the classes."""
  _declared[task] = tuple(words)


def of(task: str) -> tuple[str, ...] | None:
  """The words of a task in class order, or None for one that is answered freely."""
  return _declared.get(task)
