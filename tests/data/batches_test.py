"""Batches for inference: their order is the split's, their last is filled up."""

import pytest

from prompt_tuning import checks
from prompt_tuning.data import batches, vocabularies


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
