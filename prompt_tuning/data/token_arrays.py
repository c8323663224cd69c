"""Packed rows of tokens in a few numpy files, read without TensorFlow.

  TOKENS/
    manifest.json                       what was written, from what, with hashes
    <objective>/<split>/<feature>.npy   [rows, length] uint16 (uint32 above 65,536 ids)

Which rows a step sees depends on seed and step only, so that a run resumes without any
saved position: rows are drawn epoch by epoch, in another order each time.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import tokenize
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from prompt_tuning import checks, files

FEATURES = (
  "encoder_input_tokens",
  "encoder_segment_ids",
  "decoder_target_tokens",
  "decoder_segment_ids",
)
SPLITS = ("train", "validation")
MANIFEST = "manifest.json"
Row = Mapping[str, np.ndarray]
Batch = dict[str, np.ndarray]


def write(folder: pathlib.Path, rows: Iterable[Row], vocab_size: int) -> dict[str, Any]:
  """Writes rows to files that grow as they come.

  Returns:
    What a manifest says of them: rows, real tokens by feature, SHA-256 by file.
  """
  folder.mkdir(parents=True, exist_ok=True)
  dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
  count, tokens = 0, {"encoder_input_tokens": 0, "decoder_target_tokens": 0}
  paths = {name: folder / f"{name}.npy" for name in FEATURES}
  lengths = dict.fromkeys(FEATURES, 0)
  with contextlib.ExitStack() as stack:
    sinks = {name: stack.enter_context(paths[name].open("wb")) for name in FEATURES}
    for row in rows:
      if not count:
        lengths = {name: len(row[name]) for name in FEATURES}
        for name, sink in sinks.items():
          _header(sink, dtype, (0, lengths[name]))
      for name, sink in sinks.items():
        sink.write(row[name].astype(dtype).tobytes())
      for name in tokens:
        tokens[name] += int(np.count_nonzero(row[name]))
      count += 1
    for name, sink in sinks.items():  # numpy leaves room for a larger first axis
      sink.seek(0)
      _header(sink, dtype, (count, lengths[name]))
  digests = {name: files.sha256(path) for name, path in paths.items()}
  return {"rows": count, "lengths": lengths, "tokens": tokens, "sha256": digests}


def _header(sink: BinaryIO, dtype: np.dtype, shape: tuple[int, int]) -> None:
  descr = np.lib.format.dtype_to_descr(dtype)
  np.lib.format.write_array_header_1_0(
    sink, {"descr": descr, "fortran_order": False, "shape": shape}
  )


def manifest(folder: pathlib.Path) -> dict[str, Any]:
  """What the folder holds.

  Raises:
    InputError: It is no folder of token arrays.
  """
  try:
    return json.loads((folder / MANIFEST).read_text())
  except (OSError, ValueError) as error:
    raise checks.InputError(
      f"TOKENS {str(folder)!r} has no {MANIFEST} that can be read ({error}), expected a "
      "folder of token arrays; run `prompt-tuning tokens`"
    ) from error


@dataclasses.dataclass(frozen=True)
class TokenArrays:
  """The rows of one objective and split.

  Attributes:
    name: Of the objective; it enters the order of rows.
    arrays: {feature: [rows, length] uint16 or uint32}.
  """

  name: str
  arrays: dict[str, np.ndarray]

  @classmethod
  def read(cls, folder: pathlib.Path, name: str, split: str) -> "TokenArrays":
    """Maps the files into memory.

    Raises:
      InputError: They are absent, damaged or of different numbers of rows.
    """
    place = folder / name / split
    try:
      arrays = {
        f: np.load(place / f"{f}.npy", mmap_mode="r", allow_pickle=False) for f in FEATURES
      }
    except (OSError, ValueError, EOFError, tokenize.TokenError) as error:
      raise checks.InputError(
        f"the token arrays in {place} cannot be read ({error}), expected those of the "
        f"objective {name!r}; run `prompt-tuning tokens` with the same gin files"
      ) from error
    found = [(array.shape, array.dtype.kind) for array in arrays.values()]
    if {(len(shape), kind) for shape, kind in found} != {(2, "u")} or (
      len({shape[0] for shape, _ in found}) != 1
    ):
      raise checks.InputError(
        f"the token arrays in {place} are {found}, expected unsigned integers "
        "[rows, length] with the same number of rows; run `prompt-tuning tokens` again"
      )
    return cls(name, arrays)

  @property
  def rows(self) -> int:
    """Packed rows."""
    return len(self.arrays["encoder_input_tokens"])

  def batch(self, index: int, size: int, seed: int) -> Batch:
    """Batch number `index` of an endless, shuffled sequence of batches of `size` rows."""
    first = index * size
    return self._batch([self._row(i, seed) for i in range(first, first + size)])

  def in_order(self, size: int) -> Iterator[Batch]:
    """All rows once, in the order of the files; what fills up the last batch weighs 0."""
    for at in range(0, self.rows, size):
      batch = self._batch([i % self.rows for i in range(at, at + size)])
      batch["decoder_loss_weights"][self.rows - at :] = 0
      yield batch

  def _row(self, i: int, seed: int) -> int:
    epoch, at = divmod(i, self.rows)
    return int(_order(self.rows, seed, zlib.crc32(self.name.encode()), epoch)[at])

  def _batch(self, rows: list[int]) -> Batch:
    """T5X's features, int32."""
    batch = {name: array[rows].astype(np.int32) for name, array in self.arrays.items()}
    targets, segments = batch["decoder_target_tokens"], batch["decoder_segment_ids"]
    previous = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    begins = segments != np.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    batch["decoder_input_tokens"] = np.where(begins, 0, previous)
    batch["decoder_loss_weights"] = (targets > 0).astype(np.int32)
    return batch


@functools.lru_cache(maxsize=16)
def _order(rows: int, *key: int) -> np.ndarray:
  """A permutation of rows by key."""
  return np.random.default_rng(key).permutation(rows)


def draws(rates: Sequence[float], steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """For every step the objective that is drawn, and which of its batches: [steps] both.

  More steps begin with the same ones.
  """
  shares = np.asarray(rates, np.float64)
  drawn = np.random.default_rng(seed).choice(len(rates), steps, p=shares / shares.sum())
  counted = np.zeros_like(drawn)
  for which in range(len(rates)):
    counted[drawn == which] = np.arange(np.count_nonzero(drawn == which))
  return drawn, counted
