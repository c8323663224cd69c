"""From a split of a seqio task to padded batches of numpy arrays, for inference."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import seqio

from prompt_tuning import checks
from prompt_tuning.data.dataset_config import DatasetConfig

Batch = dict[str, np.ndarray]


def inference_examples(config: DatasetConfig, provider: Any) -> tuple[list[dict], Any]:
  """The examples of a split, and the same as an enumerated dataset of model features.

  Raises:
    InputError: The split has no example.
  """
  lengths = config.task_feature_lengths
  tasks = provider.get_dataset(
    lengths, split=config.split, shuffle=False, num_epochs=1, seed=config.seed
  )
  examples = list(tasks.as_numpy_iterator())
  if not examples:
    raise empty(config)
  if lengths is None:
    names = provider.output_features
    lengths = {name: max(len(row[name]) for row in examples) for name in names}
  converted = seqio.EncDecFeatureConverter(pack=False)(tasks, lengths)
  return examples, converted.enumerate()


def padded_batches(dataset: Any, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
  """Batches of one size from an enumerated dataset, for evaluation.

  The last batch is filled up with copies of its first row.

  Yields:
    A batch, and the index of each of its real rows.
  """
  for indices, batch in dataset.batch(batch_size).as_numpy_iterator():
    missing = batch_size - len(indices)
    if missing:
      batch = {
        name: np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])
        for name, rows in batch.items()
      }
    yield batch, indices


def empty(config: DatasetConfig) -> checks.InputError:
  """The error for a split without examples."""
  return checks.InputError(
    f"the split {config.split!r} of {config.mixture_or_task_name} yields no example, "
    "expected at least one; check the split and the preprocessors"
  )
