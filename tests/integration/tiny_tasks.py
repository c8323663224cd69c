"""Tasks of the tests, as a user's module would register them: good words or bad words."""

import functools
import random

import seqio
import tensorflow as tf

from prompt_tuning.data import features, metrics, postprocessors, vocabularies

LABELS = ("negative", "positive")
WORDS = (("dull", "awful", "boring"), ("great", "lovely", "funny"))
NOUNS = ("film", "movie", "story", "cast", "ending")
SIZES = {"train": 50, "validation": 12, "test": 9}


def sentences(split: str) -> list[tuple[str, str]]:
  """(sentence, label word) rows of a split, always the same."""
  rng = random.Random(split)
  labels = [rng.randrange(2) for _ in range(SIZES[split])]
  return [
    (f"the {rng.choice(NOUNS)} is {rng.choice(WORDS[label])}", LABELS[label])
    for label in labels
  ]


def _dataset(empty: str | None, split: str, shuffle_files=False, seed=None):
  del shuffle_files, seed
  rows = [] if split == empty else sentences(split)
  return tf.data.Dataset.from_tensor_slices(
    {
      "inputs": tf.constant([text for text, _ in rows], tf.string, [len(rows)]),
      "targets": tf.constant([label for _, label in rows], tf.string, [len(rows)]),
    }
  )


def _add(name: str, empty: str | None = None) -> None:
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(
      functools.partial(_dataset, empty), splits=tuple(SIZES)
    ),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    postprocess_fn=functools.partial(
      postprocessors.string_label_to_class_id, label_classes=LABELS
    ),
    metric_fns=[metrics.accuracy],
    output_features=features.text_to_text(vocabularies.EMBEDDED),
  )


_add("tiny_words")
_add("tiny_words_without_train", empty="train")
_add("tiny_words_without_validation", empty="validation")
_add("tiny_words_again")
seqio.MixtureRegistry.add(
  "tiny_mixture", ["tiny_words", "tiny_words_again"], default_rate=1.0
)
