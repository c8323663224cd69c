"""A shard that is being read: whole blocks of rows, and where it stands."""

import os
from collections.abc import Iterator
from typing import Any

from prompt_tuning.data import positions, shards
from prompt_tuning.data.batches import Batch
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.packing import PENDING, Packer, Packing


class OpenShard(Iterator[Batch]):
  """The endless blocks of one shard, `batch_size // num_shards` rows each.

  Args:
    config: What to read.
    provider: The seqio Task or Mixture.
    index: Of the shard.
    num_shards: Of which it is one.
    packing: How rows are packed, or None.
  """

  def __init__(
    self,
    config: DatasetConfig,
    provider: Any,
    index: int,
    num_shards: int,
    packing: Packing | None,
  ):
    pipeline = shards.pipeline if packing is None else shards.examples
    dataset = pipeline(config, provider, index, num_shards)
    self._read, self._packer = dataset.as_numpy_iterator(), None
    self._facts = {"shape of rows": str(dataset.element_spec)}
    if packing is not None:
      lengths = config.task_feature_lengths
      assert lengths is not None
      rows = config.batch_size // num_shards
      self._packer = Packer(self._read, lengths, rows, packing)
      self._facts["packing"] = f"{packing} {rows} rows of {dict(lengths)}"

  def __next__(self) -> Batch:
    return next(self._read if self._packer is None else self._packer)

  def save(self, path: os.PathLike, facts: positions.Facts) -> bool:
    """Writes where it stands, see `positions.write`."""
    pending = None if self._packer is None else self._packer.pending()
    return positions.write(self._read, path, {**facts, **self._facts}, pending)

  def restore(self, path: os.PathLike, facts: positions.Facts) -> None:
    """Goes where it stood when it was saved, see `positions.read`."""
    facts = {**facts, **self._facts}
    if self._packer is None:
      positions.read(self._read, path, facts)
    else:
      self._packer.restore(positions.read(self._read, path, facts, PENDING))
