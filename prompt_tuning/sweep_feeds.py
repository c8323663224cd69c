"""What the members of a sweep read: those of one task and seed share one pipeline.

A pipeline knows no member, so the batches of one depend neither on the others nor on when
they leave.
"""

from collections.abc import Sequence

import numpy as np
from etils import epath

from prompt_tuning import partitioning
from prompt_tuning.feed import Feed
from prompt_tuning.partitioning import Layout
from prompt_tuning.sweep_config import Member
from prompt_tuning.types import Array


class Feeds:
  """The pipelines of all members.

  Args:
    members: Of the sweep; each has the batch size of the others.
    layout: Devices of the batches.

  Attributes:
    held: See `Feed`; an example counts for each member that has it.

  Raises:
    InputError: The data of one cannot be used.
  """

  def __init__(self, members: Sequence[Member], layout: Layout):
    self._mesh, self.held = layout.mesh, 0
    self._size = members[0].run.train_dataset.batch_size
    self._feeds: dict[str, Feed] = {}
    for member in members:
      if _name(member) not in self._feeds:
        run = member.run
        feed = Feed(run.train_dataset, run.vocabulary, self._mesh, run.packing)
        self._feeds[_name(member)] = feed

  def identity(self, member: Member) -> dict[str, str]:
    """See `Feed`."""
    return self._feeds[_name(member)].identity

  def open(self, members: Sequence[Member], step: int, folder: epath.Path) -> None:
    """Goes to batch number `step` of all that these members read."""
    for name in _names(members):
      self._feeds[name].open(step, folder / name)

  def batch(self, members: Sequence[Member]) -> dict[str, Array]:
    """The next batch of each of these members: global arrays [members, rows, ...]."""
    rows = {name: next(self._feeds[name]) for name in _names(members)}
    each = [rows[_name(member)] for member in members]
    self.held = sum(self._feeds[_name(member)].held for member in members)
    stacked = {name: np.stack([one[name] for one in each]) for name in each[0]}
    return partitioning.from_rows(stacked, self._size, self._mesh, axis=1)

  def save(self, members: Sequence[Member], folder: epath.Path) -> None:
    """Writes where the pipelines of these members stand."""
    for name in _names(members):
      self._feeds[name].save(folder / name)


def _name(member: Member) -> str:
  """Of a member's pipeline."""
  return f"{member.task}-seed{member.run.train_dataset.seed}"


def _names(members: Sequence[Member]) -> list[str]:
  return list(dict.fromkeys(map(_name, members)))
