"""Packing: every example once, whole, laid out as its unpacked row; rows nearly full."""

import copy
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning import checks
from prompt_tuning.data.packed_rows import PLACES
from prompt_tuning.data.packing import PENDING, Packer, Packing, fullest
from prompt_tuning.prompts import combine as combines

LENGTHS = {"inputs": 24, "targets": 6}
ROWS = 3


def example(inputs, targets):
  return {"inputs": np.array(inputs, np.int32), "targets": np.array(targets, np.int32)}


def numbered(sizes):
  """An example of each size (tokens of inputs, of targets), no token twice in all."""
  tokens = itertools.count(1)
  return [
    example(list(itertools.islice(tokens, n)), list(itertools.islice(tokens, m)))
    for n, m in sizes
  ]


def chunks(examples, size=3):
  """The examples padded, so many together."""
  for start in range(0, len(examples), size):
    some = examples[start : start + size]
    found = {}
    for name in some[0]:
      longest = max(len(each[name]) for each in some)
      found[name] = np.stack(
        [np.pad(each[name], (0, longest - len(each[name]))) for each in some]
      )
    yield found


def packer(examples, lengths=None, rows=ROWS, **packing):
  how = Packing(**{"prompt_len": 0, **packing})
  return Packer(chunks(examples), lengths or LENGTHS, rows, how)


def segments(batch):
  """The examples of each row: (inputs with slot k as -k, targets), in order."""
  found = []
  for row in range(len(batch["encoder_segment_ids"])):
    one = {name: array[row] for name, array in batch.items()}
    slots = one.get("encoder_prompt_slots", np.zeros_like(one["encoder_input_tokens"]))
    inputs = np.where(slots > 0, -slots, one["encoder_input_tokens"])
    encoder, decoder = one["encoder_segment_ids"], one["decoder_segment_ids"]
    found.append(
      [
        (inputs[encoder == n].tolist(), one["decoder_target_tokens"][decoder == n].tolist())
        for n in range(1, max(encoder.max(), decoder.max()) + 1)
      ]
    )
  return found


def with_prefix(examples, prompt_len):
  prompt = [-k for k in range(1, prompt_len + 1)]
  return [(prompt + e["inputs"].tolist(), e["targets"].tolist()) for e in examples]


# Layout.


def test_rows_are_those_of_the_picture():
  examples = [example([11, 12, 13, 1], [21, 1]), example([14, 1], [22, 23, 1])]
  lengths = {"inputs": 10, "targets": 8}
  (batch,) = packer(examples, lengths, rows=2, prompt_len=2)
  expected = {
    "encoder_input_tokens": [0, 0, 11, 12, 13, 1, 0, 0, 14, 1, 0, 0],
    "encoder_prompt_slots": [1, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0],
    "encoder_segment_ids": [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0],
    "encoder_positions": [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 0, 0],
    "decoder_target_tokens": [21, 1, 22, 23, 1, 0, 0, 0],
    "decoder_input_tokens": [0, 21, 0, 22, 23, 0, 0, 0],
    "decoder_segment_ids": [1, 1, 2, 2, 2, 0, 0, 0],
    "decoder_positions": [0, 1, 0, 1, 2, 0, 0, 0],
    "decoder_loss_weights": [1, 1, 1, 1, 1, 0, 0, 0],
  }
  assert batch.keys() == expected.keys()
  for name, array in batch.items():
    assert array.dtype == np.int32
    assert array.tolist() == [expected[name], [0] * len(expected[name])], name


@pytest.mark.parametrize("combine", PLACES)
@pytest.mark.parametrize("prompt_len", [1, 7])
def test_a_segment_is_its_unpacked_row_without_padding(combine, prompt_len):
  rng = np.random.default_rng(prompt_len)
  sizes = zip(rng.integers(1, 25, 60), rng.integers(0, 7, 60), strict=True)
  examples = numbered(sizes)
  tokens = np.zeros((60, LENGTHS["inputs"]), np.int32)
  for row, each in zip(tokens, examples, strict=True):
    row[: len(each["inputs"])] = each["inputs"]
  prompt = -np.arange(1, prompt_len + 1, dtype=np.float32)[None, :, None]
  unpacked = getattr(combines, combine)(
    jnp.asarray(np.repeat(prompt, 60, axis=0)),
    jnp.asarray(tokens[..., None], jnp.float32),
    jnp.asarray(tokens),
  )
  rows = [row[row != 0].tolist() for row in np.asarray(unpacked, np.int32)[..., 0]]
  batches = list(packer(examples, prompt_len=prompt_len, combine=combine))
  found = [inputs for b in batches for row in segments(b) for inputs, _ in row]
  assert sorted(found) == sorted(rows)


@pytest.mark.parametrize("combine", PLACES)
def test_empty_inputs_leave_the_whole_prompt(combine):
  without = {"targets": np.array([5, 1], np.int32)}
  for examples in ([example([], [5, 1])] * 2, [without] * 2):
    (batch,) = packer(examples, prompt_len=3, combine=combine)
    assert segments(batch)[0] == [([-1, -2, -3], [5, 1])] * 2


def test_without_a_prompt_batches_are_seqio_s():
  rng = np.random.default_rng(5)
  sizes = zip(rng.integers(1, 25, 50), rng.integers(1, 7, 50), strict=True)
  (ours,) = packer(numbered(sizes), rows=50, pending=50)
  in_order = [example(*both) for row in segments(ours) for both in row]
  dataset = tf.data.Dataset.from_generator(
    lambda: in_order,
    output_signature={n: tf.TensorSpec([None], tf.int32) for n in LENGTHS},
  )
  theirs = list(
    seqio.EncDecFeatureConverter(pack=True)(dataset, LENGTHS).as_numpy_iterator()
  )
  assert ours.keys() == theirs[0].keys() and len(theirs) > 10
  for name, array in ours.items():
    np.testing.assert_array_equal(array[: len(theirs)], [row[name] for row in theirs])
    assert not array[len(theirs) :].any()


# Which examples.

PAIRS = st.tuples(st.integers(0, 24), st.integers(0, 6))
MIXES = st.lists(PAIRS.filter(any), max_size=40)


@settings(max_examples=150, deadline=None)
@given(MIXES, st.integers(0, 150), st.integers(1, 20))
def test_every_example_is_in_one_row_whole(sizes, prompt_len, pending):
  examples = numbered(sizes)
  batches = list(packer(examples, prompt_len=prompt_len, pending=pending))
  found = [one for batch in batches for row in segments(batch) for one in row]
  assert sorted(found) == sorted(with_prefix(examples, prompt_len))
  again = packer(examples, prompt_len=prompt_len, pending=pending)
  for ours, theirs in zip(batches, again, strict=True):
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@settings(max_examples=50, deadline=None)
@given(MIXES, st.integers(0, 150))
def test_segments_are_in_order_and_padding_is_at_the_end(sizes, prompt_len):
  places = {"encoder": LENGTHS["inputs"] + prompt_len, "decoder": LENGTHS["targets"]}
  for batch in packer(numbered(sizes), prompt_len=prompt_len):
    assert ("encoder_prompt_slots" in batch) == (prompt_len > 0)
    for name, array in batch.items():
      assert array.shape == (ROWS, places[name.split("_")[0]])
    for side in places:
      rows = zip(batch[f"{side}_segment_ids"], batch[f"{side}_positions"], strict=True)
      for ids, positions in rows:
        used = ids[ids > 0].tolist()
        assert used == sorted(used) == ids[: len(used)].tolist()
        counted = [i for n in sorted(set(used)) for i in range(used.count(n))]
        assert positions.tolist() == counted + [0] * (len(ids) - len(used))


def test_examples_that_are_empty_or_need_no_encoder_place_are_packed_too():
  examples = [example([], []), *numbered([(0, 2)] * 5), example([], [])]
  (batch,) = packer(examples)
  rows = [[one for one in row if any(one)] for row in segments(batch)]
  assert rows == [with_prefix(examples[1:4], 0), with_prefix(examples[4:6], 0), []]


@settings(max_examples=50, deadline=None)
@given(MIXES, st.integers(0, 10))
def test_a_row_begins_with_the_oldest_and_takes_in_what_fits(sizes, prompt_len):
  waiting = with_prefix(numbered(sizes), prompt_len)
  batches = packer(numbered(sizes), prompt_len=prompt_len, pending=64)
  for row in (row for batch in batches for row in segments(batch) if row):
    assert row[0] == waiting[0]
    waiting = [one for one in waiting if one not in row]
    room = LENGTHS["inputs"] + prompt_len - sum(len(inputs) for inputs, _ in row)
    left = LENGTHS["targets"] - sum(len(targets) for _, targets in row)
    assert not any(len(a) <= room and len(b) <= left for a, b in waiting)


SIZES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=9)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(9, 30), st.integers(4, 12))
def test_no_other_choice_fills_more_of_the_encoder(sizes, encoder_len, decoder_len):
  chosen = fullest(sizes, encoder_len, decoder_len)

  def used(places):
    return tuple(sum(sizes[i][side] for i in places) for side in (0, 1))

  every = (
    used((0, *some))
    for count in range(len(sizes))
    for some in itertools.combinations(range(1, len(sizes)), count)
  )
  most = max(n for n, m in every if n <= encoder_len and m <= decoder_len)
  assert 0 in chosen
  assert used(chosen)[0] == most and used(chosen)[1] <= decoder_len


@pytest.mark.parametrize("prompt_len", [100, 20, 0])
def test_rows_are_nearly_full(prompt_len):
  rng = np.random.default_rng(0)  # lengths like BoolQ's, CB's, RTE's and COPA's
  means = np.repeat([149, 105, 79, 36], 500)
  inputs = np.clip(rng.lognormal(np.log(means) - 0.125, 0.5), 5, 512).astype(int)
  inputs = rng.permutation(inputs)
  examples = [example([2] * n, [2, 1]) for n in inputs]
  lengths = {"inputs": 512, "targets": 16}
  rows = [
    row
    for batch in packer(examples, lengths, 32, prompt_len=prompt_len)
    for row in batch["encoder_segment_ids"]
  ]
  # The last rows have what was pending and nothing to choose from.
  filled = np.mean([row > 0 for row in rows][:-64])
  assert filled > 0.99


# What is read.


def test_padding_and_what_is_too_long_do_not_count():
  examples = [example([*range(1, 31)], [5, 1, 0, 0, 0, 0, 0, 0]), example([7, 1, 0], [])]
  (batch,) = packer(examples)
  assert segments(batch)[:2] == [[(list(range(1, 25)), [5, 1])], [([7, 1], [])]]


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_packer_goes_on_from_what_was_pending(after):
  rng = np.random.default_rng(1)
  sizes = zip(rng.integers(0, 25, 99), rng.integers(0, 7, 99), strict=True)
  read, how = iter(list(chunks(numbered(sizes)))), Packing(prompt_len=5)
  first = Packer(read, LENGTHS, ROWS, how)
  for _ in range(after):
    next(first)
  pending = first.pending()
  assert set(pending) == set(PENDING)
  assert {array.dtype for array in pending.values()} == {np.dtype(np.int32)}
  second = Packer(copy.copy(read), LENGTHS, ROWS, how)
  second.restore(pending)
  for ours, theirs in zip(first, second, strict=True):
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


# Errors.


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"combine": "sufix"}, "unknown combine 'sufix'; the nearest known: suffix"),
    ({"combine": "suffix_after_bos"}, "prompt in the decoder.*set pack=False"),
    ({"prompt_len": -1}, "prompt_len is -1"),
    ({"pending": 0}, "pending is 0"),
  ],
)
def test_what_cannot_be_packed_is_refused(settings, message):
  with pytest.raises(checks.InputError, match=message):
    Packing(**{"prompt_len": 2, **settings})
