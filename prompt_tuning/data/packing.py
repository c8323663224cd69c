"""Packing: which examples share a row.

A row begins with the oldest pending example, so that none waits for ever. To it come those
of the other pending ones that together leave the least of the encoder's places empty. Their
choice is exact (a subset sum over the encoder's places, the decoder's being the limit), the
older of equals. With prompts an example is long for its row, three or four fill it, and
taking the longest that still fits would leave 6 % empty where this leaves 0.2 %.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from prompt_tuning import checks
from prompt_tuning.data import packed_rows
from prompt_tuning.data.packed_rows import PLACES, Batch, Example

_TOKENS = ("inputs", "targets")
PENDING = tuple(f"{name}_{what}" for name in _TOKENS for what in ("tokens", "lengths"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
  """How rows are packed.

  Attributes:
    prompt_len: Prompt slots of every example, 0 for none.
    combine: Where they go: "prefix", "prefix_after_bos", "suffix" or "suffix_before_eos".
    pending: Examples among which a row chooses, at least.
  """

  prompt_len: int
  combine: str = "prefix"
  pending: int = 64

  def __post_init__(self):
    checks.whole("prompt_len", self.prompt_len, 0, "0 packs without a prompt")
    checks.whole("pending", self.pending, 1, "leave it out for a number that fills rows")
    if self.combine == "suffix_after_bos":
      raise checks.InputError(
        "combine is 'suffix_after_bos', expected a place among the encoder's tokens: it is "
        "for a prompt in the decoder, which packed rows do not have; set pack=False"
      )
    checks.choice("combine", self.combine, list(PLACES))


class Packer(Iterator[Batch]):
  """Batches of packed rows; the same examples in the same order give the same rows.

  What was read and is in no row yet is `pending`; together with the place of `chunks` it
  is the packer's whole state.

  Args:
    chunks: Some examples each, {"inputs", "targets"}: [examples, length] int32; zeros at
      the end and what is beyond the limit do not count. "inputs" may be missing.
    lengths: Most tokens of an example, {"inputs": 512, "targets": 8}. A row has as many
      decoder places, and as many encoder places plus one prompt.
    rows: Of a batch; where the examples end, the last batch is filled up with padding.
    packing: How.
  """

  def __init__(
    self,
    chunks: Iterator[Batch],
    lengths: Mapping[str, int],
    rows: int,
    packing: Packing,
  ):
    self._chunks, self._lengths, self._packing = chunks, lengths, packing
    self._shape = (rows, lengths["inputs"] + packing.prompt_len, lengths["targets"])
    self._pending: list[Example] = []  # in the order in which they came

  def __next__(self) -> Batch:
    """See `packed_rows.arrays`."""
    rows = list(itertools.islice(iter(self._row, []), self._shape[0]))
    if not rows:
      raise StopIteration
    packing = self._packing
    return packed_rows.arrays(rows, self._shape, packing.prompt_len, packing.combine)

  def pending(self) -> dict[str, np.ndarray]:
    """What was read and is in no row yet: {name: int32 array} for each of `PENDING`."""
    found = {}
    for name in _TOKENS:
      arrays = [getattr(example, name) for example in self._pending]
      found[f"{name}_tokens"] = np.concatenate([np.zeros(0, np.int32), *arrays])
      found[f"{name}_lengths"] = np.array([len(a) for a in arrays], np.int32)
    return found

  def restore(self, pending: Mapping[str, np.ndarray]) -> None:
    """Takes over what was pending where `chunks` now stands."""
    both = [
      np.split(pending[f"{name}_tokens"], np.cumsum(pending[f"{name}_lengths"]))[:-1]
      for name in _TOKENS
    ]
    self._pending = [Example(*pair) for pair in zip(*both, strict=True)]

  def _row(self) -> list[Example]:
    """The examples of the next row; none where there are no more."""
    while len(self._pending) < self._packing.pending:
      chunk = next(self._chunks, None)
      if chunk is None:
        break
      self._pending += self._examples(chunk)
    if not self._pending:
      return []
    _, encoder_len, decoder_len = self._shape
    sizes = [self._size(example) for example in self._pending]
    chosen = fullest(sizes, encoder_len, decoder_len)
    waiting = [e for i, e in enumerate(self._pending) if i not in chosen]
    row = [e for i, e in enumerate(self._pending) if i in chosen]
    self._pending = waiting
    return row

  def _examples(self, chunk: Batch) -> Iterator[Example]:
    nothing = np.zeros((len(chunk["targets"]), 0), np.int32)
    both = [chunk.get(name, nothing)[:, : self._lengths[name]] for name in _TOKENS]
    for pair in zip(*both, strict=True):
      # Copies, for a view would keep its whole chunk in memory.
      yield Example(*(row[: np.count_nonzero(row)].copy() for row in pair))

  def _size(self, example: Example) -> tuple[int, int]:
    return len(example.inputs) + self._packing.prompt_len, len(example.targets)


def fullest(
  sizes: Sequence[tuple[int, int]], encoder_len: int, decoder_len: int
) -> set[int]:
  """Which examples share a row with the first: those that leave the least of it empty.

  Args:
    sizes: Encoder and decoder places of each example; each fits into a row alone.
    encoder_len: Encoder places of a row.
    decoder_len: Its decoder places.

  Returns:
    Places in `sizes`, 0 among them; none of the others fits any more.
  """
  encoder_room, decoder_room = encoder_len - sizes[0][0], decoder_len - sizes[0][1]
  fitting = [
    i for i, (n, m) in enumerate(sizes) if i and n <= encoder_room and m <= decoder_room
  ]
  found = _subset([sizes[i] for i in fitting], encoder_room, decoder_room)
  chosen = {0, *(fitting[i] for i in found)}
  decoder_room = decoder_len - sum(sizes[i][1] for i in chosen)
  for i in fitting:  # what needs no encoder place is no part of the sum
    if i not in chosen and sizes[i][0] == 0 and sizes[i][1] <= decoder_room:
      chosen.add(i)
      decoder_room -= sizes[i][1]
  return chosen


def _subset(
  sizes: Sequence[tuple[int, int]], encoder_room: int, decoder_room: int
) -> Iterator[int]:
  """Yields the places of the subset with most encoder places, last first."""
  # least[s]: fewest decoder places of any subset so far with s encoder places, or too many.
  least = np.full(encoder_room + 1, decoder_room + 1, np.int32)
  least[0] = 0
  takes = []  # for each example: the sums, less its own places, that it made cheaper
  for encoder, decoder in sizes:
    with_it = least[: encoder_room + 1 - encoder] + decoder
    takes.append(with_it < least[encoder:])
    np.minimum(with_it, least[encoder:], out=least[encoder:])
    if least[-1] <= decoder_room:
      break
  left = np.flatnonzero(least <= decoder_room)[-1]
  for i in reversed(range(len(takes))):
    encoder = sizes[i][0]
    if left >= encoder and takes[i][left - encoder]:
      yield i
      left -= encoder
