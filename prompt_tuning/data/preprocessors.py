"""From the fields of a dataset to the text of T5 (Raffel et al. 2020, appendix D).

  glue/mrpc {sentence1: A, sentence2: B, label: 1}
  inputs   "mrpc sentence1: A sentence2: B"      targets  "equivalent"

Each takes and returns a `tf.data.Dataset`.
"""

from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

UNKNOWN = "<unk>"  # the target of an example without a label
_FIRST_WORD = "^[^ ]* "
Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def classification(
  example: Example,
  name: str,
  fields: Sequence[str],
  labels: Sequence[str],
  titles: Mapping[str, str] | None = None,
) -> Example:
  """The fields as "title: text" behind the name of the task, the label as its word.

  Args:
    example: With "label", a class or -1, and perhaps "idx".
    name: The word in front.
    fields: Names of the fields in their order.
    labels: Words in class order.
    titles: {field: what it is called}, where that differs.
  """
  titles = titles or {}
  parts = [
    part for field in fields for part in (f"{titles.get(field, field)}:", example[field])
  ]
  return {
    **_indices(example),
    "inputs": tf.strings.join([name, *parts], separator=" "),
    "targets": label_word(example["label"], labels),
  }


def label_word(label: tf.Tensor, labels: Sequence[str]) -> tf.Tensor:
  """The word of a class, "<unk>" for -1."""
  word = tf.gather(tf.constant(labels), tf.maximum(label, 0))
  return tf.where(label < 0, UNKNOWN, word)


def _indices(example: Example) -> Example:
  """The numbers that submissions need: "idx", nested ones as "idx/question"."""
  idx = example.get("idx")
  if isinstance(idx, Mapping):
    return {f"idx/{part}": value for part, value in idx.items()}
  return {} if idx is None else {"idx": idx}


@seqio.map_over_dataset
def single_spaced(example: Example) -> Example:
  """Every run of white space in the inputs becomes one space."""
  text = tf.strings.regex_replace(example["inputs"], r"\s+", " ")
  return {**example, "inputs": text}


@seqio.map_over_dataset
def labelled_text(example: Example, field: str, labels: Sequence[str]) -> Example:
  """One field as it is and the label as its word."""
  return {"inputs": example[field], "targets": label_word(example["label"], labels)}


@seqio.map_over_dataset
def stsb(example: Example) -> Example:
  """Similarity as a number between 0 and 5 in steps of 0.2."""
  parts = ["stsb sentence1:", example["sentence1"], "sentence2:", example["sentence2"]]
  return {
    **_indices(example),
    "inputs": tf.strings.join(parts, separator=" "),
    "targets": tf.strings.as_string(tf.round(example["label"] * 5) / 5, precision=1),
  }


@seqio.map_over_dataset
def without_markup(example: Example) -> Example:
  """Takes MultiRC's line breaks and bold face out of the inputs."""
  text = tf.strings.regex_replace(example["inputs"], "<br>", " ")
  return {**example, "inputs": tf.strings.regex_replace(text, "</?b>", "")}


@seqio.map_over_dataset
def text_generation(
  example: Example, source: str, target: str, name: str = "", prefix: str = ""
) -> Example:
  """One field to another: "name prefix TEXT".

  Args:
    example: The record.
    source: Field of the input; "a/b" is field b of field a.
    target: Field of the target.
    name: Word in front of all, for models that know several tasks.
    prefix: What is asked for, "summarize:".
  """
  words = [word for word in (name, prefix) if word]
  return {
    "inputs": tf.strings.join([*words, _nested(example, source)], separator=" "),
    "targets": _nested(example, target),
  }


def _nested(example: Example, path: str) -> tf.Tensor:
  value = example
  for key in path.split("/"):
    value = value[key]
  return value


def random_targets(
  dataset: tf.data.Dataset,
  output_features: Mapping[str, seqio.Feature],
  targets: Sequence[str],
) -> tf.data.Dataset:
  """Tokenized targets are replaced by one of some texts, each equally likely."""
  vocabulary = output_features["targets"].vocabulary
  choices = tf.ragged.constant([vocabulary.encode(text) for text in targets], tf.int32)

  @seqio.map_over_dataset(num_seeds=1)
  def draw(example: Example, seed: tf.Tensor) -> Example:
    number = tf.random.stateless_uniform([], seed, 0, len(targets), tf.int32)
    return {**example, "targets": choices[number]}

  return draw(dataset)


# The variants of a task: without its name, or with a number instead.


@seqio.map_over_dataset
def remove_first_text_token(example: Example) -> Example:
  """Takes the name of the task off: everything up to the first space."""
  text = tf.strings.regex_replace(example["inputs"], _FIRST_WORD, "", replace_global=False)
  return {**example, "inputs": text}


def add_sentinel_to_beginning(
  dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature], offset: int
) -> tf.data.Dataset:
  """Puts sentinel number `offset` in front of the tokens of the inputs."""
  sentinel = output_features["inputs"].vocabulary.vocab_size - 1 - offset

  def add(example: Example) -> Example:
    return {**example, "inputs": tf.concat([[sentinel], example["inputs"]], 0)}

  return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE)
