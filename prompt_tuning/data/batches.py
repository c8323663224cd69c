"""From a split of a seqio task to padded batches of numpy arrays, for inference."""

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prompt_tuning import checks
from prompt_tuning.data import converters, ladder
from prompt_tuning.data.dataset_config import DatasetConfig

Batch = dict[str, np.ndarray]
_Row = tuple[int, Batch]  # its index in the dataset, and its arrays without the batch axis


def inference_examples(config: DatasetConfig, provider: Any) -> tuple[list[dict], Any]:
  """The examples of a split, and the same as an enumerated dataset of model features.

  Raises:
    InputError: The split has no example.
  """
  lengths = config.task_feature_lengths
  tasks = provider.get_dataset(
    lengths, split=config.split, shuffle=False, num_epochs=1, seed=config.seed
  )
  if config.num_examples is not None:
    tasks = tasks.take(config.num_examples)
  examples = list(tasks.as_numpy_iterator())
  if not examples:
    raise empty(config)
  if lengths is None:
    names = provider.output_features
    lengths = {name: max(len(row[name]) for row in examples) for name in names}
  converted = converters.of(provider)(tasks, lengths)
  return examples, converted.enumerate()


def padded_batches(dataset: Any, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
  """Batches of one size from an enumerated dataset, in order.

  The last batch is filled up with copies of its first row.

  Yields:
    A batch, and the index of each of its real rows.
  """
  for indices, batch in dataset.batch(batch_size).as_numpy_iterator():
    yield _filled_up(batch, batch_size), indices


def batches_by_length(dataset: Any, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
  """The batches of `padded_batches`, as many, of rows with inputs of like length.

  Inputs are cut to one of `ladder.input_lens`; targets are not. Rows wait until there are
  `batch_size` of their length. What is left in the end goes with what is longer:

    1 1 1 1   2 2 2 2   1 2 2 3   3 _ _ _      lengths of 14 rows in batches of 4

  Yields:
    A batch, and the index of each of its real rows.
  """
  waiting: dict[int, list[_Row]] = collections.defaultdict(list)
  for indices, batch in dataset.batch(batch_size).as_numpy_iterator():
    for place, length in enumerate(_input_lens(batch)):
      rows = waiting[length]
      # Copies, for a view would keep its whole batch in memory.
      rows.append((indices[place], {name: a[place].copy() for name, a in batch.items()}))
      if len(rows) == batch_size:
        yield _cut(waiting.pop(length), length, batch_size)
  left: list[_Row] = []
  for length in sorted(waiting):
    left += waiting[length]
    if len(left) >= batch_size:
      yield _cut(left[:batch_size], length, batch_size)
      left = left[batch_size:]
  if left:
    yield _cut(left, length, batch_size)


def _input_lens(batch: Batch) -> list[int]:
  """The length of the ladder for the inputs of each row."""
  tokens = batch["encoder_input_tokens"]
  longest = tokens.shape[-1]
  lengths = ladder.input_lens(longest)
  ends = ((tokens != 0) * np.arange(1, longest + 1)).reshape(len(tokens), -1).max(axis=1)
  return [ladder.fitting(end, lengths) for end in ends]


def _cut(rows: Sequence[_Row], input_len: int, batch_size: int) -> tuple[Batch, np.ndarray]:
  indices, each = zip(*rows, strict=True)
  batch = {name: np.stack([row[name] for row in each]) for name in each[0]}
  batch["encoder_input_tokens"] = batch["encoder_input_tokens"][..., :input_len]
  return _filled_up(batch, batch_size), np.array(indices)


def _filled_up(batch: Batch, size: int) -> Batch:
  """A batch with copies of its first row behind it."""
  return {
    name: np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])
    for name, rows in batch.items()
  }


def empty(config: DatasetConfig) -> checks.InputError:
  """The error for a split without examples."""
  return checks.InputError(
    f"the split {config.split!r} of {config.mixture_or_task_name} yields no example, "
    "expected at least one; check the split and the preprocessors"
  )
