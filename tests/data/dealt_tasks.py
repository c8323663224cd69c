"""Tasks whose data are dealt: numbered examples from functions, files and TFDS."""

import itertools
import pathlib

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from prompt_tuning.data import vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig

SIZE = 24
calls: list[int | None] = []  # the seed of every reading of a function's source
_unique = itertools.count()


def decoded(batch):
  """The inputs of a batch, without padding."""
  decode = vocabularies.EMBEDDED.load().decode
  return [decode(row.tolist()) for row in batch["encoder_input_tokens"]]


def config(task, **changes):
  settings = {
    "mixture_or_task_name": task.name,
    "task_feature_lengths": {"inputs": 12, "targets": 4},
    "split": "train",
    "batch_size": 8,
    "shuffle": True,
    "seed": 7,
    **changes,
  }
  return DatasetConfig(**settings)


def assert_equal(ours, theirs):
  for a, b in zip(ours, theirs, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def add(source, *steps, **options):
  """A task under a name of its own, of examples that are texts."""
  name = f"dealt_task_{next(_unique)}"
  vocabulary = vocabularies.EMBEDDED.load()
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[
      _pair,
      *steps,
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features={
      "inputs": seqio.Feature(vocabulary, required=False),
      "targets": seqio.Feature(vocabulary),
    },
    **options,
  )
  return seqio.TaskRegistry.get(name)


def _pair(dataset):
  return dataset.map(
    lambda row: {"inputs": row["text"] if isinstance(row, dict) else row, "targets": "yes"}
  )


def function(size=SIZE, word="example", **options):
  """Examples of a function that shuffles all of them by the seed it is given."""

  def dataset(split, shuffle_files=False, seed=None):
    del split
    calls.append(seed)
    rows = tf.constant([f"{word} {i}" for i in range(size)], tf.string, [size])
    found = tf.data.Dataset.from_tensor_slices({"text": rows})
    return found.shuffle(max(size, 1), seed=seed) if shuffle_files else found

  sizes = {"train": size}
  return add(seqio.FunctionDataSource(dataset, ["train"], sizes), **options)


def generated(size=SIZE):
  """Examples of Python code, whose place cannot be saved."""

  def dataset(split, shuffle_files=False, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_generator(
      lambda: ({"text": f"example {i}"} for i in range(size)),
      output_signature={"text": tf.TensorSpec([], tf.string)},
    )

  return add(seqio.FunctionDataSource(dataset, ["train"]))


def text_files(folder: pathlib.Path, files: int, **options):
  """SIZE lines in files: "file <f> <line>"."""
  for f, rows in enumerate(np.array_split(np.arange(SIZE), files)):
    (folder / f"{f:02d}.txt").write_text("".join(f"file {f} {i}\n" for i in rows))
  source = seqio.TextLineDataSource({"train": str(folder / "*.txt")})
  return add(source, **options)


def of_tfds(folder: pathlib.Path, files: int, **options):
  """SIZE examples of a TFDS data set in so many files."""
  name = f"dealt_{next(_unique)}"
  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    version="1.0.0",
    features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
    split_datasets={"train": [(i, {"text": f"example {i}"}) for i in range(SIZE)]},
    data_dir=folder,
    download_config=tfds.download.DownloadConfig(num_shards=files),
  )
  source = seqio.TfdsDataSource(f"{name}:1.0.0", tfds_data_dir=str(folder))
  return add(source, **options)


def mixture(*members):
  """Members and rates in one."""
  name = f"dealt_mixture_{next(_unique)}"
  seqio.MixtureRegistry.add(name, [(task.name, rate) for task, rate in members])
  return seqio.MixtureRegistry.get(name)
