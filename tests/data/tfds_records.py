"""Records written by hand, as TFDS datasets on disk in the real builders' own features."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

NOWHERE = "no-such-folder"  # a builder's features do not depend on where its data lie
Records = Mapping[str, Sequence[Mapping[str, Any]]]


def prepare(folder: pathlib.Path, name: str, records: Records) -> None:
  """Writes {split: records} as the dataset "name/config:version" below `folder`.

  The features are those of the builder that TFDS has for the name, so that a record with
  a field too many, too few or of another type is refused; the version is the one asked
  for, also where TFDS itself can no longer download it.
  """
  full, version = name.split(":")
  dataset, _, config = full.partition("/")
  features = _features(full)
  for split, rows in records.items():
    assert rows, f"{name}, {split}: TFDS stores no empty split"
  numbered = {split: list(enumerate(rows)) for split, rows in records.items()}
  tfds.dataset_builders.store_as_tfds_dataset(
    name=dataset,
    version=version,
    config=config or None,
    features=features,
    split_datasets=numbered,
    data_dir=folder,
    disable_shuffling=True,
  )


@functools.cache
def _features(full: str) -> tfds.features.FeaturesDict:
  return tfds.builder(full, data_dir=NOWHERE).info.features
