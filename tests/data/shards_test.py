"""Dealing: every example in one shard, evenly; how many shards there are."""

import collections
import itertools

import dealt_tasks
import pytest
import seqio
from dealt_tasks import SIZE, config, decoded

from prompt_tuning import checks
from prompt_tuning.data import shards

IN_ORDER = {"shuffle_buffer_size": 1}  # what the source gives is what comes


def drawn(task, number, steps, **changes):
  """The texts of so many batches of each shard."""
  settings = config(task, num_shards=number, **changes)
  return [
    [
      text
      for batch in itertools.islice(
        shards.pipeline(settings, task, index, number).as_numpy_iterator(), steps
      )
      for text in decoded(batch)
    ]
    for index in range(number)
  ]


@pytest.mark.parametrize(
  ("make", "number"), [("function", 4), ("even files", 2), ("uneven files", 4)]
)
def test_every_example_is_in_one_shard_whatever_shuffles(make, number, tmp_path):
  files = {"even files": 4, "uneven files": 5}
  task = (
    dealt_tasks.text_files(tmp_path, files[make], **IN_ORDER)
    if make in files
    else dealt_tasks.function(**IN_ORDER)
  )
  epoch = SIZE // 8
  found = drawn(task, number, 2 * epoch)
  for start in (0, epoch):
    part = slice(start * 8 // number, (start + epoch) * 8 // number)
    texts = collections.Counter(text for shard in found for text in shard[part])
    assert len(texts) == SIZE and set(texts.values()) == {1}


def test_files_are_dealt_whole_where_they_come_out_even(tmp_path):
  found = drawn(dealt_tasks.text_files(tmp_path, 4), 2, 6)
  files = [{text.split()[1] for text in shard} for shard in found]
  assert files == [{"0", "2"}, {"1", "3"}]


def test_shard_0_has_the_seed_of_the_config_and_the_others_their_own(tmp_path):
  task = dealt_tasks.text_files(tmp_path, 4)
  settings = config(task, num_shards=2)
  with_its_seed = []
  for index in range(2):
    dataset = seqio.get_dataset(
      task,
      settings.task_feature_lengths,
      seqio.EncDecFeatureConverter(pack=False),
      shuffle=True,
      num_epochs=None,
      shard_info=seqio.ShardInfo(index, 2),
      seed=settings.seed,
      verbose=False,
    )
    with_its_seed.append(decoded(next(dataset.batch(24).as_numpy_iterator())))
  first, second = drawn(task, 2, 6)
  assert first == with_its_seed[0] and second != with_its_seed[1]


def test_the_files_of_tfds_are_dealt(tmp_path):
  found = drawn(dealt_tasks.of_tfds(tmp_path, 2, **IN_ORDER), 2, 6)
  assert {len(set(shard)) for shard in found} == {SIZE // 2}
  assert set(found[0]) & set(found[1]) == set()


def test_one_file_of_tfds_is_dealt_by_examples(tmp_path):
  found = drawn(dealt_tasks.of_tfds(tmp_path, 1, **IN_ORDER), 4, 9)
  assert [len(set(shard)) for shard in found] == [SIZE // 4] * 4
  assert len(set().union(*found)) == SIZE


def test_the_shards_of_a_mixture_do_not_draw_in_lockstep():
  members = [(dealt_tasks.function(word=word), 1.0) for word in ("left", "right")]
  found = drawn(dealt_tasks.mixture(*members), 2, 8)
  left, right = ([text.split()[0] for text in shard] for shard in found)
  assert left != right


def test_the_members_of_a_mixture_keep_their_rates():
  inner = dealt_tasks.mixture(
    (dealt_tasks.function(word="a"), 3.0), (dealt_tasks.function(word="b"), 1.0)
  )
  outer = dealt_tasks.mixture((inner, 2.0), (dealt_tasks.function(word="c"), 2.0))
  (found, _) = drawn(outer, 2, 100)
  counts = collections.Counter(text.split()[0] for text in found)
  shares = [counts[word] / len(found) for word in "abc"]
  assert shares == pytest.approx([3 / 8, 1 / 8, 1 / 2], abs=0.08)


def sized(*sizes):
  """A mixture of members that say they have so many examples."""
  members = [
    dealt_tasks.add(
      seqio.FunctionDataSource(
        lambda split, shuffle_files=False: None,
        ["train"],
        None if size is None else {"train": size},
      )
    )
    for size in sizes
  ]
  return dealt_tasks.mixture(*((member, 1.0) for member in members))


@pytest.mark.parametrize(
  ("sizes", "batch_size", "expected"),
  [
    ([16_384], 64, 1),
    ([32_767], 64, 1),
    ([32_768], 64, 2),
    ([3 * 16_384], 64, 2),
    ([10_000_000], 64, 8),
    ([float("inf")], 64, 8),  # what seqio says of very many
    ([10_000_000], 12, 4),
    ([10_000_000], 11, 1),
    ([30_000, 36_000], 64, 4),
    ([10_000_000, 300], 64, 4),
    ([10_000_000, 60], 64, 1),
    ([10_000_000, None], 64, 1),
  ],
)
def test_the_number_of_shards_is_chosen_from_data_and_batch(sizes, batch_size, expected):
  provider = sized(*sizes)
  settings = config(provider, batch_size=batch_size)
  assert shards.number_of_shards(settings, provider) == expected


def test_a_number_that_is_given_is_taken():
  provider = sized(10_000_000)
  settings = config(provider, batch_size=12, num_shards=3)
  assert shards.number_of_shards(settings, provider) == 3


@pytest.mark.parametrize(
  ("number", "message"),
  [(5, "set one of 1, 2, 3, 4, 6, 12$"), (0, "whole number from 1"), ("2", "whole number")],
)
def test_a_number_that_does_not_divide_the_batch_is_refused(number, message):
  with pytest.raises(checks.InputError, match=message):
    config(sized(1), batch_size=12, num_shards=number)
