"""Text files: found by name, read line by line, one in a hundred held out."""

import json

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from prompt_tuning import checks
from prompt_tuning.data import documents, text_files


def write(path, lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(lines))
  return path


def read(source, split, **kwargs):
  kwargs = {"shuffle": False, **kwargs}
  rows = source.get_dataset(split, **kwargs).as_numpy_iterator()
  return [{name: text.decode() for name, text in row.items()} for row in rows]


def texts(source, split, **kwargs):
  return [row["text"] for row in read(source, split, **kwargs)]


# Finding.


@pytest.fixture
def folder(tmp_path):
  for name in ("b.txt", "a.txt", "deep/c.txt", "notes.md", "rows.jsonl"):
    write(tmp_path / name, [f"text of {name}"])
  return tmp_path


@pytest.mark.parametrize(
  "place, expected",
  [
    ("b.txt", ["b.txt"]),
    ("notes.md", ["notes.md"]),  # a file may have any name
    ("", ["a.txt", "b.txt", "deep/c.txt"]),
    ("*.txt", ["a.txt", "b.txt"]),
    ("**/*.txt", ["a.txt", "b.txt", "deep/c.txt"]),
    ("[ab].*", ["a.txt", "b.txt"]),
  ],
)
def test_a_file_a_folder_and_a_pattern_name_files_in_order(folder, place, expected):
  found = text_files.find(str(folder / place))
  assert [str(path.relative_to(folder)) for path in found] == expected
  source = documents.source(str(folder / place))
  assert texts(source, "train") == [f"text of {name}" for name in expected]


def test_a_folder_of_labelled_text_is_its_jsonl_files(folder):
  write(folder / "rows.jsonl", ['{"prefix": "a:", "inputs": "b", "targets": "c"}'])
  source = documents.source(str(folder), labelled=True)
  assert read(source, "train") == [{"prefix": "a:", "inputs": "b", "targets": "c"}]


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  path = write(tmp_path / "mine.txt", ["a"])
  assert text_files.find("~/mine.txt") == [path]


@pytest.mark.parametrize("place", ["none.txt", "none", "*.csv", "deep/*.md"])
def test_a_place_without_files_is_refused(folder, place):
  with pytest.raises(checks.InputError, match=r"names no file.*correct TEXT"):
    documents.source(str(folder / place))


def test_a_folder_without_files_of_the_kind_is_refused(tmp_path):
  write(tmp_path / "a.txt", ["a"])
  with pytest.raises(checks.InputError, match=r"a folder of \.jsonl files"):
    documents.source(str(tmp_path), labelled=True)


@pytest.mark.parametrize("content", ["", "\n", " \n\t\r\n\n"])
@pytest.mark.parametrize("labelled", [False, True])
def test_files_without_text_are_refused(tmp_path, content, labelled):
  (tmp_path / "a").write_text(content)
  with pytest.raises(checks.InputError, match="is empty, expected one document per line"):
    documents.source(str(tmp_path / "a"), labelled=labelled)


@pytest.fixture
def tfds_folder(tmp_path):
  """A real TFDS data set with the field "text", prepared on disk."""
  texts = [f"document number {i} of the data set" for i in range(8)]
  tfds.dataset_builders.store_as_tfds_dataset(
    name="my_text",
    version="1.0.0",
    features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
    split_datasets={"train": tf.data.Dataset.from_tensor_slices({"text": texts})},
    data_dir=str(tmp_path),
  )
  seqio.set_tfds_data_dir_override(str(tmp_path))
  yield texts
  seqio.set_tfds_data_dir_override(None)


def test_a_tfds_data_set_is_read_where_it_lies(tfds_folder):
  source = documents.source("tfds:my_text:1.0.0")
  found = source.get_dataset("train", shuffle=False).as_numpy_iterator()
  assert sorted(row["text"].decode() for row in found) == tfds_folder


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("tfds:my_text", "must contain a version number"),
    ("tfds:no_such:1.0.0", "Dataset no_such not found"),
    ("tfds:c4/en:2.2.0", "not prepared on this machine"),
  ],
)
def test_a_tfds_data_set_that_is_not_there_is_refused(tfds_folder, text, message):
  with pytest.raises(checks.InputError, match=message):
    documents.source(text)


# Reading.


def test_lines_are_documents_without_blank_ones_and_outer_space(tmp_path):
  (tmp_path / "a.txt").write_bytes("one\r\n\n  two \t\n \nthré e".encode())
  (tmp_path / "b.txt").write_text("four\n")
  source = documents.source(str(tmp_path))
  assert texts(source, "train") == ["one", "two", "thré e", "four"]


def test_bad_bytes_are_counted_by_line_and_become_u_fffd(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"good\nb\xffd \xe9\nf\xc3\xbcr\n")
  (tmp_path / "b.txt").write_bytes(b"cut \xe2\x82\n")
  paths = text_files.find(str(tmp_path))
  assert list(text_files.lines(paths)) == ["good", "b\ufffdd \ufffd", "für", "cut \ufffd"]
  assert text_files.invalid_lines(paths) == 2
  assert texts(documents.source(str(tmp_path)), "train")[1] == "b\ufffdd \ufffd"


def test_every_hundredth_document_is_validation_and_every_other_is_not(tmp_path):
  lines = [f"document {i}" for i in range(350)]
  write(tmp_path / "a.txt", lines[:120])
  write(tmp_path / "b.txt", lines[120:])
  source = documents.source(str(tmp_path))
  assert set(source.splits) == {"train", "validation"}
  held_out = ["document 99", "document 199", "document 299"]  # counted across files
  assert texts(source, "validation") == held_out
  assert texts(source, "train") == [line for line in lines if line not in held_out]


def test_shuffled_documents_are_the_same_in_an_order_of_the_seed(tmp_path):
  lines = [f"document {i}" for i in range(60)]
  source = documents.source(str(write(tmp_path / "a.txt", lines)))
  found = texts(source, "train", shuffle=True, seed=3)
  assert found != lines and sorted(found) == sorted(lines)
  assert texts(source, "train", shuffle=True, seed=3) == found
  assert texts(source, "train", shuffle=True, seed=4) != found


# Labelled text.


def test_labelled_lines_keep_their_three_fields(tmp_path):
  row = {"task": "t", "prefix": "mood:", "inputs": "é  [x]", "targets": 1, "more": []}
  path = write(tmp_path / "a.jsonl", [json.dumps(row)] * 2)
  assert (
    read(documents.source(str(path), labelled=True), "train")
    == [{"prefix": "mood:", "inputs": "é  [x]", "targets": "1"}] * 2
  )


DAMAGED = ["no json", '{"prefix": "a"', '{"inputs": "a", "targets": "b"}', "[1]", '"a"']


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_labelled_line_is_shown(line):
  with pytest.raises(checks.InputError, match=r"expected .*; correct the file") as error:
    documents._labelled(line)
  assert f"a labelled line is {line!r}" in str(error.value)


def test_a_damaged_labelled_line_is_refused_by_its_source(tmp_path):
  path = write(tmp_path / "a.jsonl", ['{"prefix": "", "inputs": "", "targets": ""}', "x"])
  refused = False
  try:
    read(documents.source(str(path), labelled=True), "train")
  except checks.InputError:
    refused = True
  except tf.errors.OpError:
    pass
  assert refused
