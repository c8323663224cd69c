"""Training batches: the same for any number of processes, continued where they were."""

import collections
import dataclasses
import itertools
import json
import pathlib
import shutil

import dealt_tasks
import numpy as np
import pytest
import seqio
import tensorflow as tf
from dealt_tasks import assert_equal, config, decoded

from prompt_tuning import checks
from prompt_tuning.data import vocabularies
from prompt_tuning.data.packing import Packing
from prompt_tuning.data.table import Table
from prompt_tuning.data.training_batches import TrainingBatches


def take(batches, count):
  return list(itertools.islice(batches, count))


def one_pipeline(settings, task):
  """seqio's own batches, without shards."""
  dataset = seqio.get_dataset(
    task,
    settings.task_feature_lengths,
    seqio.EncDecFeatureConverter(pack=False),
    dataset_split=settings.split,
    shuffle=settings.shuffle,
    num_epochs=None,
    seed=settings.seed,
    verbose=False,
  )
  options = tf.data.Options()
  options.deterministic = True
  dataset = dataset.batch(settings.batch_size, drop_remainder=True).with_options(options)
  return dataset.as_numpy_iterator()


@pytest.fixture
def task(request, tmp_path):
  """A task or mixture of the kind that a test names, "function" where it names none."""
  vocabularies.use(vocabularies.EMBEDDED)
  yield _task(getattr(request, "param", "function"), tmp_path)
  vocabularies.use(None)


def _task(kind, folder):
  if kind == "mixture":
    members = [(dealt_tasks.function(), 1.0), (dealt_tasks.of_tfds(folder, 1), 2.0)]
    return dealt_tasks.mixture(*members)
  if kind == "table":
    path = folder / "train.csv"
    path.write_text("text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(24)))
    Table(name="dealt_table", train=str(path), inputs="{text}", targets="label").register()
    return seqio.get_mixture_or_task("dealt_table")
  if kind.startswith("tfds"):
    return dealt_tasks.of_tfds(folder, int(kind.removeprefix("tfds ")))
  return getattr(dealt_tasks, kind)()


KINDS = ["function", "tfds 1", "tfds 4", "mixture", "table"]
kinds = pytest.mark.parametrize("task", KINDS, indirect=True)


# Order.


@kinds
def test_one_shard_has_seqio_s_own_order(task):
  settings = config(task)
  found = take(TrainingBatches(settings, task), 10)
  assert_equal(found, take(one_pipeline(settings, task), 10))


def test_unshuffled_batches_follow_the_split(dataset_config, numbers):
  found = take(TrainingBatches(dataset_config(shuffle=False), numbers), 4)
  texts = [text for batch in found for text in decoded(batch)]
  assert texts == [f"example {i % 13}" for i in range(16)]


def test_shuffled_batches_come_to_every_example(dataset_config, numbers):
  found = take(TrainingBatches(dataset_config(batch_size=13), numbers), 10)
  texts = [text for batch in found for text in decoded(batch)]
  assert set(texts) == {f"example {i}" for i in range(13)}
  assert texts[:13] != texts[13:26]


def test_the_order_depends_on_the_seed(task):
  ours, theirs = (
    take(TrainingBatches(config(task, seed=seed, num_shards=2), task), 3) for seed in (7, 8)
  )
  assert [decoded(b) for b in ours] != [decoded(b) for b in theirs]


def test_batches_have_t5x_s_features_in_int32(dataset_config, numbers):
  (batch,) = take(TrainingBatches(dataset_config(shuffle=False), numbers), 1)
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
  settings = dataset_config(batch_size=30, shuffle=False)
  (batch,) = take(TrainingBatches(settings, numbers), 1)
  assert decoded(batch) == [f"example {i % 13}" for i in range(30)]


# Processes.


def process_rows(processes, batch_size=8):
  own = batch_size // processes
  return [range(i * own, (i + 1) * own) for i in range(processes)]


@pytest.mark.parametrize(("number", "processes"), [(1, 2), (2, 2), (2, 4), (4, 2)])
def test_processes_together_have_the_batches_of_one(task, number, processes):
  settings = config(task, num_shards=number)
  expected = take(TrainingBatches(settings, task), 5)
  parts = [
    take(TrainingBatches(settings, task, rows), 5) for rows in process_rows(processes)
  ]
  found = [
    {name: np.concatenate([part[name] for part in step]) for name in step[0]}
    for step in zip(*parts, strict=True)
  ]
  assert_equal(found, expected)


def test_a_process_may_have_rows_that_cut_through_shards(task):
  settings = config(task, num_shards=4)
  expected = take(TrainingBatches(settings, task), 3)
  found = take(TrainingBatches(settings, task, range(1, 6)), 3)
  assert_equal(found, [{n: rows[1:6] for n, rows in b.items()} for b in expected])


@pytest.mark.parametrize(
  ("rows", "opened"),
  [(range(0, 8), 4), (range(2, 4), 1), (range(3, 4), 1), (range(1, 5), 3)],
)
def test_a_process_opens_the_shards_of_its_rows_only(task, rows, opened):
  dealt_tasks.calls.clear()
  TrainingBatches(config(task, num_shards=4), task, rows)
  assert len(dealt_tasks.calls) == opened


def test_a_process_reads_the_files_of_its_shards_only(tmp_path):
  task = dealt_tasks.text_files(tmp_path, 4)
  settings = config(task, num_shards=4)
  found = take(TrainingBatches(settings, task, range(2, 4)), 6)
  assert {text.split()[1] for batch in found for text in decoded(batch)} == {"1"}


# Positions. An epoch of 24 examples is 3 batches.


@pytest.mark.parametrize(
  ("task", "number"),
  [("function", 1), ("tfds 1", 1), ("tfds 4", 2), ("mixture", 2), ("table", 1)],
  indirect=["task"],
)
def test_restored_batches_are_those_that_would_have_come_next(task, number, tmp_path):
  settings, positions = config(task, num_shards=number), (4, 9)
  batches, found = TrainingBatches(settings, task), []
  for step in range(13):
    if step in positions:
      assert batches.save(tmp_path / str(step))
    found += take(batches, 1)
  assert_equal(found, take(TrainingBatches(settings, task), 13))  # saving changes nothing
  for step in positions:
    again = TrainingBatches.at(settings, task, step, folder=tmp_path / str(step))
    assert "continue" in again.note and again.step == step
    assert_equal(take(again, 13 - step), found[step:])


def test_every_position_across_the_ends_of_epochs_is_exact(
  numbers, dataset_config, tmp_path
):
  settings = dataset_config()  # 13 examples, 4 a batch
  batches, found = TrainingBatches(settings, numbers), []
  for step in range(10):
    assert batches.save(tmp_path / str(step))
    found += take(batches, 1)
  for step in range(1, 8):
    again = TrainingBatches.at(settings, numbers, step, folder=tmp_path / str(step))
    assert "continue" in again.note
    assert_equal(take(again, 3), found[step : step + 3])


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
def test_another_number_of_processes_continues(task, before, after, tmp_path):
  settings = config(task, num_shards=2)
  expected = take(TrainingBatches(settings, task), 7)
  for rows in process_rows(before):
    batches = TrainingBatches(settings, task, rows)
    take(batches, 4)
    assert batches.save(tmp_path)
  assert len(list(tmp_path.glob("shard-*-of-00002.json"))) == 2
  for rows in process_rows(after):
    again = TrainingBatches.at(settings, task, 4, rows=rows, folder=tmp_path)
    assert "continue" in again.note
    ours = [{name: a[rows.start : rows.stop] for name, a in b.items()} for b in expected]
    assert_equal(take(again, 3), ours[4:])


def test_a_shard_is_saved_by_the_process_of_its_first_row(task, tmp_path):
  settings = config(task, num_shards=2)
  assert TrainingBatches(settings, task, range(2, 6)).save(tmp_path)
  assert {path.stem for path in tmp_path.iterdir()} == {"shard-00001-of-00002"}


def test_a_restored_run_is_saved_and_restored_again(task, tmp_path):
  settings = config(task)
  expected = take(TrainingBatches(settings, task), 9)
  first, second = tmp_path / "first", tmp_path / "second"
  replayed = TrainingBatches.at(settings, task, 3)
  assert replayed.save(first)
  again = TrainingBatches.at(settings, task, 3, folder=first)
  take(again, 2)
  assert again.save(second)
  last = TrainingBatches.at(settings, task, 5, folder=second)
  assert "continue" in again.note and "continue" in last.note
  assert_equal(take(last, 4), expected[5:])


# Reading again.


@pytest.mark.parametrize("step", [1, 11])
def test_without_a_position_the_data_are_read_again(task, step):
  settings = config(task)
  expected = take(TrainingBatches(settings, task), step + 3)
  again = TrainingBatches.at(settings, task, step)
  assert again.step == step and "read again up to there, since no position" in again.note
  assert_equal(take(again, 3), expected[step:])


@pytest.mark.parametrize("task", ["generated"], indirect=True)
def test_what_cannot_be_saved_says_so_and_is_read_again(task, tmp_path):
  settings = config(task)
  expected = take(TrainingBatches(settings, task), 9)
  batches = TrainingBatches(settings, task)
  found = take(batches, 5)
  assert not batches.save(tmp_path)
  assert list(tmp_path.iterdir()) == []
  assert_equal(found + take(batches, 4), expected)
  again = TrainingBatches.at(settings, task, 5, folder=tmp_path)
  assert "read again" in again.note
  assert_equal(take(again, 4), expected[5:])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Settings and task, the folder of a position at step 3, and what comes then."""
  task, folder = dealt_tasks.function(), tmp_path_factory.mktemp("saved")
  batches = TrainingBatches.at(config(task), task, 3)
  assert batches.save(folder)
  return config(task), task, folder, take(batches, 3)


def _cut(folder, _):
  path = next(folder.glob("*.data-*"))
  path.write_bytes(path.read_bytes()[:-9])


def _flip(folder, _):
  path = next(folder.glob("*.data-*"))
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 16
  path.write_bytes(content)


def _no_index(folder, _):
  next(folder.glob("*.index")).unlink()


def _no_facts(folder, _):
  next(folder.glob("*.json")).unlink()


def _bad_facts(folder, _):
  next(folder.glob("*.json")).write_bytes(b'{"step": 3\xff')


def _other_tensorflow(folder, _):
  path = next(folder.glob("*.json"))
  facts = json.loads(path.read_text())
  path.write_text(json.dumps({**facts, "tensorflow": "2.0.0"}))


def _other_step(folder, settings):
  task = seqio.get_mixture_or_task(settings.mixture_or_task_name)
  assert TrainingBatches.at(settings, task, 4).save(folder)


def _other_pipeline(folder, _):
  """A position of a mixture under the facts of the task."""
  task = dealt_tasks.mixture((dealt_tasks.function(), 1.0), (dealt_tasks.function(), 1.0))
  facts = next(folder.glob("*.json")).read_text()
  assert TrainingBatches.at(config(task), task, 3).save(folder)
  next(folder.glob("*.json")).write_text(facts)


@pytest.mark.parametrize(
  "harm",
  [
    _cut,
    _flip,
    _no_index,
    _no_facts,
    _bad_facts,
    _other_tensorflow,
    _other_step,
    _other_pipeline,
  ],
)
def test_a_position_that_is_not_whole_or_not_its_own_is_not_used(harm, saved, tmp_path):
  settings, task, folder, expected = saved
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  harm(tmp_path, settings)
  again = TrainingBatches.at(settings, task, 3, folder=tmp_path)
  assert "read again" in again.note and "shard-00000-of-00001" in again.note
  assert_equal(take(again, 3), expected)


def test_a_folder_that_cannot_be_written_is_an_oserror(task, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError):
    TrainingBatches(config(task), task).save(tmp_path / "file")


# Packed rows, of 12 + 3 places each: two or three examples, an epoch in under two batches.

PACKED = Packing(prompt_len=3, combine="suffix_before_eos", pending=10)


def tokens(batch):
  """The inputs in a packed batch, row by row, each as a tuple."""
  return [
    tuple(row[(ids == n) & (slots == 0)])
    for row, ids, slots in zip(
      batch["encoder_input_tokens"],
      batch["encoder_segment_ids"],
      batch["encoder_prompt_slots"],
      strict=True,
    )
    for n in range(1, ids.max() + 1)
  ]


def test_packed_rows_hold_the_examples_of_the_unpacked(task):
  settings = config(task, task_feature_lengths={"inputs": 36, "targets": 12})
  packed = take(TrainingBatches(settings, task, packing=PACKED), 6)
  found = [one for batch in packed for one in tokens(batch)]
  unpacked = take(one_pipeline(settings, task), 60)
  read = [tuple(row[row > 0]) for b in unpacked for row in b["encoder_input_tokens"]]
  assert 2 * 6 * 8 < len(found) < len(read) - PACKED.pending
  # Of what was read first nothing is missing but what is pending.
  first = collections.Counter(read[: len(found) + PACKED.pending])
  assert collections.Counter(found) <= first


@pytest.mark.parametrize(
  ("task", "number"),
  [("function", 1), ("mixture", 2)],
  indirect=["task"],
)
def test_restored_packed_batches_are_those_that_would_have_come_next(
  task, number, tmp_path
):
  settings, positions = config(task, num_shards=number), (0, 1, 5)
  batches, found = TrainingBatches(settings, task, packing=PACKED), []
  for step in range(9):
    if step in positions:
      assert batches.save(tmp_path / str(step))
    found += take(batches, 1)
  assert_equal(found, take(TrainingBatches(settings, task, packing=PACKED), 9))
  for step in positions[1:]:
    folder = tmp_path / str(step)
    again = TrainingBatches.at(settings, task, step, folder=folder, packing=PACKED)
    assert "continue" in again.note and again.step == step
    assert_equal(take(again, 9 - step), found[step:])


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 2)])
def test_packed_batches_are_alike_for_any_number_of_processes(
  task, before, after, tmp_path
):
  settings = config(task, num_shards=2)
  expected = take(TrainingBatches(settings, task, packing=PACKED), 6)
  for rows in process_rows(before):
    batches = TrainingBatches(settings, task, rows, PACKED)
    ours = [{name: a[rows.start : rows.stop] for name, a in b.items()} for b in expected]
    assert_equal(take(batches, 3), ours[:3])
    assert batches.save(tmp_path)
  for rows in process_rows(after):
    again = TrainingBatches.at(
      settings, task, 3, rows=rows, folder=tmp_path, packing=PACKED
    )
    assert "continue" in again.note
    ours = [{name: a[rows.start : rows.stop] for name, a in b.items()} for b in expected]
    assert_equal(take(again, 3), ours[3:])


@pytest.mark.parametrize("task", ["generated"], indirect=True)
def test_packed_batches_that_cannot_be_saved_are_read_again(task, tmp_path):
  settings = config(task)
  batches = TrainingBatches(settings, task, packing=PACKED)
  found = take(batches, 2)
  assert not batches.save(tmp_path) and list(tmp_path.iterdir()) == []
  found += take(batches, 2)
  again = TrainingBatches.at(settings, task, 2, folder=tmp_path, packing=PACKED)
  assert "read again" in again.note
  assert_equal(take(again, 2), found[2:])


def _cut_pending(path):
  path.write_bytes(path.read_bytes()[:-9])


def _flip_pending(path):
  content = bytearray(path.read_bytes())
  content[200] ^= 16
  path.write_bytes(content)


@pytest.mark.parametrize("harm", [_cut_pending, _flip_pending, pathlib.Path.unlink])
def test_a_position_without_what_was_pending_is_not_used(harm, task, tmp_path):
  settings = config(task)
  batches = TrainingBatches.at(settings, task, 2, packing=PACKED)
  assert batches.save(tmp_path)
  harm(next(tmp_path.glob("*.npz")))
  again = TrainingBatches.at(settings, task, 2, folder=tmp_path, packing=PACKED)
  assert "read again" in again.note and "damaged" in again.note
  assert_equal(take(again, 2), take(batches, 2))


@pytest.mark.parametrize(
  "other",
  [
    {"packing": dataclasses.replace(PACKED, prompt_len=4)},
    {"packing": dataclasses.replace(PACKED, pending=9)},
    {"packing": None},
    {"batch_size": 4},
    {"task_feature_lengths": {"inputs": 13, "targets": 4}},
  ],
)
def test_a_position_of_other_packing_is_not_used(other, task, tmp_path):
  settings = config(task)
  assert TrainingBatches.at(settings, task, 1, packing=PACKED).save(tmp_path)
  packing = other.pop("packing", PACKED)
  settings = dataclasses.replace(settings, **other)
  again = TrainingBatches.at(settings, task, 1, folder=tmp_path, packing=packing)
  assert "is of another" in again.note


# Errors.


def test_a_split_without_examples_is_refused(dataset_config, numbers):
  with pytest.raises(checks.InputError, match=r"'empty'.*yields no example"):
    next(TrainingBatches(dataset_config(split="empty"), numbers))


@pytest.mark.parametrize("packing", [None, PACKED])
def test_a_shard_without_examples_is_refused(packing):
  task = dealt_tasks.function(size=3)
  with pytest.raises(checks.InputError, match=r"shard 3 of 4 .* no example.*DATA_SHARDS"):
    next(TrainingBatches(config(task, num_shards=4), task, packing=packing))


def test_a_shard_without_examples_of_a_member_is_refused():
  small, large = dealt_tasks.function(size=1), dealt_tasks.function()
  task = dealt_tasks.mixture((small, 1.0), (large, 50.0))  # drawn late
  with pytest.raises(checks.InputError, match=r"shard 1 of 2 .* no example"):
    take(TrainingBatches(config(task, num_shards=2), task), 200)
