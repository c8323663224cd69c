"""What a run reads to train: found before it begins, continued where it stopped."""

import time
from typing import Any

from etils import epath
from jax.sharding import Mesh

from prompt_tuning import partitioning, progress
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.packing import Packing
from prompt_tuning.data.vocabularies import Vocabulary


class Feed:
  """The rows of every batch that this process has.

  Args:
    dataset: What to read.
    vocabulary: Of the model.
    mesh: Whose devices share the rows.
    packing: How rows hold several examples, where `dataset.pack` says so.

  Attributes:
    identity: What must not change of the data while a run is interrupted.
    held: Examples in its latest batch, those of other processes included.

  Raises:
    InputError: The data cannot be used.
  """

  def __init__(
    self, dataset: DatasetConfig, vocabulary: Vocabulary, mesh: Mesh, packing: Packing
  ):
    quiet.import_seqio()
    from prompt_tuning.data import registry, shards

    self._dataset, self._mesh = dataset, mesh
    self._packing = packing if dataset.pack else None
    self._provider = registry.find(dataset, vocabulary)
    for line in registry.cut(dataset):
      progress.say(line)
    count = shards.number_of_shards(dataset, self._provider)
    self.identity = {**registry.identity(dataset), "data shards": str(count)}
    self._batches: Any = None
    self.held = 0
    self._positions = True  # until a pipeline turns out to have none

  def open(self, step: int, folder: epath.Path) -> None:
    """Goes to batch number `step`, by the positions in `folder` where there are any."""
    from prompt_tuning.data.training_batches import TrainingBatches

    rows = partitioning.rows(self._dataset.batch_size, self._mesh)
    self._batches = TrainingBatches.at(
      self._dataset,
      self._provider,
      step,
      rows=rows,
      folder=folder,
      packing=self._packing,
    )
    if step:
      progress.say(self._batches.note)
    self._opened, self._waited = time.monotonic(), 0.0

  def __next__(self) -> dict[str, Any]:
    """The rows of the next batch, {feature: numpy array}."""
    began = time.monotonic()
    found = next(self._batches)
    self._waited += time.monotonic() - began
    self.held = self._held(found)
    return found

  def _held(self, rows: dict[str, Any]) -> int:
    """Examples in a batch of which the process has these rows."""
    if self._packing is None:
      return self._dataset.batch_size
    segments = rows["decoder_segment_ids"]
    own = int(segments.max(axis=1).sum())
    return own * self._dataset.batch_size // len(segments)

  def tell(self) -> None:
    """Says how much of the time since it was opened went into waiting for data."""
    if self._batches is not None:
      share = self._waited / max(time.monotonic() - self._opened, 1e-9)
      progress.say(
        f"{share:.1%} of the time since the data were opened was waiting for them"
      )

  def save(self, folder: epath.Path) -> None:
    """Writes where it stands, if the pipelines can tell."""
    size = self._dataset.batch_size
    if self._positions and partitioning.speaks_for_rows(size, self._mesh):
      self._positions = self._batches.save(folder)
