"""Batches for inference: their order is the split's, their last is filled up."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.data import batches, vocabularies
from prompt_tuning.prompts.prompted import PromptedT5


def texts(found):
  decode = vocabularies.EMBEDDED.load().decode
  return [decode(row.tolist()) for batch in found for row in batch["encoder_input_tokens"]]


def test_a_split_without_examples_is_refused(dataset_config, numbers):
  with pytest.raises(checks.InputError, match=r"'empty'.*yields no example"):
    batches.inference_examples(dataset_config(split="empty"), numbers)


def test_inference_keeps_the_order_and_the_strings(dataset_config, numbers):
  examples, dataset = batches.inference_examples(
    dataset_config(split="validation", shuffle=False), numbers
  )
  assert [e["inputs_pretokenized"].decode() for e in examples] == [
    f"example {i}" for i in range(5)
  ]
  assert [int(i) for i, _ in dataset.as_numpy_iterator()] == [0, 1, 2, 3, 4]


def test_the_last_batch_is_filled_up_and_says_which_rows_are_real(dataset_config, numbers):
  config = dataset_config(split="validation", shuffle=False)
  _, dataset = batches.inference_examples(config, numbers)
  (first, first_rows), (last, last_rows) = batches.padded_batches(dataset, 3)
  assert first_rows.tolist() == [0, 1, 2] and last_rows.tolist() == [3, 4]
  assert all(rows.shape[0] == 3 for batch in (first, last) for rows in batch.values())
  assert texts([last]) == ["example 3", "example 4", "example 3"]


def test_a_full_last_batch_is_left_as_it_is(dataset_config, numbers):
  config = dataset_config(split="validation", shuffle=False)
  _, dataset = batches.inference_examples(config, numbers)
  ((batch, rows),) = batches.padded_batches(dataset, 5)
  assert rows.tolist() == [0, 1, 2, 3, 4]
  assert texts([batch]) == [f"example {i}" for i in range(5)]


# By length.


def enumerated(lengths, most):
  """Rows of so many tokens, each ending in its own number plus 1."""
  rows = np.zeros((len(lengths), most), np.int32)
  for i, length in enumerate(lengths):
    rows[i, : length - 1] = 1
    rows[i, length - 1 : length] = i + 1
  features = {
    "encoder_input_tokens": rows,
    "decoder_target_tokens": np.tile(np.arange(len(rows), dtype=np.int32)[:, None], 7),
  }
  return tf.data.Dataset.from_tensor_slices(features).enumerate()


def test_inputs_are_cut_to_the_smallest_length_that_holds_the_whole_batch():
  lengths = [40, 3, 32, 33, 7, 5, 300, 9, 2, 60, 64, 8, 6, 1]
  found = list(batches.batches_by_length(enumerated(lengths, 300), 4))
  assert [(b["encoder_input_tokens"].shape, i.tolist()) for b, i in found] == [
    ((4, 32), [1, 2, 4, 5]),
    ((4, 64), [0, 3, 9, 10]),
    ((4, 32), [7, 8, 11, 12]),
    ((4, 300), [13, 6]),
  ]
  last = found[-1][0]["encoder_input_tokens"]
  assert last[0].tolist() == last[2].tolist() == last[3].tolist() == [14] + [0] * 299


@pytest.mark.parametrize(
  ("count", "batch_size", "most"), [(0, 4, 90), (500, 7, 512), (9, 32, 20)]
)
def test_every_row_comes_once_and_whole_in_few_shapes(count, batch_size, most):
  lengths = np.random.default_rng(count).integers(1, most + 1, count)
  dataset = enumerated(lengths, most)
  found = list(batches.batches_by_length(dataset, batch_size))
  assert len(found) == len(list(batches.padded_batches(dataset, batch_size)))
  assert sorted(i for _, rows in found for i in rows) == list(range(count))
  assert len({batch["encoder_input_tokens"].shape for batch, _ in found}) <= 5
  for batch, rows in found:
    assert {a.shape[0] for a in batch.values()} <= {batch_size}
    assert batch["decoder_target_tokens"].shape == (batch_size, 7)
    assert batch["decoder_target_tokens"][: len(rows), 0].tolist() == rows.tolist()
    for row, i in zip(batch["encoder_input_tokens"], rows, strict=False):
      assert sum(row > 0) == lengths[i] and row[lengths[i] - 1] == i + 1


def test_tokens_behind_a_zero_are_not_cut():
  rows = np.zeros((1, 99), np.int32)
  rows[0, [0, 50]] = 5
  dataset = tf.data.Dataset.from_tensor_slices({"encoder_input_tokens": rows}).enumerate()
  ((batch, _),) = batches.batches_by_length(dataset, 1)
  assert batch["encoder_input_tokens"].tolist() == rows[:, :64].tolist()


def test_few_rows_wait():
  lengths = [1, 40, 70, 140] * 25
  drawn = collections.Counter()

  class Rows:
    """What is asked of a dataset, with a count of what was drawn."""

    def batch(self, size):
      self.inner = enumerated(lengths, 150).batch(size)
      return self

    def as_numpy_iterator(self):
      for indices, batch in self.inner.as_numpy_iterator():
        drawn["rows"] += len(indices)
        yield indices, batch

  given = 0
  for _, rows in batches.batches_by_length(Rows(), 5):
    given += len(rows)
    assert drawn["rows"] - given <= 4 * 5 + 5
  assert given == 100


def test_a_model_says_the_same_of_rows_that_are_cut(tiny_t5):
  rng = np.random.default_rng(0)
  dataset = enumerated(rng.integers(1, 41, 20), 40)
  score = nnx.jit(lambda model, *tokens: PromptedT5(model).score(*tokens))
  ours, theirs = {}, {}
  for function, said in (
    (batches.batches_by_length, ours),
    (batches.padded_batches, theirs),
  ):
    for batch, rows in function(dataset, 8):
      scores = score(tiny_t5, *batch.values())
      said.update(zip(rows.tolist(), np.asarray(scores).tolist(), strict=False))
  assert list(ours) != list(theirs) == list(range(20))
  assert ours == pytest.approx(theirs, rel=1e-5)
