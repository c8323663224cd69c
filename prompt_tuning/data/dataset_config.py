"""Which examples a run reads: data about data, no TensorFlow needed."""

import dataclasses
from collections.abc import Mapping

from prompt_tuning import checks
from prompt_tuning.data.table import Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
  """One view of a seqio Task or Mixture, with T5X's field names.

  Attributes:
    mixture_or_task_name: Name in seqio's registry.
    task_feature_lengths: Tokens per feature, {"inputs": 512, "targets": 8}; longer
      examples are cut. None takes the longest example of an evaluation split.
    split: "train", "validation", "test" or whatever the task has.
    batch_size: Global batch size.
    shuffle: Whether examples are shuffled.
    seed: Of the shuffling.
    use_cached: Whether to read seqio's offline cache.
    pack: Whether rows hold several examples.
    module: Python module that registers the task when imported.
    table: Files of one's own that make up the task, registered under the table's name.
  """

  mixture_or_task_name: str
  task_feature_lengths: Mapping[str, int] | None
  split: str
  batch_size: int
  shuffle: bool = False
  seed: int | None = 42
  use_cached: bool = False
  pack: bool = False
  module: str | None = None
  table: Table | None = None

  def __post_init__(self):
    if self.pack:
      raise checks.InputError(
        f"pack is True for split {self.split!r}, expected False: this version trains "
        "prompts on one example per row; remove the binding"
      )
    if not isinstance(self.batch_size, int) or self.batch_size < 1:
      raise checks.InputError(
        f"BATCH_SIZE is {self.batch_size!r}, expected a positive number of examples; "
        "write it without quotes"
      )
