"""The order of tokens: pad 0 and EOS 1 here, anywhere in somebody else's tokenizer.

Two exchanges of ids lead from their order to ours and, undone, back:

  theirs   0 unk   1 bos   2 eos   3 a   ...   9 pad        pad 9, eos 2
  first    0 <-> pad:       pad bos eos a ... unk
  then     EOS to 1:        pad eos bos a ... unk

Rows of the embedding table and columns of the logits move with them, so a model computes
what it did.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class TokenOrder:
  """Which of a tokenizer's ids stand at 0 and 1 here.

  Attributes:
    pad: Their id of the token that stands at 0; nothing may need its row.
    eos: Their id of the end of a text.
  """

  pad: int
  eos: int

  def theirs(self, count: int) -> np.ndarray:
    """[count] int32: their id of each of ours, where there are `count`."""
    ids = np.arange(count, dtype=np.int32)
    ids[[0, self.pad]] = ids[[self.pad, 0]]
    stands = np.flatnonzero(ids == self.eos)[0]
    ids[[1, stands]] = ids[[stands, 1]]
    return ids

  def ours(self, count: int) -> np.ndarray:
    """[count] int32: our id of each of theirs."""
    return np.argsort(self.theirs(count)).astype(np.int32)

  def arranged(self, table: np.ndarray, axis: int = 0) -> np.ndarray:
    """A table whose `axis` runs over their ids, over ours."""
    return np.take(table, self.theirs(table.shape[axis]), axis)


OURS = TokenOrder(0, 1)  # of every T5
