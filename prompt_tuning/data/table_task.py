"""A table as a seqio Task, and how much of it is cut."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import (
  features,
  label_words,
  metrics,
  postprocessors,
  run_vocabulary,
  table_examples,
  vocabularies,
)
from prompt_tuning.data.table import Table

Lengths = Mapping[str, int]
_VOCABULARY = run_vocabulary.RunVocabulary(vocabularies.T5)
_CORRELATIONS = frozenset({"pearson_corrcoef", "spearman_corrcoef"})
_COMPARING = {  # what is compared -> the metrics that can
  "classes": _CORRELATIONS
  | {"accuracy", "exact_match", "f1", "macro_f1", "matthews_corrcoef"},
  "lists of right answers": {"squad"},
  "numbers": _CORRELATIONS,
  "texts": {"accuracy", "bleu", "exact_match", "rouge"},
}


@dataclasses.dataclass(frozen=True)
class _Registered:
  """A table whose task is in seqio's registry.

  Attributes:
    made_of: What it must be equal in to another to be the same.
    examples: Of every split.
  """

  made_of: tuple[str, ...]
  examples: Mapping[str, Sequence[table_examples.Example]]

  @functools.cache  # noqa: B019 tables are few, and stay registered
  def tokens(self, split: str, vocabulary: vocabularies.Vocabulary) -> dict[str, list[int]]:
    """Tokens of every input and target of a split, the one that ends it included."""


_registered: dict[str, _Registered] = {}


