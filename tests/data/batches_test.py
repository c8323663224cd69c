"""Batches: their order is the seed's, their shape is fixed, their last is padded."""

import itertools

import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.data import batches, vocabularies


def take(config, provider, count, skip=0):
  return list(itertools.islice(batches.training_batches(config, provider, skip), count))


def texts(found):
  decode = vocabularies.EMBEDDED.load().decode
  return [decode(row.tolist()) for batch in found for row in batch["encoder_input_tokens"]]


def assert_equal(ours, theirs):
  assert len(ours) == len(theirs) > 0
  for a, b in zip(ours, theirs, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_the_order_depends_on_the_seed_only(dataset_config, numbers):
  found = take(dataset_config(), numbers, 7)
  assert_equal(take(dataset_config(), numbers, 7), found)
  assert texts(take(dataset_config(seed=8), numbers, 7)) != texts(found)


def test_shuffled_batches_come_to_every_example(dataset_config, numbers):
  found = texts(take(dataset_config(batch_size=13), numbers, 10))
  assert set(found) == {f"example {i}" for i in range(13)}
  assert found[:13] != found[13:26]


def test_unshuffled_batches_follow_the_split(dataset_config, numbers):
  found = texts(take(dataset_config(shuffle=False), numbers, 4))
  assert found == [f"example {i % 13}" for i in range(16)]


@pytest.mark.parametrize("skip", [1, 3, 11])  # 13 examples: within and beyond an epoch
def test_skipping_is_dropping(dataset_config, numbers, skip):
  found = take(dataset_config(), numbers, skip + 3)
  assert_equal(take(dataset_config(), numbers, 3, skip), found[skip:])


def test_batches_have_t5x_s_features_in_int32(dataset_config, numbers):
  (batch,) = take(dataset_config(shuffle=False), numbers, 1)
  shapes = {name: rows.shape for name, rows in batch.items()}
  assert shapes == {
    "encoder_input_tokens": (4, 12),
    "decoder_input_tokens": (4, 4),
    "decoder_target_tokens": (4, 4),
    "decoder_loss_weights": (4, 4),
  }
  assert {rows.dtype for rows in batch.values()} == {np.dtype(np.int32)}
  encode = vocabularies.EMBEDDED.load().encode
  target = [*encode("0"), 1]
  padding = [0] * (4 - len(target))
  assert batch["decoder_target_tokens"][0].tolist() == target + padding
  assert batch["decoder_input_tokens"][0].tolist() == [0, *target, *padding][:4]
  assert batch["decoder_loss_weights"][0].tolist() == [1] * len(target) + padding


def test_a_batch_larger_than_the_split_repeats_it(dataset_config, numbers):
  (batch,) = take(dataset_config(batch_size=30, shuffle=False), numbers, 1)
  assert texts([batch]) == [f"example {i % 13}" for i in range(30)]


def test_a_split_without_examples_is_refused(dataset_config, numbers):
  for function in (batches.training_batches, batches.inference_examples):
    with pytest.raises(checks.InputError, match=r"'empty'.*yields no example"):
      function(dataset_config(split="empty"), numbers)


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
