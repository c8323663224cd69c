"""Each registered name gives batches, and perfect answers the best score of every metric.

A pipeline is a source, preprocessors and features. Names that share one, as a task with
and without "_examples" do, share its examples here; metrics are asked for by each name.
"""

import functools
import itertools
import re

import numpy as np
import pytest
import seqio
import tensorflow as tf
from more_records import HELD_OUT, RECORDS, prepared, with_long_training

from prompt_tuning.data import tasks, vocabularies

assert tasks  # all of its families have registered their names
LENGTHS = {"inputs": 64, "targets": 64, "is_correct": 4}
LONG = re.compile(r"^pr:|_(perceptron|generation|rank_classification)_")
MOVIES = ("movie_reviews_sentiment", "movie_reviews_sentiment_sentinel")
CHUNKS = {  # data set -> which of the tests goes through its tasks
  "glue": "glue",
  "super_glue": "super_glue",
  "definite_pronoun_resolution": "super_glue",
  **dict.fromkeys(("squad", "mrqa"), "qa"),
  **dict.fromkeys(("xsum", "cnn_dailymail", "aeslc", "billsum", "gigaword"), "summaries"),
  **dict.fromkeys(("multi_news", "samsum", "newsroom"), "summaries"),
  **dict.fromkeys(("anli", "doc_nli", "snli", "imdb_reviews"), "others"),
  **dict.fromkeys(("c4", "movies"), "others"),
}
each_chunk = pytest.mark.parametrize("chunk", sorted(set(CHUNKS.values())))


def data_of(task):
  """The data set of a built-in task: its name in TFDS; None for a test's own task."""
  if isinstance(task.source, seqio.TfdsDataSource):
    return task.source.tfds_dataset.name
  return "movies" if task.name in MOVIES else None


def chunk_of(task):
  return CHUNKS.get((data_of(task) or "").partition(":")[0].partition("/")[0])


def built_in(chunk):
  found = map(seqio.TaskRegistry.get, seqio.TaskRegistry.names())
  return [task for task in found if chunk_of(task) == chunk]


@pytest.fixture(scope="module", autouse=True)
def data():
  """All records prepared, and long training sets where the end of one is held out."""
  prepared(*RECORDS)
  found = map(seqio.TaskRegistry.get, seqio.TaskRegistry.names())
  for task in found:
    if data_of(task) in HELD_OUT and LONG.search(task.name):
      with_long_training(task.name)
  vocabularies.use(vocabularies.EMBEDDED)
  yield
  vocabularies.use(None)
  prepared()


def pipeline(task):
  """What decides a task's examples; equal for tasks that have the same."""

  def described(step):
    if isinstance(step, functools.partial):
      return step.func, repr(sorted(step.keywords.items()))
    return type(step) if isinstance(step, seqio.CacheDatasetPlaceholder) else step

  features = [
    (name, str(how.vocabulary), how.rank, how.dtype, how.add_eos)
    for name, how in task.output_features.items()
  ]
  return id(task.source), *map(described, task.preprocessors), *features


def steps_of(task):
  """The same without the source, for what does not depend on the records."""
  return pipeline(task)[1:]


def batches(provider, split, count):
  dataset = provider.get_dataset(LENGTHS, split, shuffle=False, seed=0).take(count)
  options = tf.data.Options()  # tuning takes longer than reading so few examples
  options.autotune.enabled = False
  options.experimental_optimization.apply_default_optimizations = False
  options.threading.private_threadpool_size = 1
  return list(dataset.padded_batch(2).with_options(options).as_numpy_iterator())


_batches, _read = {}, set()


def batches_of(task):
  """{split: batches of 2} of a task's first 12 examples, made once per pipeline.

  The first pipeline of a source goes through all of its splits, the others through one.
  """
  key, source = pipeline(task), id(task.source)
  if key not in _batches:
    splits = list(task.splits)[: 1 if source in _read else None]
    _batches[key] = {split: batches(task, split, 12) for split in splits}
    _read.add(source)
  return _batches[key]


def problem(batch, features):
  """What is wrong with a batch, or None."""
  for name, feature in features.items():
    if name not in batch:
      return f"no {name}"
    ids = batch[name]
    if ids.ndim != feature.rank + 1 or ids.dtype != feature.dtype.as_numpy_dtype:
      return f"{name} is {ids.dtype}{ids.shape}"
    if ids.dtype == bool:
      continue
    if ids.min() < 0 or ids.max() >= feature.vocabulary.vocab_size:
      return f"{name} beyond the vocabulary"
    last = np.take_along_axis(ids, (ids > 0).sum(axis=1, keepdims=True) - 1, axis=1)
    if ids.shape[1] > LENGTHS[name] or (last != 1).any():
      return f"{name} too long or without EOS"
  return None


def test_every_data_set_has_records():
  names = [n for n in seqio.TaskRegistry.names() if not n.startswith("dealt_")]  # tests'
  found = {data_of(seqio.TaskRegistry.get(name)) for name in names}
  assert found - {None} == {*RECORDS, "movies"}


@each_chunk
def test_every_task_and_every_split_of_its_data_gives_a_batch(chunk):
  found = {}
  for task in built_in(chunk):
    for split, rows in batches_of(task).items():
      wrong = problem(rows[0], task.output_features) if rows else "empty"
      if wrong:
        found[f"{task.name}, {split}"] = wrong
  assert not found
  assert built_in(chunk)


def test_byt5_s_tasks_speak_bytes_where_a_run_says_nothing():
  found, seen = {}, set()
  vocabularies.use(None)
  try:
    for name in filter(re.compile("byt5_").match, seqio.TaskRegistry.names()):
      task = seqio.TaskRegistry.get(name)
      if steps_of(task) in seen:
        continue
      seen.add(steps_of(task))
      (rows,) = batches(task, sorted(task.splits)[-1], 1)
      wrong = problem(rows, task.output_features)
      if wrong or rows["targets"].max() >= 256 + 3:
        found[name] = wrong or rows["targets"]
  finally:
    vocabularies.use(vocabularies.EMBEDDED)
  assert not found
  assert len(seen) > 50


def test_every_mixture_gives_a_batch():
  found, seen = {}, {}
  for name in seqio.MixtureRegistry.names():
    mixture = seqio.MixtureRegistry.get(name)
    if not all(map(chunk_of, mixture.tasks)):
      continue  # a test's own
    split = "train" if "train" in mixture.splits else "validation"
    key = frozenset((steps_of(task), mixture.get_rate(task)) for task in mixture.tasks)
    if key not in seen:
      (seen[key],) = batches(mixture, split, 2)
    wrong = problem(seen[key], mixture.output_features)
    if wrong or len(seen[key]["targets"]) != 2:
      found[name] = wrong or "not two examples"
  assert not found
  assert len(seen) > 30


# Perfect answers.


def labelled(task):
  """The examples of a task that say what is right, and that."""
  for rows in itertools.chain(*batches_of(task).values()):
    for i in range(len(rows["targets"])):
      row = {name: values[i] for name, values in rows.items()}
      text = row["targets_pretokenized"]
      if np.ndim(text):  # one per candidate
        text = text[row["is_correct"].argmax()]
      if text != b"<unk>" and row.get("label", 0) >= 0:
        yield row, text.decode()


def answer(row, text):
  """The best a model can say: the target, or another noun where the noun is wrong."""
  if "is_correct" in row and "idx" in row:
    return float(row["is_correct"])
  return "nobody at all" if row.get("label") == 0 else text


def scores_of_perfect_answers(task):
  rows = list(labelled(task))
  post = task.postprocess_fn
  targets = [post(text, example=row, is_target=True) for row, text in rows]
  found = [post(answer(*pair), example=pair[0], is_target=False) for pair in rows]
  values = {}
  for metric in task.metric_fns:
    values |= metric(targets, found)
  return {name: value for name, value in values.items() if isinstance(value, float)}


@each_chunk
def test_perfect_answers_have_the_best_score_of_every_metric(chunk):
  found = {}
  for task in built_in(chunk):
    values = scores_of_perfect_answers(task) if task.metric_fns else {"none": 100.0}
    if not values or any(abs(value - 100) > 1e-6 for value in values.values()):
      found[task.name] = values
  assert not found
