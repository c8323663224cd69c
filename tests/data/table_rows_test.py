"""Reading rows: every kind of source gives the same, or says which row is wrong."""

import json
import pathlib
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from prompt_tuning import checks
from prompt_tuning.data import row_problems, table_rows

ROWS = [("good, truly", "1"), ('he said "bad"', "0"), ("two\nlines", "1"), ("ü", "0")]
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
QUOTED = ['"good, truly",1', '"he said ""bad""",0', '"two\nlines",1', "ü,0"]


def read(source, columns=("text", "label")):
  problems = row_problems.Problems("reviews")
  found = list(table_rows.read(source, "train", columns, problems))
  problems.check()
  return found


def refusal(source, columns=("text", "label")) -> str:
  with pytest.raises(checks.InputError) as error:
    read(source, columns)
  return str(error.value)


@pytest.fixture
def file(tmp_path):
  """Writes a file of some lines or bytes: (name, content) -> its path."""

  def write(name: str, content: bytes | list[str]) -> str:
    path = tmp_path / name
    if isinstance(content, list):
      content = "".join(f"{line}\n" for line in content).encode()
    path.write_bytes(content)
    return str(path)

  return write


def parquet_file(path: pathlib.Path, columns: dict) -> str:
  parquet.write_table(pa.table(columns), path)
  return str(path)


def texts_and_labels(found):
  """(text, label) of rows, bytes decoded."""
  return [(plain(row["text"]), plain(row["label"])) for _, row in found]


def plain(value):
  return value.decode() if isinstance(value, bytes) else value


# Files.


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_is_read_as_its_standard_says(file, before, end):
  content = end.join(["text,id,label", *(q.replace(",", ",x,") for q in ["a,0", "b,1"])])
  found = read(file("a.CSV", before + content.encode()))
  assert found == [(2, {"text": "a", "label": "0"}), (3, {"text": "b", "label": "1"})]


def test_a_row_is_found_by_the_line_where_it_begins(file):
  found = read(file("a.csv", ["text,label", *QUOTED, "", "last,1"]))
  assert [number for number, _ in found] == [2, 3, 4, 6, 8]
  assert texts_and_labels(found) == [*ROWS, ("last", "1")]


def test_tsv_has_tabs_and_the_same_quotes(file):
  lines = ["text\tlabel", '"a\tb"\t1', "it's, fine\t0"]
  assert texts_and_labels(read(file("a.tsv", lines))) == [
    ("a\tb", "1"),
    ("it's, fine", "0"),
  ]


def test_jsonl_keeps_the_types_of_values(file):
  lines = ['{"label": 1, "text": "a"}', "", '{"text": null, "label": true, "more": [1]}']
  assert read(file("a.jsonl", lines)) == [
    (1, {"text": "a", "label": 1}),
    (3, {"text": None, "label": True}),
  ]


def test_parquet_is_numbered_from_one(tmp_path):
  columns = {"text": TEXTS, "label": [int(label) for label in LABELS], "other": LABELS}
  found = read(parquet_file(tmp_path / "a.parquet", columns))
  assert texts_and_labels(found) == [(text, int(label)) for text, label in ROWS]
  assert [number for number, _ in found] == [1, 2, 3, 4]


def test_categories_of_parquet_are_text(tmp_path):
  labels = pa.array(LABELS).dictionary_encode()
  path = parquet_file(tmp_path / "a.parquet", {"text": TEXTS, "label": labels})
  assert [row["label"] for _, row in read(path)] == [label.encode() for label in LABELS]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_document_of_any_length_is_read_whole(file, tmp_path, suffix):
  text = "word " * 100_000
  if suffix == "parquet":
    path = parquet_file(tmp_path / "long.parquet", {"text": [text], "label": ["1"]})
  elif suffix == "csv":
    path = file("long.csv", ["text,label", f"{text},1"])
  else:
    path = file("long.jsonl", [json.dumps({"text": text, "label": "1"})])
  assert texts_and_labels(read(path)) == [(text, "1")]


def test_a_path_may_be_a_path(tmp_path):
  (tmp_path / "a.csv").write_text("text,label\na,1\n")
  assert texts_and_labels(read(tmp_path / "a.csv")) == [("a", "1")]


# Data sets.


class Columns:
  """What a `datasets.Dataset` is to us."""

  def __init__(self, columns: dict):
    self._columns, self.column_names = columns, list(columns)

  def __getitem__(self, name):
    return self._columns[name]

  def __len__(self):
    return len(next(iter(self._columns.values())))


@pytest.mark.parametrize("kind", [dict, pa.table, Columns])
def test_a_data_set_in_memory_is_numbered_from_one(kind):
  found = read(kind({"text": TEXTS, "label": LABELS, "other": LABELS}))
  assert texts_and_labels(found) == ROWS
  assert [number for number, _ in found] == [1, 2, 3, 4]


@pytest.fixture
def datasets():
  """Hugging Face datasets, quiet."""
  found = pytest.importorskip("datasets")
  found.disable_progress_bars()
  return found


@pytest.mark.parametrize("style", [None, "numpy"])
def test_a_dataset_of_hugging_face(datasets, style):
  columns = {"text": TEXTS, "label": [int(label) for label in LABELS]}
  found = read(datasets.Dataset.from_dict(columns).with_format(style))
  assert texts_and_labels(found) == [(text, int(label)) for text, label in ROWS]
  assert {type(row["label"]) for _, row in found} == {int}


def test_a_saved_folder_of_hugging_face(datasets, tmp_path):
  columns = {"text": TEXTS, "label": LABELS}
  datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
  assert texts_and_labels(read(str(tmp_path / "saved"))) == ROWS


def test_a_folder_with_splits_says_which_there_are(datasets, tmp_path):
  split = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
  both = datasets.DatasetDict({"train": split, "dev": split})
  both.save_to_disk(tmp_path / "saved")
  assert "name one of the splits in it: dev, train" in refusal(str(tmp_path / "saved"))
  assert texts_and_labels(read(str(tmp_path / "saved" / "dev"))) == ROWS
  assert "give one of these" in refusal(both)
  assert "give one of these" in refusal(split.to_iterable_dataset())


def test_a_damaged_folder_is_refused(datasets, tmp_path):
  columns = {"text": TEXTS, "label": LABELS}
  datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
  (data,) = (tmp_path / "saved").glob("*.arrow")
  data.write_bytes(data.read_bytes()[:50])
  assert "cannot be read" in refusal(str(tmp_path / "saved"))


def test_a_saved_folder_without_the_package_says_what_to_install(tmp_path, monkeypatch):
  (tmp_path / "state.json").write_text("{}")
  monkeypatch.setitem(sys.modules, "datasets", None)
  assert "pip install 'prompt-tuning[datasets]'" in refusal(str(tmp_path))


# What is no source.


def test_a_file_that_is_not_there(tmp_path):
  message = refusal(str(tmp_path / "none.csv"))
  assert "there is no file" in message and "none.csv" in message and ".parquet" in message


def test_a_folder_that_holds_no_data_set(tmp_path):
  assert "is a folder, expected .csv, .tsv" in refusal(str(tmp_path))


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz"])
def test_a_suffix_that_nobody_reads(file, name):
  message = refusal(file(name, b"text,label\n"))
  suffix = pathlib.Path(name).suffix
  assert f"has the suffix {suffix!r}, expected .csv, .tsv, .jsonl, .parquet" in message


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text,label\na,1\n" * 9])
def test_a_parquet_file_that_is_none(file, content):
  assert "expected a Parquet file" in refusal(file("a.parquet", content))


@pytest.mark.parametrize("source", [3, ["a"], object()])
def test_an_object_without_columns(source):
  message = refusal(source)
  assert message.startswith(f"the train {type(source).__name__} cannot be used")


def test_columns_of_different_lengths():
  message = refusal({"text": ["a", "b"], "label": ["1"]})
  assert "columns of 2, 1 values" in message


# Columns.


def sources(path: pathlib.Path, columns: dict) -> list:
  """One row in every kind of source."""
  names, values = list(columns), [column[0] for column in columns.values()]
  (path / "a.csv").write_text(",".join(names) + "\n" + ",".join(values) + "\n")
  (path / "a.jsonl").write_text(json.dumps(dict(zip(names, values, strict=True))) + "\n")
  parquet_file(path / "a.parquet", columns)
  return [*(str(path / f"a.{kind}") for kind in ("csv", "jsonl", "parquet")), columns]


def test_a_missing_column_names_those_there_nearest_first(tmp_path):
  for source in sources(tmp_path, {"id": ["7"], "label": ["1"], "texts": ["a"]}):
    message = refusal(source)
    assert "has no column 'text', expected one of its own: 'texts', 'id'," in message


def test_all_missing_columns_are_named(tmp_path):
  for source in sources(tmp_path, {"x": ["7"]}):
    assert "has no column 'text', 'label'" in refusal(source)


def test_a_column_that_is_there_twice(file, tmp_path):
  twice = [pa.array(["a"]), pa.array(["b"]), pa.array(["1"])]
  table = pa.Table.from_arrays(twice, names=["text", "text", "label"])
  parquet.write_table(table, tmp_path / "a.parquet")
  csv = file("a.csv", ["text,text,label", "a,b,1"])
  for source in (csv, str(tmp_path / "a.parquet"), table):
    assert "has more than one column 'text'" in refusal(source)


# Rows.


def test_rows_of_too_many_or_too_few_cells_are_named_all_at_once(file):
  path = file("a.csv", ["text,label", "a", "b,1", "c,1,x", "d,1"])
  lines = refusal(path).splitlines()
  assert lines[0].startswith("2 rows of reviews cannot be used, expected an input and")
  assert lines[1:] == [
    f"  {path} row 2: it has 1 cells, the header 2",
    f"  {path} row 4: it has 3 cells, the header 2",
  ]


def test_the_first_five_rows_are_named_and_all_are_counted(file):
  path = file("a.csv", ["text,label", *(["a"] * 1007)])
  lines = refusal(path).splitlines()
  assert lines[0].startswith("1,007 rows of reviews") and len(lines) == 7
  assert "row 6:" in lines[5] and lines[6] == f"  {path}: 1,002 more"


@pytest.mark.parametrize(
  ("lines", "row"),
  [
    (["text,label", "a,1", '"b,1', "c,0"], 3),
    (["text,label", '"a"b,1', "c,0"], 2),
    (['"text,label', "c,0"], 1),
  ],
)
def test_quotes_that_do_not_match_are_found_where_they_open(file, lines, row):
  assert f"row {row}: its quotes do not match" in refusal(file("a.csv", lines))


def test_every_broken_line_of_json_is_named(file):
  lines = ['{"text": "a", "label": 1}', "{", "[1]", '{"text": "b", "label": 0, "text": 1}']
  message = refusal(file("a.jsonl", [*lines, '{"text": "c"}', "[" * 100_000]))
  assert message.startswith("5 rows of reviews")
  assert "row 2: it is no JSON (Expecting property name" in message
  assert "row 3: it is a list, expected a JSON object" in message
  assert "row 4: it names a field twice: text, label, text" in message
  assert "row 6: " in message
  assert "row 5: it has no field 'label'" in message


def test_bytes_that_are_no_utf_8_stay_to_be_named(file, tmp_path):
  strings = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
  path = parquet_file(tmp_path / "a.parquet", {"text": strings, "label": ["1"]})
  assert read(path)[0][1]["text"] == b"\xff"
  for name, content in [
    ("a.csv", b"text,label\n\xff,1\n"),
    ("a.jsonl", b'{"text": "\xff", "label": "1"}\n'),
  ]:
    ((_, row),) = read(file(name, content))
    assert row["text"].encode(errors="surrogateescape") == b"\xff"


# What a source is made of.


def fingerprint(source):
  return table_rows.fingerprint(source, "train", ["text", "label"])


def test_the_fingerprint_of_a_file_is_of_its_bytes(file):
  before = fingerprint(file("a.csv", ["text,label", "a,1"]))
  assert before == fingerprint(file("b.csv", ["text,label", "a,1"]))
  assert before != fingerprint(file("a.csv", ["text,label", "a,0"]))
  assert len(before) == 64


def test_the_fingerprint_of_columns_is_of_those_that_are_used():
  columns = {"text": TEXTS, "label": LABELS}
  before = fingerprint(columns)
  assert before == fingerprint({**columns, "more": LABELS}) == fingerprint(Columns(columns))
  assert before != fingerprint({**columns, "label": LABELS[::-1]})


def test_the_fingerprint_of_hugging_face(datasets, tmp_path):
  split = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
  assert fingerprint(split) == split._fingerprint
  split.save_to_disk(tmp_path / "a")
  before = fingerprint(str(tmp_path / "a"))
  assert before == fingerprint(str(tmp_path / "a"))
  (data,) = (tmp_path / "a").glob("*.arrow")
  data.write_bytes(data.read_bytes() + b" ")
  assert before != fingerprint(str(tmp_path / "a"))
