"""Token arrays: what is written is read, and a batch is its index, size and seed."""

import hashlib

import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.data import token_arrays
from prompt_tuning.data.token_arrays import FEATURES, TokenArrays

ROWS = 23


def made(count, top=4096, input_len=8, target_len=6):
  """Rows of two packed examples and padding; the first token tells rows apart."""
  rng = np.random.default_rng(0)
  for i in range(count):
    inputs, targets = rng.integers(2, top, input_len), rng.integers(2, top, target_len)
    inputs[0] = targets[0] = 100 + i
    inputs[-2:], targets[-1:] = 0, 0
    yield {
      "encoder_input_tokens": inputs.astype(np.int32),
      "encoder_segment_ids": np.array([1, 1, 1, 2, 2, 2, 0, 0], np.int32)[:input_len],
      "decoder_target_tokens": targets.astype(np.int32),
      "decoder_segment_ids": np.array([1, 1, 2, 2, 2, 0], np.int32)[:target_len],
    }


def write(folder, count=ROWS, vocab_size=4096, name="mine"):
  place = folder / name / "train"
  return place, token_arrays.write(place, made(count), vocab_size)


@pytest.fixture
def arrays(tmp_path):
  write(tmp_path)
  return TokenArrays.read(tmp_path, "mine", "train")


def first_tokens(batches):
  return [int(row[0]) - 100 for b in batches for row in b["encoder_input_tokens"]]


def test_what_is_written_is_read(arrays):
  assert arrays.rows == ROWS
  for i, row in enumerate(made(ROWS)):
    for name in FEATURES:
      np.testing.assert_array_equal(arrays.arrays[name][i], row[name])


def test_files_whose_header_grew_are_ordinary_numpy_files(tmp_path):
  place, _ = write(tmp_path, 1234)
  for name in FEATURES:
    found = np.load(place / f"{name}.npy")
    np.testing.assert_array_equal(found, [row[name] for row in made(1234)])


def test_written_again_with_fewer_rows_nothing_old_is_left(tmp_path):
  write(tmp_path, 40)
  write(tmp_path, 3)
  assert TokenArrays.read(tmp_path, "mine", "train").rows == 3


@pytest.mark.parametrize(
  "vocab_size, dtype", [(4096, "uint16"), (65_536, "uint16"), (65_537, "uint32")]
)
def test_ids_take_the_fewest_bytes_that_hold_them(tmp_path, vocab_size, dtype):
  rows = [{**row, "encoder_input_tokens": np.full(8, vocab_size - 1)} for row in made(2)]
  place = tmp_path / "mine" / "train"
  token_arrays.write(place, rows, vocab_size)
  found = np.load(place / "encoder_input_tokens.npy")
  assert found.dtype == dtype
  assert (found == vocab_size - 1).all()


def test_the_summary_counts_rows_and_real_tokens_and_hashes_files(tmp_path):
  place, found = write(tmp_path)
  assert found["rows"] == ROWS
  assert found["lengths"] == dict(zip(FEATURES, (8, 8, 6, 6), strict=True))
  assert found["tokens"] == {
    "encoder_input_tokens": 6 * ROWS,
    "decoder_target_tokens": 5 * ROWS,
  }
  for name, digest in found["sha256"].items():
    content = (place / f"{name}.npy").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
  assert found["sha256"].keys() == set(FEATURES)


# Batches.


def test_a_batch_is_a_function_of_index_size_and_seed(tmp_path, arrays):
  again = TokenArrays.read(tmp_path, "mine", "train")
  expected = [arrays.batch(i, 4, seed=7) for i in range(12)]
  for i in (11, 3, 0):  # in any order, from another reader
    for name, rows in again.batch(i, 4, seed=7).items():
      np.testing.assert_array_equal(rows, expected[i][name])
  assert first_tokens([arrays.batch(0, 23, 8)]) != first_tokens([arrays.batch(0, 23, 7)])


def test_the_size_of_batches_does_not_change_the_order_of_rows(arrays):
  small = [arrays.batch(i, 4, 7) for i in range(6)]
  assert first_tokens(small) == first_tokens([arrays.batch(0, 24, 7)])


def test_an_epoch_is_every_row_once_and_the_next_has_another_order(arrays):
  order = first_tokens(arrays.batch(i, 5, seed=7) for i in range(ROWS))  # five epochs
  epochs = [order[at : at + ROWS] for at in range(0, 5 * ROWS, ROWS)]
  assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 5


def test_objectives_with_as_many_rows_are_not_read_in_the_same_order(tmp_path, arrays):
  write(tmp_path, name="other")
  other = TokenArrays.read(tmp_path, "other", "train")
  assert first_tokens([arrays.batch(0, 23, 7)]) != first_tokens([other.batch(0, 23, 7)])


def test_in_order_is_every_row_once_and_what_fills_the_last_batch_weighs_nothing(arrays):
  batches = list(arrays.in_order(5))
  assert len(batches) == 5
  assert first_tokens(batches) == [*range(ROWS), 0, 1]
  weights = np.concatenate([batch["decoder_loss_weights"] for batch in batches])
  assert weights.any(axis=1).tolist() == [True] * ROWS + [False] * 2
  assert weights.sum() == 5 * ROWS
  (large,) = arrays.in_order(2 * ROWS + 1)
  assert large["decoder_loss_weights"].sum() == 5 * ROWS


def test_a_split_without_rows_has_no_batches(tmp_path):
  assert write(tmp_path, 0)[1]["rows"] == 0
  empty = TokenArrays.read(tmp_path, "mine", "train")
  assert empty.rows == 0 and list(empty.in_order(4)) == []


def test_the_decoder_reads_the_targets_one_later_and_0_where_an_example_begins(arrays):
  batch = next(arrays.in_order(2))
  a, b, c, d, e, _ = batch["decoder_target_tokens"][0]
  assert batch["decoder_input_tokens"][0].tolist() == [0, a, 0, c, d, 0]
  assert batch["decoder_loss_weights"][0].tolist() == [1, 1, 1, 1, 1, 0]
  assert 0 not in (a, b, c, d, e)


def test_batches_are_int32(arrays):
  names = {*FEATURES, "decoder_input_tokens", "decoder_loss_weights"}
  batch = arrays.batch(0, 4, 0)
  assert batch.keys() == names
  assert {rows.dtype for rows in batch.values()} == {np.dtype(np.int32)}


# What cannot be read.


def test_absent_arrays_are_refused(tmp_path):
  with pytest.raises(checks.InputError, match="run `prompt-tuning tokens`"):
    TokenArrays.read(tmp_path, "mine", "train")


@pytest.mark.parametrize("damage", [b"", b"no array", "cut", "pickled"])
def test_damaged_arrays_are_refused(tmp_path, damage):
  path = write(tmp_path)[0] / "decoder_target_tokens.npy"
  if damage == "cut":
    path.write_bytes(path.read_bytes()[:-10])
  elif damage == "pickled":
    np.save(path, np.array([{}] * ROWS), allow_pickle=True)
  else:
    path.write_bytes(damage)
  with pytest.raises(checks.InputError, match=r"mine/train cannot be read"):
    TokenArrays.read(tmp_path, "mine", "train")


@pytest.mark.parametrize("shape", [(ROWS - 1, 6), (ROWS,), (ROWS, 6, 1)])
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, shape):
  place, _ = write(tmp_path)
  np.save(place / "decoder_target_tokens.npy", np.zeros(shape, np.uint16))
  with pytest.raises(checks.InputError, match=r"\[rows, length\] with the same"):
    TokenArrays.read(tmp_path, "mine", "train")


@pytest.mark.parametrize("content", [None, "", "{", "\xff"])
def test_a_folder_without_a_manifest_is_refused(tmp_path, content):
  if content is not None:
    (tmp_path / "manifest.json").write_bytes(content.encode("latin-1"))
  with pytest.raises(checks.InputError, match=r"has no manifest\.json that can be read"):
    token_arrays.manifest(tmp_path)


def test_a_manifest_is_read(tmp_path):
  (tmp_path / "manifest.json").write_text('{"seed": 3}')
  assert token_arrays.manifest(tmp_path) == {"seed": 3}


def test_objectives_are_drawn_by_their_rates_and_each_batch_once():
  drawn, counted = token_arrays.draws([3.0, 1.0, 0.0], 4000, seed=0)
  assert np.bincount(drawn, minlength=3)[2] == 0
  assert np.mean(drawn == 0) == pytest.approx(0.75, abs=0.03)
  for which in (0, 1):
    mine = counted[drawn == which]
    np.testing.assert_array_equal(mine, np.arange(len(mine)))
  assert (token_arrays.draws([3.0, 1.0, 0.0], 4000, seed=1)[0] != drawn).any()


def test_a_longer_run_begins_with_the_same_draws():
  short, long = (token_arrays.draws([1.0, 1.0], steps, seed=0) for steps in (50, 80))
  for one, other in zip(short, long, strict=True):
    np.testing.assert_array_equal(one, other[:50])
