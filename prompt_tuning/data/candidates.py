"""Examples that bring every answer one may choose from.

as rows           (input, candidate 0), (input, candidate 1), ...      to be scored
as one example    inputs [input_len, candidates], is_correct [candidates]
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning.data import (
  features,
  postprocessors,
  ranking_metrics,
  reading,
  variants,
  vocabularies,
)
from prompt_tuning.data.metrics import Metric

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def with_labels(example: Example, labels: Sequence[str]) -> Example:
  """The label words as candidates; the right one is the target."""
  return {**example, "candidates": tf.constant(labels), "right": example["targets"][None]}


def side_by_side(labels: Sequence[str]) -> list[Callable]:
  """Preprocessors of a task whose examples hold all label words; texts come before."""
  return [functools.partial(with_labels, labels=tuple(labels)), as_one, tokenize]


def output_features(default: vocabularies.Vocabulary) -> dict[str, seqio.Feature]:
  """The features of such a task; `default` as in `features.text_to_text`."""
  text = features.text_to_text(default)
  passed = seqio.Feature(seqio.PassThroughVocabulary(2), add_eos=False, dtype=tf.bool)
  ranked = {name: dataclasses.replace(how, rank=2) for name, how in text.items()}
  return {**ranked, "is_correct": passed}


@seqio.map_over_dataset
def record(example: Example) -> Example:
  """ReCoRD with its entities as candidates, any of its answers being right."""
  return {
    **reading.record_text(example),
    "candidates": example["entities"],
    "right": example["answers"],
  }


def as_rows(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """One example per candidate, with idx [2] = (example, candidate) and is_correct."""

  def rows(number: tf.Tensor, example: Example) -> tf.data.Dataset:
    found = _expanded(example)
    count = tf.size(found["is_correct"])
    numbers = tf.fill([count], tf.cast(number, tf.int32))
    found["idx"] = tf.stack([numbers, tf.range(count)], 1)
    return tf.data.Dataset.from_tensor_slices(found)

  return dataset.enumerate().flat_map(rows)


@seqio.map_over_dataset
def as_one(example: Example) -> Example:
  """All candidates in one example: inputs, targets and is_correct [candidates]."""
  return _expanded(example)


def _expanded(example: Example) -> Example:
  candidates = example["candidates"]
  right = tf.equal(candidates[:, None], example["right"][None, :])
  return {
    "inputs": tf.fill(tf.shape(candidates), example["inputs"]),
    "targets": candidates,
    "is_correct": tf.reduce_any(right, axis=1),
  }


def tokenize(
  dataset: tf.data.Dataset,
  output_features: Mapping[str, seqio.Feature],
  sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Texts [candidates] become tokens [length, candidates] int32, EOS at the end of each.

  Length goes first, since that is what seqio cuts.
  """
  lengths = sequence_length or {}

  def tokens(name: str, texts: tf.Tensor) -> tf.Tensor:
    vocabulary = output_features[name].vocabulary
    rows = vocabulary.encode_tf(texts)
    if name in lengths:
      rows = rows[:, : lengths[name] - 1]
    end = tf.fill([tf.shape(texts)[0], 1], vocabulary.eos_id)
    return tf.transpose(tf.concat([rows, end], axis=1).to_tensor())

  def convert(example: Example) -> Example:
    texts = {name: example[name] for name in ("inputs", "targets")}
    return {
      **example,
      **{f"{name}_pretokenized": text for name, text in texts.items()},
      **{name: tokens(name, text) for name, text in texts.items()},
    }

  return dataset.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


def right_pair(example: Mapping[str, Any]) -> dict[str, Any]:
  """An example with the input and the target of its right candidate alone."""
  right = int(example["is_correct"].argmax())
  names = ("inputs", "targets", "inputs_pretokenized", "targets_pretokenized")
  pair = {name: example[name].T[right] for name in names if name in example}
  return {**example, **pair}


def of_right_candidate(
  text: str,
  postprocess: Callable[..., Any],
  example: Mapping[str, Any],
  is_target: bool = False,
) -> Any:
  """A postprocessor for one input and target, where an example holds one per candidate."""
  single = right_pair(example)
  if is_target:
    text = single["targets_pretokenized"].decode("utf-8", "replace")
  return postprocessors.with_examples(text, postprocess, single, is_target)


def scored(
  task: variants.Description, its_metrics: Sequence[Metric] | None = None
) -> variants.Description:
  """A classification task with one row per label word, judged by the scores.

  Args:
    task: One with label words.
    its_metrics: Of scores; None for `ranking_metrics.rank_classification`.
  """
  assert task.labels is not None
  return dataclasses.replace(
    task,
    preprocessors=[
      *task.preprocessors,
      functools.partial(with_labels, labels=task.labels),
      as_rows,
    ],
    postprocess=postprocessors.rank_classification,
    metrics=its_metrics or [ranked(task.labels)],
    labels=None,
  )


def ranked(labels: Sequence[str], normed: bool = False) -> Metric:
  """The metric of `scored`; `normed` divides scores by the number of target tokens."""
  return functools.partial(
    ranking_metrics.rank_classification,
    num_classes=len(labels),
    normalize_by_target_length=normed,
  )
