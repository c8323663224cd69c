"""C4 (TFDS `c4/en:2.2.0`): how its documents become a task."""

from collections.abc import Callable

import seqio

from prompt_tuning.data import features, objectives, vocabularies

TFDS_NAME = "c4/en:2.2.0"


def add(name: str, *steps: Callable) -> None:
  """Registers a task whose documents go through `steps` when they are tokens."""
  if name in seqio.TaskRegistry.names():
    return
  rekey, tokenize, *_, end = objectives.from_text(steps[0])
  seqio.TaskRegistry.add(
    name,
    source=seqio.TfdsDataSource(tfds_name=TFDS_NAME, splits=("train", "validation")),
    preprocessors=[rekey, tokenize, seqio.CacheDatasetPlaceholder(), *steps, end],
    metric_fns=[],
    output_features=features.text_to_text(vocabularies.T5),
  )
