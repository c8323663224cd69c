"""Rows one after another: every kind of file, and what stands for rows that are broken."""

import csv
import gzip
import io
import itertools
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning import checks
from prompt_tuning.data import rows
from prompt_tuning.data.rows import Row, Template

TEXTS = [
  "a film",
  'with "quotes", a comma',
  "two\nlines",
  "Ünïcödé 好 🎬",
  " padded ",
  "x\u2028y",
]


@pytest.fixture
def source(tmp_path):
  """Writes a file and reads its rows: (name, content, columns)."""

  def read(name, content, columns=()):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows.read(str(path), rows.format_of(str(path)), columns))

  return read


def values(found):
  assert [row.number for row in found] == list(range(len(found)))
  assert all(row.problem is None for row in found)
  return [dict(row.values) for row in found]


def table(delimiter, cells, end="\r\n"):
  sink = io.StringIO()
  csv.writer(sink, delimiter=delimiter, lineterminator=end).writerows(cells)
  return sink.getvalue()


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_cells_with_quotes_lines_marks_and_ends(source, suffix, delimiter, end, mark):
  text = mark + table(delimiter, [["text", "n"], *([t, "1"] for t in TEXTS)], end)
  assert values(source(f"x.{suffix}", text)) == [{"text": t, "n": "1"} for t in TEXTS]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_lines_keep_values_as_they_are(source, end, mark):
  given = [{"text": t, "n": [1, {"a": None}], "x": 2.5} for t in TEXTS]
  lines = [json.dumps(row, ensure_ascii=False) for row in given]
  assert values(source("x.jsonl", mark + end.join([lines[0], "  ", *lines[1:]]))) == given


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_line_of_plain_text_is_a_row(source, end):
  lines = ["one", "", " two ", '"three"']
  found = values(source("x.txt", "\ufeff" + "".join(line + end for line in lines)))
  assert found == [{"text": line} for line in lines]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.txt"])
def test_an_empty_file_has_no_rows(source, name):
  assert source(name, "") == []


def test_compressed_files(source):
  assert values(source("x.jsonl.gz", gzip.compress(b'{"text": "a"}\n'))) == [{"text": "a"}]
  with pytest.raises(checks.InputError, match="expected a whole file of rows"):
    source("y.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 1000)[:-10])
  with pytest.raises(checks.InputError, match="expected a whole file of rows"):
    source("z.csv.gz", b"text\na\n")


def test_broken_rows_stand_in_their_place(source):
  found = source(
    "x.jsonl", '{"text": "a"}\n\n{"text": \n[1]\n{"a": 1, "a": 2}\n{"text": "b"}'
  )
  assert [row.number for row in found] == [0, 1, 2, 3, 4]
  assert [row.values for row in found] == [{"text": "a"}, {}, {}, {}, {"text": "b"}]
  first, second, third = (row.problem for row in found[1:4])
  assert first.startswith("line 3: it is no JSON")
  assert second == "line 4: it is a list, expected a JSON object"
  assert third.startswith("line 5: it names a field twice")


def test_rows_of_another_width(source):
  found = source("x.csv", "text,n\na,1\nb\nc,1,2\nd,2\n")
  assert [row.problem for row in found] == [
    None,
    "line 3: it has 1 cells, the header 2",
    "line 4: it has 3 cells, the header 2",
    None,
  ]


@pytest.mark.parametrize("row", ['"good" movie,2', '"a film,2', '"a film\nb,2'])
def test_quotes_that_do_not_match_end_the_rows_behind_those_before(tmp_path, row):
  path = tmp_path / "x.csv"
  path.write_text(f'text,n\n"a\nb",1\n{row}\nc,3\nd,4\n')
  found = rows.read(str(path), "csv")
  assert next(found) == Row(0, {"text": "a\nb", "n": "1"})
  with pytest.raises(checks.InputError, match=r"x\.csv line 4: its quotes do not match"):
    next(found)


def test_a_header_whose_quotes_do_not_match_is_refused(source):
  with pytest.raises(checks.InputError, match="line 1: its quotes do not match"):
    source("x.csv", '"text,n\na,1\n', ["text"])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bare_carriage_return_ends_no_line(source, end):
  lines = ["a\rb", "\rc", "d\r", "e\x0bf\x0cg\x85h"]
  assert values(source("x.txt", end.join(lines))) == [
    {"text": line} for line in ["a\rb", "\rc", "d\r" if end == "\r\n" else "d", lines[3]]
  ]
  found = source("x.jsonl", f'{{"a":\r1}}{end}{{"a": "x\ry"}}{end}{{"a": 3}}\r')
  assert [row.values for row in found] == [{"a": 1}, {}, {"a": 3}]
  assert found[1].problem.startswith("line 2: it is no JSON (Invalid control character")


def test_a_header_without_a_column_is_refused_at_once(source):
  with pytest.raises(checks.InputError, match="has no column 'txt', expected one of its"):
    source("x.csv", "text,n\na,1\n", ["txt"])
  with pytest.raises(checks.InputError, match="has no column 'txt'"):
    source("x.txt", "a\n", ["txt"])
  with pytest.raises(checks.InputError, match="more than one column 'n'"):
    source("x.csv", "n,n\na,1\n")


def test_a_column_that_is_in_no_object_is_refused():
  there = [Row(0, {"text": "a"}), Row(1, {}, "broken"), Row(2, {"text": "b", "id": 1})]
  rows.check_columns("x.jsonl", there, ["text", "id"])
  rows.check_columns("x.jsonl", [Row(0, {}, "broken")], ["text"])
  with pytest.raises(checks.InputError, match="has no column 'txt'"):
    rows.check_columns("x.jsonl", there, ["txt"])


def test_columns_that_nobody_reads_may_have_any_name():
  there = [Row(0, {"text": "a", "a\0": 1}), Row(1, {"\udcff": 2, "a\u200b": 3})]
  rows.check_columns("x.jsonl", there, ["text", "a\u200b"])
  with pytest.raises(checks.InputError, match="has no column 'txt', expected one of its"):
    rows.check_columns("x.jsonl", there, ["text", "txt"])


def test_formats_by_suffix_and_by_name():
  found = [rows.format_of(name) for name in ("a.jsonl", "b.NDJSON", "c.csv.gz", "d.tsv")]
  assert found == ["jsonl", "jsonl", "csv", "tsv"]
  assert rows.format_of("-") == "jsonl" and rows.format_of("-", "csv") == "csv"
  assert rows.format_of("a.csv", "text") == "text"
  with pytest.raises(checks.InputError, match="are of no known kind"):
    rows.format_of("a.parquet")
  with pytest.raises(checks.InputError, match="unknown format 'xml'"):
    rows.format_of("a.csv", "xml")


def test_a_file_that_is_not_there():
  with pytest.raises(checks.InputError, match=r"none\.csv cannot be read"):
    list(rows.read("none.csv", "csv"))


def test_an_endless_pipe_is_read_as_far_as_asked(monkeypatch):
  class Endless(io.RawIOBase):
    def readable(self):
      return True

    def readinto(self, buffer):
      line = b'{"text": "a"}\n'
      buffer[: len(line)] = line
      return len(line)

  class Stdin:
    buffer = io.BufferedReader(Endless())

  monkeypatch.setattr(sys, "stdin", Stdin)
  found = itertools.islice(rows.read("-", "jsonl"), 10_000)
  assert values(list(found)) == [{"text": "a"}] * 10_000


# Templates.


def test_a_template_is_filled_with_cells():
  template = Template("{{q}} {question} c: {context} {question}")
  assert template.columns == ["question", "context"]
  assert template.fill({"question": "a", "context": 2}) == "{q} a c: 2 a"


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({}, "it has no column 'text'"),
    ({"text": None}, "'text' has no value"),
    ({"text": ["a"]}, "'text' is a list, expected text or a number"),
    ({"text": " \n"}, "its text is empty: 'text'"),
    ({"text": "a\udcff"}, "'text' is not UTF-8 at character 2"),
    ({"text": "a\0"}, "'text' holds a NUL byte"),
  ],
)
def test_cells_that_no_template_can_take(row, message):
  with pytest.raises(checks.InputError, match=message):
    Template("review: {text}").fill(row)


@pytest.mark.parametrize("text", ["review", "{", "{}", "a {b", ""])
def test_templates_without_columns(text):
  with pytest.raises(checks.InputError, match="the input template is"):
    Template(text)


# Whatever the bytes, there are rows or one sentence.


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=60), format=st.sampled_from(list(rows.FORMATS)))
def test_any_bytes_give_rows_or_one_sentence(content, format):
  class Stdin:
    buffer = io.BytesIO(content)

  kept, sys.stdin = sys.stdin, Stdin
  try:
    found = list(rows.read("-", format))
  except checks.InputError as error:
    assert "expected" in str(error)
    return
  finally:
    sys.stdin = kept
  assert [row.number for row in found] == list(range(len(found)))
  for row in found:
    assert row.problem or row.values
