"""What a run minimizes, as a step asks for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prompt_tuning.types import Array

Batch = Mapping[str, Any]  # T5X feature names to arrays
Sums = dict[str, Any]  # float32 scalars that add up over microbatches and steps


class Criterion(Protocol):
  """A loss: of target tokens (`losses`) or of candidates (`candidate_losses`).

  Attributes:
    features: Of a task, those that it needs; TASK_FEATURE_LENGTHS names them.
  """

  @property
  def features(self) -> Sequence[str]:
    """See above."""

  def rows(self, batch: Batch) -> Batch:
    """The batch as the model takes it: one input and one target in a row."""

  def of_hidden(
    self, hidden: Array, logits_of: Callable[[Array], Array], batch: Batch
  ) -> tuple[Array, Sums]:
    """The scalar loss of a batch, and the sums that its metrics are made of.

    Args:
      hidden: [rows, target_len, d_model], what the model made of `rows(batch)`.
      logits_of: [rows, length, d_model] -> [rows, length, vocab] float32.
      batch: The batch.
    """

  def metrics(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What is told of the sums of some steps, "loss" and "accuracy" at least."""
