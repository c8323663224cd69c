"""What a pronoun refers to: the Winograd schemas of SuperGLUE and DPR as text.

"wsc: Mitchell asked Tom if *he* could lend some money."  ->  "Tom"
"""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

Example = dict[str, tf.Tensor]
_NAME = "wsc:"
_DETERMINERS = {
  *("a", "an", "few", "her", "his", "each", "every", "many", "much", "my", "our", "some"),
  *("that", "the", "their", "these", "this", "those", "which", "whose", "your"),
}


@seqio.map_over_dataset
def dpr_simple(example: Example) -> Example:
  """DPR: the first occurrence of the pronoun is marked, the right candidate is asked."""
  pronoun = tf.strings.join([" (", example["pronoun"], r")( |\.|,)"])
  marked = tf.strings.regex_replace(
    example["sentence"], pronoun, r" *\1*\2", replace_global=False
  )
  return {
    "inputs": tf.strings.join([_NAME, marked], separator=" "),
    "targets": example["candidates"][example["label"]],
  }


def wsc_simple(
  dataset: tf.data.Dataset, correct_referent_only: bool = False
) -> tf.data.Dataset:
  """WSC: the target is the noun that the record names, whether or not it is the right one.

  Args:
    dataset: Records of `super_glue/wsc.fixed`.
    correct_referent_only: Whether records with the wrong noun are left out, as one does
      for training.
  """

  def convert(example: Example) -> Example:
    marked = _with_marked_pronoun(
      example["text"], example["span2_index"], example["span2_text"]
    )
    return {
      "inputs": tf.strings.join([_NAME, marked], separator=" "),
      "targets": example["span1_text"],
      "label": example["label"],
      "idx": example["idx"],
    }

  if correct_referent_only:
    dataset = dataset.filter(lambda example: example["label"] == 1)
  return dataset.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


def _with_marked_pronoun(
  text: tf.Tensor, index: tf.Tensor, pronoun: tf.Tensor
) -> tf.Tensor:
  """The text with *pronoun* for its word number `index`.

  Two records of the training set are off: in one the pronoun is the next word, in the
  other a punctuation mark sticks to it, which then becomes a word.
  """
  words = tf.strings.split(text, " ")
  following = tf.minimum(index + 1, tf.size(words) - 1)
  index = tf.where(
    (words[index] != pronoun) & (words[following] == pronoun), following, index
  )
  rest = tf.strings.substr(words[index], tf.strings.length(pronoun), -1)
  marked = tf.strings.join(["*", pronoun, "*"])
  glued = tf.strings.length(rest) > 0
  word = tf.where(glued, tf.strings.join([marked, rest], separator=" "), marked)
  parts = tf.concat([words[:index], [word], words[index + 1 :]], 0)
  joined = tf.strings.reduce_join(parts, separator=" ")
  return tf.where(glued, tf.strings.strip(joined), joined)


def wsc_matches(text: str, example: Mapping[str, Any], is_target: bool = False) -> int:
  """Whether an answer means the noun of the record: 1 or 0, -1 for an empty answer.

  Case and determiners do not matter, and one side may say less than the other ("bunny",
  "the fuzzy bunny"), but "Bob" is not "Bob's hat". The target is the record's label.
  """
  if is_target:
    return int(example["label"])
  answer = _content_words(text)
  noun = _content_words(example["targets_pretokenized"].decode("utf-8", "replace"))
  if not answer:
    return -1
  if _has_apostrophe(answer) != _has_apostrophe(noun):
    return 0
  return int(answer <= noun or noun <= answer)


def _content_words(text: str) -> set[str]:
  words = text.strip().lower().split(" ")
  return {word for word in words if word not in _DETERMINERS and word}


def _has_apostrophe(words: set[str]) -> bool:
  return any("'" in word for word in words)
