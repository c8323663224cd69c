"""The batches of a run, the same for any number of processes, from any step on."""

import dataclasses
import os
import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from etils import epath

from prompt_tuning import checks
from prompt_tuning.data import batches, positions, shards
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.open_shard import OpenShard
from prompt_tuning.data.packing import Packing


class TrainingBatches(Iterator[batches.Batch]):
  """Endless batches, of which a process takes its rows.

  The rows of every batch are the shards' in equal blocks, whoever reads them. A process
  opens the shards that its rows touch. Batch 8 in 4 shards:

    row        0  1    2  3    4  5    6  7
    shard      0  0    1  1    2  2    3  3
    2 processes: rows 0-3 open shards 0 and 1, rows 4-7 open shards 2 and 3
    8 processes: row 3 opens shard 1 and takes the second row of its blocks

  Where a shard stands does not depend on who reads it, so its position may be saved by one
  number of processes and restored by another.

  Args:
    config: What to read; `seed` must be set.
    provider: The seqio Task or Mixture.
    rows: Of the global batch, contiguous; all where None.
    packing: How several examples share a row; None is one example for each row.

  Attributes:
    step: Batches that are behind.
    note: A line that says how it came to its first batch.
  """

  def __init__(
    self,
    config: DatasetConfig,
    provider: Any,
    rows: range | None = None,
    packing: Packing | None = None,
  ):
    self._config, self._provider, self._packing = config, provider, packing
    self._rows = range(config.batch_size) if rows is None else rows
    self._num_shards = shards.number_of_shards(config, provider)
    self.step, self.note = 0, "the data start at their beginning"
    self._open()

  @classmethod
  def at(
    cls,
    config: DatasetConfig,
    provider: Any,
    step: int,
    *,
    rows: range | None = None,
    folder: os.PathLike | None = None,
    packing: Packing | None = None,
  ) -> Self:
    """The batches from number `step` on.

    They continue from the positions in `folder`; where one is missing, damaged or of
    another step, all before `step` are read again and dropped. `note` says which.
    """
    found = cls(config, provider, rows, packing)
    if step:
      found._go_to(step, folder)
    return found

  def __next__(self) -> batches.Batch:
    """The process's rows of the next batch.

    Raises:
      InputError: A shard, or a member of a mixture in it, has no example.
    """
    parts = [self._part(shard) for shard in self._shards]
    self.step += 1
    if len(parts) == 1:
      return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

  def save(self, folder: os.PathLike) -> bool:
    """Writes the positions of the shards whose first row is the process's.

    Where several processes have the same rows, one of them saves.

    Args:
      folder: Made where it is not there; it has no positions yet.

    Returns:
      Whether they are there; the pipelines of some tasks run Python code and have none.

    Raises:
      OSError: They cannot be written.
    """
    for shard in self._shards:
      if shard.first_row in self._rows and not shard.opened.save(
        self._file(folder, shard), self._facts(shard, self.step)
      ):
        return False
    return True

  def _open(self) -> None:
    """Opens the shards of the process at their beginning."""
    block, rows = self._config.batch_size // self._num_shards, self._rows
    self._shards = []
    for index in range(rows.start // block, -(-rows.stop // block)):
      first = index * block
      mine = slice(max(rows.start - first, 0), min(rows.stop - first, block))
      opened = OpenShard(
        self._config, self._provider, index, self._num_shards, self._packing
      )
      self._shards.append(_Shard(index, first, mine, opened))

  def _go_to(self, step: int, folder: os.PathLike | None) -> None:
    started = time.monotonic()
    try:
      self._restore(step, folder)
      how = "continue where they were"
    except positions.Unusable as error:
      self._open()
      # Not by `skip`: the positions saved later would be those of another pipeline.
      for _ in range(step):
        next(self)
      how = f"were read again up to there, since {error}"
    self.note = f"batch {step:,}: the data {how} ({time.monotonic() - started:.1f} s)"

  def _restore(self, step: int, folder: os.PathLike | None) -> None:
    if folder is None:
      raise positions.Unusable("no position was saved")
    for shard in self._shards:
      shard.opened.restore(self._file(folder, shard), self._facts(shard, step))
    self.step = step

  def _part(self, shard: "_Shard") -> batches.Batch:
    try:
      return {name: rows[shard.mine] for name, rows in next(shard.opened).items()}
    except StopIteration:
      if self._num_shards == 1:
        raise batches.empty(self._config) from None
      raise self._empty(shard) from None

  def _empty(self, shard: "_Shard") -> checks.InputError:
    return checks.InputError(
      f"shard {shard.index} of {self._num_shards} of {self._config.mixture_or_task_name} "
      f"(or of a member of it) has no example of the split {self._config.split!r}, "
      "expected at least one; set DATA_SHARDS to fewer"
    )

  def _file(self, folder: os.PathLike, shard: "_Shard") -> epath.Path:
    return epath.Path(folder) / f"shard-{shard.index:05d}-of-{self._num_shards:05d}"

  def _facts(self, shard: "_Shard", step: int) -> positions.Facts:
    """What a position is of."""
    config = self._config
    return {
      "step": step,
      "shard": f"{shard.index} of {self._num_shards}",
      "task": config.mixture_or_task_name,
      "split": config.split,
      "order": f"shuffle {config.shuffle}, seed {config.seed}",
    }


@dataclasses.dataclass(frozen=True)
class _Shard:
  """An open shard.

  Attributes:
    index: Of the shard.
    first_row: Of its block, in the global batch.
    mine: The process's rows of the block.
    opened: Its whole blocks.
  """

  index: int
  first_row: int
  mine: slice
  opened: OpenShard
