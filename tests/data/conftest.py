"""A task of numbers, in seqio's registry under a name of its own."""

import functools

import pytest
import seqio
import tensorflow as tf

from prompt_tuning.data import vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig

NAME = "numbers_of_the_data_tests"
SIZES = {"train": 13, "validation": 5, "empty": 0}


def _dataset(split, shuffle_files=False, seed=None):
  del shuffle_files, seed
  rows = range(SIZES[split])
  return tf.data.Dataset.from_tensor_slices(
    {
      "inputs": tf.constant([f"example {i}" for i in rows], tf.string, [SIZES[split]]),
      "targets": tf.constant([str(i % 2) for i in rows], tf.string, [SIZES[split]]),
    }
  )


def _right(targets, predictions):
  return {"right": sum(a == b for a, b in zip(targets, predictions, strict=True))}


def _likelihood(targets, scores):
  return {"likelihood": float(sum(scores)) / len(targets)}


@pytest.fixture(scope="session")
def numbers():
  """The task "example <i>" -> "<i mod 2>": 13 to train, 5 to validate, none in `empty`."""
  if NAME not in seqio.TaskRegistry.names():
    vocabulary = vocabularies.EMBEDDED.load()
    seqio.TaskRegistry.add(
      NAME,
      source=seqio.FunctionDataSource(_dataset, splits=tuple(SIZES)),
      preprocessors=[
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
      ],
      metric_fns=[_right, _likelihood],
      output_features={
        "inputs": seqio.Feature(vocabulary, required=False),
        "targets": seqio.Feature(vocabulary),
      },
    )
  return seqio.get_mixture_or_task(NAME)


@pytest.fixture(scope="session")
def dataset_config():
  """A config of the task of numbers."""
  return functools.partial(
    DatasetConfig,
    mixture_or_task_name=NAME,
    task_feature_lengths={"inputs": 12, "targets": 4},
    split="train",
    batch_size=4,
    shuffle=True,
    seed=7,
  )
