"""The demo task: its split, its strings, its tokens."""

import pytest

from prompt_tuning import checks
from prompt_tuning.data import corpus, corpus_sources, movie_reviews, registry, vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig

FIRST_TEST_SENTENCE = (
  "a loud , witless mess that has none of the charm and little of the intrigue from the "
  "tv series ."
)
LENGTHS = {"inputs": 64, "targets": 4}


@pytest.fixture(scope="module")
def task():
  config = DatasetConfig(
    mixture_or_task_name="movie_reviews_sentiment",
    task_feature_lengths=LENGTHS,
    split="test",
    batch_size=1,
  )
  return registry.find(config, vocabularies.EMBEDDED)


def rows(task, split, lengths=LENGTHS):
  return task.get_dataset(lengths, split=split, shuffle=False).as_numpy_iterator()


def test_the_splits_hold_every_sentence_once():
  sizes = {name: len(rows) for name, rows in movie_reviews.splits().items()}
  assert sizes == {"test": 1000, "validation": 1000, "train": 6528}
  source = corpus_sources.movie_reviews("rotten_tomatoes")
  assert len(source) == 8530
  kept = [text for rows in movie_reviews.splits().values() for text, _ in rows]
  keys = [corpus.normalized(text) for text in kept]
  assert len(set(keys)) == len(keys)  # no split repeats a sentence of another, nor its own
  assert set(keys) == {corpus.normalized(text) for text, _ in source}


def test_the_splits_are_the_same_when_made_again():
  first = movie_reviews.splits()
  movie_reviews.splits.cache_clear()
  assert movie_reviews.splits() == first
  assert first["test"][0] == (FIRST_TEST_SENTENCE, 0)


def test_both_labels_are_about_as_frequent_in_every_split():
  for rows in movie_reviews.splits().values():
    assert 0.45 < sum(label for _, label in rows) / len(rows) < 0.55


def test_a_known_example_has_these_strings_and_tokens(task):
  example = next(rows(task, "test"))
  assert example["inputs_pretokenized"].decode() == FIRST_TEST_SENTENCE
  assert example["targets_pretokenized"] == b"negative"
  vocabulary = vocabularies.EMBEDDED.load()
  assert example["inputs"].tolist() == [*vocabulary.encode(FIRST_TEST_SENTENCE), 1]
  assert example["targets"].tolist() == [*vocabulary.encode("negative"), 1]
  assert vocabulary.decode(example["inputs"].tolist()) == FIRST_TEST_SENTENCE


def test_eos_stays_when_a_sentence_is_cut(task):
  example = next(rows(task, "test", {"inputs": 8, "targets": 4}))
  whole = next(rows(task, "test"))
  assert example["inputs"].tolist() == [*whole["inputs"][:7], 1]


def test_every_target_is_a_label_word(task):
  for split in ("train", "validation"):
    texts = {example["targets_pretokenized"] for example in rows(task, split)}
    assert texts == {b"negative", b"positive"}


def test_right_and_wrong_answers_are_counted(task):
  (metric,) = task.metric_fns
  classes = [task.postprocess_fn(text) for text in ("positive", "negative", "maybe", "")]
  assert classes == [1, 0, -1, -1]
  assert metric([1, 0, 1, 0], classes) == {"accuracy": 50.0}


def test_a_source_that_is_not_there_yields_nothing():
  assert corpus_sources.movie_reviews("sundance") == []


def test_the_split_is_checked_by_name():
  config = DatasetConfig(
    mixture_or_task_name="movie_reviews_sentiment",
    task_feature_lengths=LENGTHS,
    split="tst",
    batch_size=1,
  )
  with pytest.raises(checks.InputError, match="nearest known: test"):
    registry.find(config, vocabularies.EMBEDDED)


def test_the_sentinel_variant_puts_one_in_front_of_the_same_targets(task):
  config = DatasetConfig(
    mixture_or_task_name="movie_reviews_sentiment_sentinel",
    task_feature_lengths={"inputs": 64, "targets": 5},
    split="test",
    batch_size=1,
  )
  variant = registry.find(config, vocabularies.EMBEDDED)
  plain = list(rows(task, "test"))
  sentinel = list(rows(variant, "test", config.task_feature_lengths))
  first = vocabularies.EMBEDDED.load().vocab_size - 1
  for one, other in zip(plain[:20], sentinel[:20], strict=True):
    assert other["inputs"].tolist() == one["inputs"].tolist()
    assert other["targets"].tolist() == [first, *one["targets"].tolist()]
    text = other["targets_pretokenized"].decode()
    assert text == f"<extra_id_0> {one['targets_pretokenized'].decode()}"
    assert variant.postprocess_fn(text) == task.postprocess_fn(text.split()[1])
