"""Examples that bring candidates become batches: shapes, padding, what is refused."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import batches, candidates, converters, vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.evaluation import Evaluation
from prompt_tuning.data.training_batches import TrainingBatches

NAME = "candidates_of_the_converter_tests"
# Different inputs of each candidate, and more or fewer candidates.
ROWS = [
  {"inputs": ["ice: is it hot", "tea: is it"], "targets": ["no", "yes"], "right": [1, 0]},
  {"inputs": ["a", "b", "c"], "targets": ["one", "two", "yes no"], "right": [0, 1, 1]},
]
LENGTHS = {"inputs": 8, "targets": 4, "is_correct": 3}


def examples(split, shuffle_files=False, seed=None):
  del split, shuffle_files, seed
  kinds = {"inputs": tf.string, "targets": tf.string, "right": tf.bool}
  found = tf.data.Dataset.from_generator(
    lambda: iter([{**row, "right": np.array(row["right"], bool)} for row in ROWS]),
    output_signature={name: tf.TensorSpec([None], kind) for name, kind in kinds.items()},
  )
  return found.map(
    lambda row: {
      "inputs": row["inputs"],
      "targets": row["targets"],
      "is_correct": row["right"],
    }
  )


def right(targets, predictions):
  return {"right": float(sum(map(np.equal, targets, predictions)))}


@pytest.fixture(scope="module")
def provider():
  if NAME not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add(
      NAME,
      source=seqio.FunctionDataSource(examples, splits=("train",)),
      preprocessors=[candidates.tokenize],
      postprocess_fn=lambda text, example, is_target: (
        candidates.right_pair(example)["targets_pretokenized"].decode()
        if is_target
        else text
      ),
      metric_fns=[right],
      output_features=candidates.output_features(vocabularies.EMBEDDED),
    )
  return seqio.get_mixture_or_task(NAME)


def config(**changes):
  given = {"task_feature_lengths": LENGTHS, "split": "train", "batch_size": 2, **changes}
  return DatasetConfig(mixture_or_task_name=NAME, **given)


def tokens(text):
  return [*vocabularies.EMBEDDED.load().encode(text), 1]


def padded(texts, length, count):
  rows = [tokens(text) for text in texts] + [[]] * (count - len(texts))
  return [(row + [0] * length)[:length] for row in rows]


def check(batch, lengths):
  count = lengths["is_correct"]
  for place, row in enumerate(ROWS):
    for name, feature in (("inputs", "encoder_input"), ("targets", "decoder_target")):
      expected = padded(row[name], lengths[name], count)
      assert batch[f"{feature}_tokens"][place].tolist() == expected
    right = [bool(x) for x in row["right"]] + [False] * (count - len(row["right"]))
    assert batch["is_correct"][place].tolist() == right
  targets = batch["decoder_target_tokens"]
  shifted = np.pad(targets, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  assert (batch["decoder_input_tokens"] == shifted).all()
  assert (batch["decoder_loss_weights"] == (targets > 0)).all()
  kinds = {name: x.dtype for name, x in batch.items()}
  assert kinds.pop("is_correct") == np.dtype(bool) and set(kinds.values()) == {
    np.dtype(np.int32)
  }


def test_a_batch_holds_examples_candidates_and_tokens(provider):
  wide = {"inputs": 8, "targets": 4, "is_correct": 4}
  check(next(TrainingBatches(config(task_feature_lengths=wide), provider)), wide)


def test_evaluation_finds_the_lengths_and_shows_the_right_pair(provider):
  evaluation = Evaluation(config(task_feature_lengths=None), provider, None)
  (batch,) = evaluation.teacher_forced(1)
  longest = {
    name: max(len(tokens(text)) for row in ROWS for text in row[name])
    for name in ("inputs", "targets")
  }
  check(batch, {**longest, "is_correct": 3})
  first, second = evaluation.examples(NAME)
  assert first["inputs_pretokenized"] == b"ice: is it hot"
  assert second["targets_pretokenized"] == b"two"
  assert evaluation.targets(NAME) == ["no", "two"]
  answers = np.array([padded([x], 4, 1)[0] for x in ("yes", "two")], np.int32)
  metrics, texts = evaluation.run(lambda *_: answers, None, 0)
  assert metrics == {NAME: {"right": 1.0}} and texts == {NAME: ["yes", "two"]}


def test_inference_cuts_inputs_to_the_longest_candidate(provider):
  lengths = {"inputs": 100, "targets": 4, "is_correct": 3}
  found, dataset = batches.inference_examples(
    config(task_feature_lengths=lengths), provider
  )
  ((batch, indices),) = batches.batches_by_length(dataset, 2)
  assert len(found) == 2 and indices.tolist() == [0, 1]
  cut = batch["encoder_input_tokens"].shape[-1]
  assert 8 <= cut < 100
  check(batch, {**lengths, "inputs": cut})


def test_rows_that_fill_up_a_batch_have_no_weight(provider):
  evaluation = Evaluation(config(batch_size=3), provider, None)
  (batch,) = evaluation.teacher_forced(1)
  assert batch["decoder_loss_weights"].any(axis=(1, 2)).tolist() == [True, True, False]


def task_with(**ranks):
  vocabulary = vocabularies.EMBEDDED.load()
  found = {name: seqio.Feature(vocabulary, rank=rank) for name, rank in ranks.items()}
  return type("Provider", (), {"output_features": found})


def test_other_features_are_refused():
  for good in ({"targets": 1}, converters.PAIR, converters.CANDIDATES):
    converters.check("it", task_with(**good))
  for bad in (
    {"inputs": 2, "targets": 2},
    {"inputs": 1, "targets": 2, "is_correct": 1},
    {"inputs": 1, "targets": 1, "idx": 1},
    {"inputs": 1},
  ):
    with pytest.raises(checks.InputError, match="the examples of it have"):
      converters.check("it", task_with(**bad))


def test_too_little_room_is_said_where_it_is_known():
  rows = tf.data.Dataset.from_tensors(
    {
      "inputs": tf.ones([2, 3], tf.int32),
      "targets": tf.ones([2, 3], tf.int32),
      "is_correct": tf.ones([2], tf.bool),  # seqio has cut it
    }
  )
  lengths = {"inputs": 4, "targets": 4, "is_correct": 2}
  with pytest.raises(checks.InputError, match=r"room for 2 .* brings 3.*'is_correct': 3"):
    converters.Candidates(pack=False)(rows, lengths)
