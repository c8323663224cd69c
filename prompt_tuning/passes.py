"""Passes of a frozen model over rows of any prompts, padded to a few compiled shapes."""

from collections.abc import Sequence, Set
from typing import Any

import jax
import numpy as np
from flax import nnx

from prompt_tuning import checks, partitioning
from prompt_tuning.data.ladder import fitting, input_lens, ladder
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.step import Algorithm, key_of
from prompt_tuning.models.families import Model
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.families import Prompted, prompted
from prompt_tuning.prompts.live_bank import Arrays
from prompt_tuning.types import Array, ArrayLike

_LEAST_TARGET_LEN = 2
_TARGETS_PER_ROW = 32  # tokens of all candidates that a full batch has room for


class Passes:
  """Likelihoods and answers of whole batches, each shape compiled once.

  Rows are padded to 1, 4, 16, ... up to `batch_size`, inputs to 32, 64, ... tokens,
  candidates to powers of two in number and length.

  Args:
    model: The frozen model.
    batch_size: Most rows of a pass.
    max_input_len: Longest input.
    max_output_len: Longest decoded answer.
    decoding: How answers are decoded.
    mesh: Devices that share the rows; None is one device.
    visibility: Who sees whom, see `prompts.masks`.

  Raises:
    InputError: The rows do not divide over the devices.
  """

  def __init__(
    self,
    model: Model,
    batch_size: int,
    max_input_len: int,
    max_output_len: int,
    decoding: Algorithm | None = None,
    mesh: jax.sharding.Mesh | None = None,
    visibility: Set[str] = masks.FULL,
  ):
    devices = 1 if mesh is None else mesh.devices.size
    if batch_size % devices:
      raise checks.InputError(
        f"a batch of {batch_size} rows does not divide over {devices} devices, expected a "
        "multiple; choose another batch_size or mesh"
      )
    self.batch_size = batch_size
    self.row_counts = ladder(devices, batch_size, 4)
    self.input_lens = input_lens(max_input_len)
    self._mesh, self._visibility = mesh, visibility
    graph, self._weights = nnx.split(model)
    how = decoding or Greedy()

    def with_bank(weights: nnx.State, bank: Arrays) -> Prompted:
      prompts, lengths, context = bank
      model = nnx.merge(graph, weights)
      return prompted(model, PromptBank(prompts, lengths), visibility, context)

    @jax.jit
    def encoded(weights, prompts, lengths):
      return with_bank(weights, (prompts, lengths, None)).encoded_prompts()

    @jax.jit
    def likelihoods(weights, bank, batch):
      return with_bank(weights, bank).score_candidates(
        batch["inputs"], batch["candidates"], batch["prompt_ids"]
      )

    @jax.jit
    def decoded(weights, bank, batch):
      key = key_of(batch["inputs"])
      return with_bank(weights, bank).generate(
        batch["inputs"], max_output_len, batch["prompt_ids"], how, key
      )

    self._likelihoods, self._decoded, self._encoded = likelihoods, decoded, encoded

  def encoded(self, prompts: ArrayLike, lengths: ArrayLike) -> Any:
    """What it makes of prompts [n, prompt_len, d_model] on their own, if anything."""
    if not masks.is_input_blind(self._visibility):
      return None
    return self._encoded(self._weights, prompts, lengths)

  def likelihoods(
    self,
    bank: Arrays,
    inputs: Sequence[np.ndarray],
    prompt_ids: Sequence[int],
    candidates: Sequence[np.ndarray],
  ) -> list[np.ndarray]:
    """Log-likelihoods of each row's candidates.

    Args:
      bank: See `LiveBank.select`.
      inputs: [input_len] int32 for each row, at most `batch_size` rows.
      prompt_ids: Places in the bank.
      candidates: [num_candidates, target_len] int32 for each row.

    Returns:
      [num_candidates] float32 for each row.
    """
    batch = self._batch(inputs, prompt_ids)
    count, length = candidates_shape(candidates)
    padded = np.zeros((len(batch["inputs"]), count, length), np.int32)
    for row, each in enumerate(candidates):
      padded[row, : each.shape[0], : each.shape[1]] = each
    batch["candidates"] = padded
    found = jax.device_get(self._likelihoods(self._weights, bank, self._placed(batch)))
    return [found[row, : len(each)] for row, each in enumerate(candidates)]

  def decoded(
    self, bank: Arrays, inputs: Sequence[np.ndarray], prompt_ids: Sequence[int]
  ) -> list[tuple[np.ndarray, float]]:
    """The tokens [max_output_len] and the score of each row's answer."""
    batch = self._placed(self._batch(inputs, prompt_ids))
    tokens, scores = jax.device_get(self._decoded(self._weights, bank, batch))
    return [(tokens[row], float(scores[row])) for row in range(len(inputs))]

  def most_rows(self, shape: tuple[int, int] | None) -> int:
    """Rows of one pass, one of `row_counts`: fewer where each has very many candidates.

    Args:
      shape: See `candidates_shape`; None where answers are decoded.
    """
    if shape is None:
      return self.batch_size
    room = self.batch_size * _TARGETS_PER_ROW // (shape[0] * shape[1])
    return max((n for n in self.row_counts if n <= room), default=self.row_counts[0])

  def _batch(
    self, inputs: Sequence[np.ndarray], prompt_ids: Sequence[int]
  ) -> dict[str, np.ndarray]:
    rows = fitting(len(inputs), self.row_counts)
    length = fitting(max(map(len, inputs)), self.input_lens)
    padded, ids = np.zeros((rows, length), np.int32), np.zeros(rows, np.int32)
    for row, tokens in enumerate(inputs):
      padded[row, : len(tokens)] = tokens
    ids[: len(inputs)] = prompt_ids
    return {"inputs": padded, "prompt_ids": ids}

  def _placed(self, batch: dict[str, np.ndarray]) -> dict[str, Array]:
    if self._mesh is None:
      return jax.device_put(batch)
    return partitioning.shard_batch(batch, self._mesh)


def candidates_shape(candidates: Sequence[np.ndarray]) -> tuple[int, int]:
  """The compiled (num_candidates, target_len) that all of `candidates` fit into."""
  counts, lengths = zip(*(each.shape for each in candidates), strict=True)
  return _power(max(counts), 1), _power(max(lengths), _LEAST_TARGET_LEN)


def _power(size: int, least: int) -> int:
  """The next power of two, from `least`."""
  return max(least, 1 << (size - 1).bit_length())
