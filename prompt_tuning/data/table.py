"""Files of one's own as a task: data about data, no TensorFlow needed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Rows with named columns that become a text-to-text task.

  Attributes:
    name: Of the task that is registered.
    train: A .csv, .tsv, .jsonl or .parquet file, a folder that Hugging Face `datasets`
      saved, or a `datasets.Dataset`; None where there is no such split.
    validation: The same.
    test: The same.
    inputs: Template of the input, `"review: {text}"`.
    targets: The column with the target.
    labels: {value in the column: label word}, or the words themselves; None for free text.
    metrics: Names of `data.metrics`.
  """

  name: str
  train: Any = None
  validation: Any = None
  test: Any = None
  inputs: str
  targets: str
  labels: Mapping[str, str] | Sequence[str] | None = None
  metrics: Sequence[str] = ("accuracy",)

  def register(self) -> None:
    """Adds the task to seqio's registry."""
    raise NotImplementedError
