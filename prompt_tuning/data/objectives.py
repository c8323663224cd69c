"""Pretraining objectives as seqio preprocessors (Raffel et al. 2020, section 3.3).

Each takes tokenized documents in "targets" and yields examples in "inputs" and "targets",
without EOS, which `append_eos_after_trim` adds. Every random choice comes from seqio's
stateless seeds, so that a dataset is a function of its seed.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import spans, vocabularies
from prompt_tuning.data.spans import T5_NOISE, Noise

MAX_CHUNK = 65536  # tokens; of a longer document a random piece is taken
_CONCATENATED = 128  # documents that are joined before they are cut

Features = Mapping[str, seqio.Feature]
Lengths = Mapping[str, int]
Pair = tuple[Any, Any]  # inputs and targets, int32 tensors


def span_corruption(
  dataset: tf.data.Dataset,
  sequence_length: Lengths,
  output_features: Features,
  noise: Noise = T5_NOISE,
) -> tf.data.Dataset:
  """Hidden spans become sentinels; the targets say what each stood for."""
  raw = _raw_len("span_corruption", sequence_length, output_features, noise)
  top = _top_sentinel(output_features)

  def corrupt(tokens: tf.Tensor, seed: tf.Tensor) -> Pair:
    hidden = noise_spans(tf.size(tokens), noise, seed)
    return with_sentinels(tokens, hidden, top), with_sentinels(tokens, ~hidden, top)

  return _each(split_tokens(concatenated(dataset), raw), corrupt)


def text_infilling(
  dataset: tf.data.Dataset,
  sequence_length: Lengths,
  output_features: Features,
  noise: Noise = T5_NOISE,
) -> tf.data.Dataset:
  """Hidden spans become sentinels; the targets are the whole text (Lewis et al. 2020)."""
  raw = _raw_len("text_infilling", sequence_length, output_features, noise)
  top = _top_sentinel(output_features)

  def infill(tokens: tf.Tensor, seed: tf.Tensor) -> Pair:
    hidden = noise_spans(tf.size(tokens), noise, seed)
    return with_sentinels(tokens, hidden, top), tokens

  return _each(split_tokens(random_chunk(dataset), raw), infill)


def token_deletion(
  dataset: tf.data.Dataset,
  sequence_length: Lengths,
  output_features: Features,
  noise: Noise = T5_NOISE,
) -> tf.data.Dataset:
  """Single tokens disappear; the targets are the whole text (Lewis et al. 2020)."""
  raw = _raw_len("token_deletion", sequence_length, output_features, noise)

  def delete(tokens: tf.Tensor, seed: tf.Tensor) -> Pair:
    kept = tf.random.stateless_uniform(tf.shape(tokens), seed) >= noise.density
    return tf.boolean_mask(tokens, kept), tokens

  return _each(split_tokens(random_chunk(dataset), raw), delete)


def prefix_lm(
  dataset: tf.data.Dataset, sequence_length: Lengths, output_features: Features
) -> tf.data.Dataset:
  """A prefix and its continuation, cut anywhere that leaves the latter its room."""
  raw = _raw_len("prefix_lm", sequence_length, output_features, T5_NOISE)
  room = sequence_length["targets"] - 1

  def cut(tokens: tf.Tensor, seed: tf.Tensor) -> Pair:
    size = tf.size(tokens)
    least = tf.maximum(1, size - room)
    at = tf.random.stateless_uniform([], seed, least, size, dtype=tf.int32)
    return tokens[:at], tokens[at:]

  return _each(split_tokens(concatenated(dataset), raw), cut)


def labelled(
  dataset: tf.data.Dataset,
  sequence_length: Lengths,
  output_features: Features,
  window: int | None = None,
) -> tf.data.Dataset:
  """The text "prefix", then a random piece of "inputs" that fits behind it.

  Args:
    dataset: Examples with "prefix" (text), "inputs" and "targets" (tokens).
    sequence_length: Tokens of a row.
    output_features: The features' vocabularies.
    window: Most tokens of prefix, piece and EOS; None for a whole row.
  """
  vocabulary = output_features["inputs"].vocabulary
  length = min(window or sequence_length["inputs"], sequence_length["inputs"])

  @seqio.map_over_dataset(num_seeds=1)
  def piece(example: dict, seed: tf.Tensor) -> dict:
    prefix, inputs = vocabulary.encode_tf(example["prefix"]), example["inputs"]
    room = tf.maximum(0, length - 1 - tf.size(prefix))
    last = tf.maximum(0, tf.size(inputs) - room)
    at = tf.random.stateless_uniform([], seed, 0, last + 1, dtype=tf.int32)
    body = inputs[at : at + room]
    return {"inputs": tf.concat([prefix, body], 0), "targets": example["targets"]}

  return piece(dataset)


def from_text(objective: Callable) -> list[Callable]:
  """The preprocessors of a task that applies `objective` to the field "text"."""
  keys = {"inputs": None, "targets": "text"}
  return [
    functools.partial(seqio.preprocessors.rekey, key_map=keys),
    seqio.preprocessors.tokenize,
    objective,
    seqio.preprocessors.append_eos_after_trim,
  ]


# The pieces.


def _raw_len(kind: str, lengths: Lengths, features: Features, noise: Noise) -> int:
  raw = spans.raw_len(kind, lengths["inputs"], noise)
  spans.check_room(kind, raw, lengths["targets"], noise)
  if kind in spans.SPAN_KINDS:
    vocabulary, needed = features["inputs"].vocabulary, noise.counts(raw)[1]
    if vocabulary.extra_ids < needed:
      raise checks.InputError(
        f"{kind} of {raw} tokens hides {needed} spans, the vocabulary {vocabulary} has "
        f"{vocabulary.extra_ids} sentinels; set seqio.SentencePieceVocabulary.extra_ids "
        "(T5: 100) or shorten the inputs"
      )
  return raw


def _top_sentinel(features: Features) -> int:
  """Id of the first sentinel; the others lie below it."""
  return features["inputs"].vocabulary.vocab_size - 1


def _each(
  dataset: tf.data.Dataset, function: Callable[[tf.Tensor, tf.Tensor], Pair]
) -> tf.data.Dataset:
  """Makes inputs and targets of each piece of text; `function` takes tokens and a seed."""

  @seqio.map_over_dataset(num_seeds=1)
  def make(example: dict, seed: tf.Tensor) -> dict:
    inputs, targets = function(example["targets"], seed)
    return {"inputs": inputs, "targets": targets}

  return make(dataset)


@seqio.map_over_dataset(num_seeds=1)
def random_chunk(example: dict, seed: tf.Tensor) -> dict:
  """At most `MAX_CHUNK` tokens of each document."""
  tokens = example["targets"]
  pieces = tf.maximum(1, -(-tf.size(tokens) // MAX_CHUNK))
  at = MAX_CHUNK * tf.random.stateless_uniform([], seed, 0, pieces, dtype=tf.int32)
  return {"targets": tokens[at : at + MAX_CHUNK]}


def concatenated(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Documents joined without a separator, as T5 does, so that rows are full."""

  def join(example: dict) -> dict:
    return {"targets": tf.RaggedTensor.from_tensor(example["targets"], padding=0).values}

  return random_chunk(dataset).padded_batch(_CONCATENATED).map(join)


def split_tokens(dataset: tf.data.Dataset, length: int) -> tf.data.Dataset:
  """Pieces of `length` tokens; the last may be shorter, but not a single token."""

  def pieces(example: dict) -> tf.data.Dataset:
    tokens = example["targets"]
    starts = tf.range(0, tf.size(tokens), length)
    found = tf.data.Dataset.from_tensor_slices(starts)
    return found.map(lambda at: {"targets": tokens[at : at + length]})

  return dataset.flat_map(pieces).filter(lambda x: tf.size(x["targets"]) > 1)


def noise_spans(length: tf.Tensor, noise: Noise, seed: tf.Tensor) -> tf.Tensor:
  """Which tokens are hidden: [length] bool, beginning with a shown one.

    . . . x x . . . . x . . x x x x      3 spans, every split equally likely

  Args:
    length: Scalar int32, at least 2.
    noise: Density and mean span.
    seed: [2] int32.
  """
  wanted = tf.cast(length, tf.float32) * noise.density
  hidden = tf.clip_by_value(tf.cast(tf.round(wanted), tf.int32), 1, length - 1)
  count = tf.cast(tf.round(tf.cast(hidden, tf.float32) / noise.mean_span), tf.int32)
  count = tf.clip_by_value(count, 1, tf.minimum(hidden, length - hidden))
  seeds = tf.random.experimental.stateless_split(seed, 2)
  shown = _partition(length - hidden, count, seeds[0])
  masked = _partition(hidden, count, seeds[1])
  lengths = tf.reshape(tf.stack([shown, masked], axis=1), [-1])
  return tf.repeat(tf.range(tf.size(lengths)) % 2 == 1, lengths)


def _partition(total: tf.Tensor, parts: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """`parts` positive integers that sum to `total`: [parts] int32."""
  places = tf.random.experimental.stateless_shuffle(tf.range(1, total), seed)
  cuts = tf.sort(places[: parts - 1])
  ends = tf.concat([cuts, [total]], 0)
  return ends - tf.concat([[0], cuts], 0)


def with_sentinels(tokens: tf.Tensor, hidden: tf.Tensor, top: int) -> tf.Tensor:
  """Replaces each run of hidden tokens by one sentinel: top, top - 1, ..."""
  first = hidden & ~tf.concat([[False], hidden[:-1]], 0)
  sentinels = top + 1 - tf.cumsum(tf.cast(first, tokens.dtype))
  return tf.boolean_mask(tf.where(first, sentinels, tokens), first | ~hidden)


@seqio.map_over_dataset
def sentinel_before_targets(example: dict) -> dict:
  """Puts the first sentinel in front of a text target.

  A model that knows span corruption only then finds a target of the form it knows
  (Lester et al. 2021, section 3.2, "Span Corruption + Sentinel").

  Raises:
    InputError: The run's vocabulary has no sentinels.
  """
  vocabulary = vocabularies.current()
  if isinstance(vocabulary, vocabularies.Tokenizer):
    raise checks.InputError(
      f"the vocabulary {vocabulary.name} has no sentinels, expected one that has, for the "
      "task puts one in front of its targets; choose a task without"
    )
  text = tf.strings.join([vocabularies.FIRST_SENTINEL, example["targets"]], separator=" ")
  return {**example, "targets": text}
