"""A table as a task: real files, seqio's own objects, exact strings and scores."""

import dataclasses
import itertools
import re

import pytest
import seqio

from prompt_tuning import checks
from prompt_tuning.data import (
  label_words,
  metrics,
  table_task,
  vocabularies,
)
from prompt_tuning.data.table import Table

ROWS = [
  ("a good film", "1"),
  ("a bad film", "0"),
  ("fine", "1"),
  ("awful", "0"),
  ("so", "1"),
]
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def vocabulary():
  """The embedded model's, as a run would choose it."""
  vocabularies.use(vocabularies.EMBEDDED)
  yield vocabularies.EMBEDDED.load()
  vocabularies.use(None)


@pytest.fixture
def table(tmp_path):
  """A table of five reviews under a name of its own, which is not registered."""
  path = tmp_path / "train.csv"
  path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
  return Table(
    name=f"a_table_of_the_tests_{next(_numbers)}",
    train=str(path),
    validation=str(path),
    inputs="review: {text}",
    targets="label",
    labels={"0": "negative", "1": "positive"},
  )


def changed(table, **changes):
  return dataclasses.replace(table, **changes)


def examples(name, split="train", lengths=None, **options):
  task = seqio.get_mixture_or_task(name)
  found = task.get_dataset(lengths, split=split, **{"shuffle": False, **options})
  return list(found.as_numpy_iterator())


def test_the_examples_are_the_exact_strings_of_the_rows(table, vocabulary):
  table.register()
  found = examples(table.name)
  texts = [(x["inputs_pretokenized"], x["targets_pretokenized"]) for x in found]
  assert texts[:2] == [
    (b"review: a good film", b"positive"),
    (b"review: a bad film", b"negative"),
  ]
  for example in found:
    for feature in ("inputs", "targets"):
      text = example[f"{feature}_pretokenized"].decode()
      assert example[feature].tolist() == [*vocabulary.encode(text), 1]


def test_the_splits_are_those_given_and_their_sizes_are_known(table):
  table.register()
  task = seqio.TaskRegistry.get(table.name)
  assert list(task.splits) == ["train", "validation"]
  assert task.num_input_examples("train") == len(ROWS)


def test_the_vocabulary_is_the_run_s(table):
  vocabularies.use(None)
  table.register()  # the default lies in a bucket, and is not asked
  (feature, _) = seqio.TaskRegistry.get(table.name).output_features.values()
  assert str(feature.vocabulary) == f"the vocabulary {vocabularies.T5_PATH}"
  vocabularies.use(vocabularies.BYT5)
  assert examples(table.name)[0]["targets"].tolist() == [3 + ord(x) for x in "positive"] + [
    1
  ]


def test_all_rows_are_shuffled_by_the_seed(table):
  rows = {"text": [f"text {i}" for i in range(3000)], "label": ["x"] * 3000}
  table = changed(table, train=rows, validation=None, labels=None)
  table.register()
  orders = [
    [x["inputs_pretokenized"] for x in examples(table.name, shuffle=True, seed=seed)]
    for seed in (0, 0, 1)
  ]
  assert orders[0] == orders[1] != orders[2]
  assert sorted(orders[0]) == sorted(f"review: text {i}".encode() for i in range(3000))
  first = [int(text.split()[-1]) for text in orders[0][:1000]]
  assert max(first) > 2900  # a buffer of 1,000 would not reach so far


def test_label_words_are_declared_in_the_order_of_the_classes(table):
  table.register()
  assert label_words.of(table.name) == ("negative", "positive")


# Once, again, and in another's place.


def test_the_same_table_is_registered_once(table):
  table.register()
  task = seqio.TaskRegistry.get(table.name)
  changed(table).register()
  assert seqio.TaskRegistry.get(table.name) is task


def test_a_table_is_found_by_the_name_of_its_task(table, numbers):
  assert table_task.registered(table.name) is None
  table.register()
  assert table_task.registered(table.name) is table
  assert table_task.registered(numbers.name) is None


def test_what_was_removed_is_registered_again(table):
  table.register()
  seqio.TaskRegistry.remove(table.name)
  table.register()
  assert table.name in seqio.TaskRegistry.names()


def test_another_table_takes_the_place_of_one_of_its_name(table, tmp_path):
  table.register()
  changed(table, inputs="{text}!", labels=None).register()
  found = examples(table.name)[0]
  assert found["inputs_pretokenized"] == b"a good film!"
  assert found["targets_pretokenized"] == b"1"
  assert not label_words.of(table.name)


def test_a_file_that_changed_is_read_again(table, tmp_path):
  table.register()
  (tmp_path / "train.csv").write_text("text,label\nnew,0\n")
  table.register()
  assert [x["inputs_pretokenized"] for x in examples(table.name)] == [b"review: new"]


def test_other_metrics_are_another_task(table):
  table.register()
  changed(table, metrics=["f1"]).register()
  (metric,) = seqio.TaskRegistry.get(table.name).metric_fns
  assert metric is metrics.f1


def test_a_table_that_is_refused_leaves_the_one_before(table, tmp_path):
  table.register()
  with pytest.raises(checks.InputError, match="no column"):
    changed(table, inputs="{none}").register()
  assert len(examples(table.name)) == len(ROWS)


def test_the_name_of_another_task_is_not_taken(table, numbers):
  with pytest.raises(checks.InputError, match="is that of another task"):
    changed(table, name=numbers.name).register()
  assert seqio.TaskRegistry.get(numbers.name) is numbers


# What is cut.


@pytest.fixture
def long(table, vocabulary):
  """Inputs of 1 to 6 tokens and targets of 1 to 2, without EOS."""
  word = next(x for x in ("film", "good", "a") if len(vocabulary.encode(x)) == 1)
  rows = {
    "text": [" ".join([word] * n) for n in range(1, 7)],
    "label": [" ".join([word] * n) for n in (1, 1, 1, 1, 1, 2)],
  }
  table = changed(table, train=rows, validation=None, labels=None, inputs="{text}")
  table.register()
  return table


@pytest.mark.parametrize(
  ("lengths", "cut"),
  [((7, 3), (0, 0)), ((6, 3), (1, 0)), ((5, 2), (2, 1)), ((1, 1), (6, 6))],
)
def test_what_is_cut_is_counted_as_seqio_cuts_it(long, lengths, cut):
  lengths = dict(zip(("inputs", "targets"), lengths, strict=True))
  found = table_task.truncated(long, "train", lengths)
  assert tuple(found.values()) == cut and list(found) == ["inputs", "targets"]
  whole, trimmed = examples(long.name), examples(long.name, lengths=lengths)
  for feature, count in found.items():
    pairs = zip(whole, trimmed, strict=True)
    assert sum(len(a[feature]) > len(b[feature]) for a, b in pairs) == count


def test_the_report_says_what_is_cut(long):
  assert table_task.report(long, "train", {"inputs": 5, "targets": 2}) == (
    f"{long.name} train: 2 of 6 inputs are longer than 5 tokens and are cut (the longest "
    "has 7); 1 of 6 targets is longer than 2 tokens and is cut (the longest has 3)"
  )
  assert table_task.report(long, "train", {"inputs": 7, "targets": 3}) is None
  assert table_task.report(long, "train", None) is None


def test_what_is_cut_depends_on_the_vocabulary(long):
  lengths = {"inputs": 7, "targets": 3}
  assert table_task.report(long, "train", lengths) is None
  vocabularies.use(vocabularies.BYT5)
  assert table_task.truncated(long, "train", lengths)["inputs"] == 5


def test_a_document_of_a_hundred_thousand_characters_is_cut_and_reported(table):
  rows = {"text": ["word " * 20_000, "short"], "label": ["a", "b"]}
  table = changed(table, train=rows, validation=None, labels=None)
  table.register()
  lengths = {"inputs": 512, "targets": 8}
  assert len(examples(table.name, lengths=lengths)[0]["inputs"]) == 512
  found = table_task.report(table, "train", lengths)
  assert re.fullmatch(
    rf"{table.name} train: 1 of 2 inputs is longer than 512 tokens and is cut "
    r"\(the longest has \d\d,\d{3}\)",
    found,
  )
