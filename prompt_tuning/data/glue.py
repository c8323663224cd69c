"""GLUE in T5's text form, without the task's name in front (TFDS `glue`).

taskless_glue_sst2_v200_examples    sentence: S  ->  negative | positive
"""

import functools
from collections.abc import Mapping

import seqio
import tensorflow as tf

from prompt_tuning.data import features, metrics, postprocessors, vocabularies

# config -> (fields in their order, label words in class order)
TASKS = {
  "sst2": (("sentence",), ("negative", "positive")),
}
VERSIONS = {"v002": "1.0.0", "v200": "2.0.0"}


def text_to_text(
  dataset: tf.data.Dataset, fields: tuple[str, ...], labels: tuple[str, ...]
) -> tf.data.Dataset:
  """Joins the fields as "name: text" and replaces the label by its word.

  A label of -1 (unlabelled test examples) becomes "<unk>".
  """

  def convert(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    parts = [part for field in fields for part in (f"{field}:", example[field])]
    label = example["label"]
    word = tf.gather(tf.constant(labels), tf.maximum(label, 0))
    return {
      "inputs": tf.strings.join(parts, separator=" "),
      "targets": tf.where(label < 0, "<unk>", word),
      "idx": example["idx"],
    }

  return dataset.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


def register() -> None:
  """Adds every task of the table to seqio's registry, once."""
  for name, (fields, labels) in TASKS.items():
    for version, tfds_version in VERSIONS.items():
      for suffix in ("", "_examples"):
        task = f"taskless_glue_{name}_{version}{suffix}"
        if task not in seqio.TaskRegistry.names():
          _add(task, f"glue/{name}:{tfds_version}", fields, labels)


def _add(
  task: str, tfds_name: str, fields: tuple[str, ...], labels: tuple[str, ...]
) -> None:
  seqio.TaskRegistry.add(
    task,
    source=seqio.TfdsDataSource(tfds_name=tfds_name),
    preprocessors=[
      functools.partial(text_to_text, fields=fields, labels=labels),
      seqio.preprocessors.tokenize,
      seqio.CacheDatasetPlaceholder(),
      seqio.preprocessors.append_eos_after_trim,
    ],
    postprocess_fn=functools.partial(
      postprocessors.string_label_to_class_id, label_classes=labels
    ),
    metric_fns=[metrics.accuracy],
    output_features=features.text_to_text(vocabularies.T5),
  )


register()
