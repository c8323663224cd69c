"""Dealing the examples of a split into shards, each a seqio pipeline of its own.

A shard is dealt whole files where these come out even, else every so many-th example.
All examples come once an epoch either way, and each is in one shard:

  8 files, 4 shards:      shard 0: files 0, 4    shard 1: files 1, 5    ...
  1 file, 4 shards:       shard 0: examples 0, 4, 8, ...    shard 1: 1, 5, 9, ...    ...

seqio deals by files wherever there is one for each shard, however unevenly, so that the
examples of a shard with fewer files would come more often; and it gives the shard's seed
to the source, which would shuffle differently under each shard, so that some examples were
in two shards and others in none. Therefore `_Dealt` deals.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning.data import converters, registry
from prompt_tuning.data.dataset_config import DatasetConfig

EXAMPLES = 16_384  # that a shard has at least
OF_A_MEMBER = 64  # of each member of a mixture
MOST = 8
_CHUNK = 32
_EVEN_FILES = 32  # for each shard, from which on one more or less does not matter
_SEED_STEP = 1_000_003  # far more than the seeds that seqio counts up from one


def number_of_shards(config: DatasetConfig, provider: Any) -> int:
  """Into how many shards the data are dealt; it depends on the data and the batch only.

  `config.num_shards`, or else as many as leave each 16,384 examples, 64 of every member of
  a mixture: a power of two, at most 8, that divides the batch. Data of unknown size are
  one shard.
  """
  if config.num_shards is not None:
    return config.num_shards
  tasks = registry.tasks_with_split(provider, config.split)
  sizes = [size for task in tasks if (size := _size(config, task)) is not None]
  if len(sizes) < len(tasks):
    return 1
  found = 1
  while (
    2 * found <= MOST
    and config.batch_size % (2 * found) == 0
    and 2 * found * EXAMPLES <= sum(sizes)
    and 2 * found * OF_A_MEMBER <= min(sizes)
  ):
    found *= 2
  return found


def pipeline(
  config: DatasetConfig, provider: Any, index: int, num_shards: int
) -> tf.data.Dataset:
  """The endless batches of one shard, `batch_size // num_shards` rows each.

  Shard 0 has the seed of the config; the others' are apart from it, so that the shards of
  a mixture do not all draw the same member, nor the same random numbers.
  """
  converter = converters.of(provider)
  rows = _examples(config, provider, index, num_shards, converter)
  batches = rows.batch(config.batch_size // num_shards, drop_remainder=True)
  return batches.with_options(_in_order()).prefetch(4)


def examples(
  config: DatasetConfig, provider: Any, index: int, num_shards: int
) -> tf.data.Dataset:
  """The endless examples of one shard, those of `pipeline` in its order, in chunks.

  Each is {"inputs", "targets"}: [32, longest] int32; a task may have no "inputs". One by
  one they would take several times as long.
  """
  assert config.task_feature_lengths is not None
  converter = seqio.PassThroughFeatureConverter()
  found = _examples(config, provider, index, num_shards, converter)
  names = found.element_spec.keys() & config.task_feature_lengths.keys()
  tokens = found.map(lambda row: {name: row[name] for name in sorted(names)})
  return tokens.padded_batch(_CHUNK).with_options(_in_order()).prefetch(4)


def _examples(
  config: DatasetConfig,
  provider: Any,
  index: int,
  num_shards: int,
  converter: seqio.FeatureConverter,
) -> tf.data.Dataset:
  seed = config.seed
  if num_shards > 1:
    provider = _dealt(provider, config)
    seed = None if seed is None else seed + _SEED_STEP * index
  with _nothing_cached_by_tfds():
    return seqio.get_dataset(
      provider,
      config.task_feature_lengths,
      converter,
      dataset_split=config.split,
      use_cached=config.use_cached,
      shuffle=config.shuffle,
      num_epochs=None,
      shard_info=seqio.ShardInfo(index, num_shards) if num_shards > 1 else None,
      seed=seed,
      verbose=False,
    )


def _in_order() -> tf.data.Options:
  options = tf.data.Options()
  options.deterministic = True
  return options


class _Dealt:
  """A seqio source that deals its examples evenly.

  Its size is nobody's business: seqio would keep small data in memory, and what is in
  memory is in every saved position.
  """

  supports_arbitrary_sharding = True

  def __init__(self, source: seqio.DataSource, seed: int | None):
    self._source, self._seed = source, seed

  def __getattr__(self, name: str) -> Any:
    return getattr(self._source, name)

  def num_input_examples(self, split: str) -> None:
    del split

  def get_dataset(
    self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo
  ) -> tf.data.Dataset:
    files: Sequence[str] = self._source.list_shards(split)
    per_shard, left = divmod(len(files), shard_info.num_shards)
    if per_shard and (left == 0 or per_shard >= _EVEN_FILES):
      return self._source.get_dataset(split, shuffle, seed, shard_info)
    # One order under all shards, whatever their seeds.
    whole = self._source.get_dataset(split, shuffle, self._seed)
    return whole.shard(shard_info.num_shards, shard_info.index)


def _dealt(provider: Any, config: DatasetConfig) -> Any:
  """The task or mixture with sources that deal."""
  if isinstance(provider, seqio.Mixture):
    members = registry.tasks_with_split(provider, config.split)
    return seqio.Mixture(
      provider.name,
      [(_dealt(task, config), provider.get_rate(task)) for task in members],
      sample_fn=provider._sample_fn,
    )
  found, cached = copy.copy(provider), provider._get_cached_source
  found._source = _Dealt(provider.source, config.seed)
  found._get_cached_source = lambda split: _Dealt(cached(split), config.seed)
  return found


def _size(config: DatasetConfig, task: seqio.Task) -> float | None:
  if config.use_cached and task.supports_caching:
    return task.get_cached_stats(config.split)["examples"]
  return task.num_input_examples(config.split)


@contextlib.contextmanager
def _nothing_cached_by_tfds() -> Iterator[None]:
  """Keeps TFDS from holding up to 250 MiB in memory, which every position would hold too.

  It holds only what comes in the same order every epoch, so no order changes.
  """
  before = seqio.utils._TFDS_DATA_READ_CONFIG_OVERRIDE
  config = before or seqio.utils.tfds.ReadConfig()
  seqio.set_tfds_read_config_override(dataclasses.replace(config, try_autocache=False))
  try:
    yield
  finally:
    seqio.set_tfds_read_config_override(before)
