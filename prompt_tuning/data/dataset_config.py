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
      examples are cut, and a packed row has as many. None takes the longest example of an
      evaluation split.
    split: "train", "validation", "test" or whatever the task has.
    batch_size: Global batch size.
    shuffle: Whether examples are shuffled.
    seed: Of the shuffling.
    use_cached: Whether to read seqio's offline cache.
    pack: Whether rows hold several examples where a loss is taken.
    module: Python module that registers the task when imported.
    table: Files of one's own that make up the task, registered under the table's name.
    num_shards: Into how many shards the data are dealt for training; batches depend on
      it. None takes as many as the data and the batch call for.
    num_examples: How many of each task are evaluated or answered, the first ones; None
      takes all.
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
  num_shards: int | None = None
  num_examples: int | None = None

  def __post_init__(self):
    if not isinstance(self.batch_size, int) or self.batch_size < 1:
      raise checks.InputError(
        f"BATCH_SIZE is {self.batch_size!r}, expected a positive number of examples; "
        "write it without quotes"
      )
    if self.num_shards is not None:
      self._check_num_shards(self.num_shards)
    if self.num_examples is not None:
      checks.whole("num_examples", self.num_examples, 1, "leave it out to take all")

  def _check_num_shards(self, number: int) -> None:
    checks.whole("num_shards", number, 1, "leave it out for a number that suits the data")
    if self.batch_size % number:
      works = [n for n in range(1, self.batch_size + 1) if self.batch_size % n == 0]
      raise checks.InputError(
        f"num_shards is {number}, expected a divisor of BATCH_SIZE {self.batch_size}, for "
        f"every shard fills equally many rows; set one of {', '.join(map(str, works))}"
      )
