"""From rows to pairs of texts: exact strings, and every row that has none."""

import json
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from prompt_tuning import checks
from prompt_tuning.data import table_examples
from prompt_tuning.data.table import Table


def read(rows, **changes):
  settings = {"name": "a_table", "inputs": "{text}", "targets": "label"}
  return table_examples.read(Table(**{**settings, "train": rows, **changes}))


def pairs(rows, **changes):
  return [example[:2] for example in read(rows, **changes)["train"]]


def refusal(rows, **changes) -> str:
  with pytest.raises(checks.InputError) as error:
    read(rows, **changes)
  return str(error.value)


def test_the_template_is_filled_and_the_target_is_its_label_word():
  rows = {"title": ["A {b}", ""], "text": ["x", " y "], "label": ["0", "1"]}
  found = pairs(
    rows, inputs="{{t}}: {title} r: {text}", labels={"0": "negative", "1": "positive"}
  )
  assert found == [("{t}: A {b} r: x", "negative"), ("{t}:  r:  y ", "positive")]


def test_attributes_of_values_are_out_of_reach():
  message = refusal({"text": ["a"], "label": ["b"]}, inputs="{text.__class__}")
  assert "has no column 'text.__class__'" in message
  assert pairs({"text.upper": ["a"], "label": ["b"]}, inputs="{text.upper}") == [("a", "b")]


def test_free_text_is_left_as_it_is():
  rows = {"text": ["a"], "label": [" Two\nlines "]}
  assert pairs(rows) == [("a", " Two\nlines ")]


@pytest.mark.parametrize("values", [[1, 0], ["1", "0"], [b"1", b"0"]])
@pytest.mark.parametrize("keys", [(1, 0), ("1", "0")])
def test_labels_are_compared_as_text(values, keys):
  labels = dict(zip(keys, ("good", "bad"), strict=True))
  found = pairs({"text": ["a", "b"], "label": values}, labels=labels)
  assert found == [("a", "good"), ("b", "bad")]


@pytest.mark.parametrize("value", [True, "True", "true", "TRUE"])
@pytest.mark.parametrize("key", [True, "True", "true"])
def test_truth_is_one_value_however_it_is_written(value, key):
  labels = {key: "yes", "false": "no"}
  assert pairs({"text": ["a"], "label": [value]}, labels=labels) == [("a", "yes")]


def test_types_of_parquet_and_json_become_text(tmp_path):
  columns = {"text": [7, 8], "label": [1, 0], "score": [0.5, 2.0]}
  parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
  lines = [json.dumps({name: columns[name][i] for name in columns}) for i in (0, 1)]
  (tmp_path / "a.jsonl").write_text("\n".join(lines))
  for name in ("a.parquet", "a.jsonl"):
    found = pairs(str(tmp_path / name), inputs="{text} {score}", labels={0: "no", 1: "yes"})
    assert found == [("7 0.5", "yes"), ("8 2.0", "no")]


# All right answers.


@pytest.mark.parametrize(
  ("cell", "answers"),
  [
    ("Rome", ["Rome"]),
    ("Rome|||the city of Rome", ["Rome", "the city of Rome"]),
    ('["Rome", "a|||b"]', ["Rome", "a|||b"]),
    (["Rome", "Roma"], ["Rome", "Roma"]),
    ("42", ["42"]),
    ("[sic", ["[sic"]),
    ([1944, 44], ["1944", "44"]),
  ],
)
def test_several_right_answers(cell, answers):
  rows = {"text": ["q"], "label": ["Rome"], "all": [cell]}
  found = read(rows, answers="all", metrics=["squad"])
  assert found == {"train": [("q", "Rome", answers)]}


def test_the_target_is_the_only_right_answer_where_no_other_is_named():
  rows = {"text": ["q"], "label": ["Rome"]}
  assert read(rows, metrics=["squad"]) == {"train": [("q", "Rome", ["Rome"])]}
  assert read(rows) == {"train": [("q", "Rome", [])]}


@pytest.mark.parametrize("cell", ["", "a||| |||b", "[]", [], [None], None, '["a", ""]'])
def test_an_empty_answer_is_refused(cell):
  rows = {"text": ["q"], "label": ["Rome"], "all": [cell]}
  message = refusal(rows, answers="all", metrics=["squad"])
  assert "row 1: " in message and "'all'" in message


# Rows that cannot be used.


@pytest.mark.parametrize(
  ("changes", "problem"),
  [
    ({"text": ""}, "its input is empty: 'text'"),
    ({"text": " \n"}, "its input is empty: 'text'"),
    ({"text": None}, "'text' has no value"),
    ({"text": float("nan")}, "'text' has no value"),
    ({"text": ["a"]}, "'text' is a list, expected text or a number"),
    ({"text": {"a": 1}}, "'text' is a dict, expected text or a number"),
    ({"text": "a\0b"}, "'text' holds a NUL byte"),
    ({"text": "ab\udcff"}, "'text' is not UTF-8 at character 3"),
    ({"text": b"a\xff"}, "'text' is not UTF-8 at character 2"),
    ({"label": "2"}, "its target 'label' is '2', none of '0', '1'"),
    ({"label": " 1"}, "its target 'label' is ' 1', none of '0', '1'"),
    ({"label": ""}, "its target 'label' is empty"),
    ({"label": None}, "'label' has no value"),
  ],
)
def test_a_row_that_cannot_be_used_is_named(changes, problem):
  row = {"text": "b", "label": "1", **changes}
  message = refusal(
    {name: ["1", value, "0"] for name, value in row.items()}, labels={0: "no", 1: "yes"}
  )
  assert message.splitlines() == [
    "1 row of a_table cannot be used, expected an input and a target in every one; correct "
    "or remove them",
    f"  the train dict row 2: {problem}",
  ]


def test_an_empty_target_of_free_text_is_refused():
  assert "its target 'label' is empty" in refusal({"text": ["a"], "label": [" "]})


def test_one_empty_field_of_several_is_no_problem():
  rows = {"text": ["", ""], "title": ["a", " "], "label": ["x", "x"]}
  message = refusal(rows, inputs="{text} {title}")
  assert "row 2: its input is empty: 'text', 'title'" in message
  assert "row 1:" not in message


@pytest.mark.parametrize("target", ["abc", "nan", "inf", "1,5"])
def test_a_target_that_is_no_number_is_refused_where_numbers_are_compared(target):
  rows = {"text": ["a", "b"], "label": ["2.5", target]}
  message = refusal(rows, metrics=["pearson_corrcoef"])
  assert f"row 2: its target 'label' is {target!r}, no number" in message


def test_rows_of_all_files_are_named_together(tmp_path):
  (tmp_path / "train.csv").write_text("text,label\na,0\nb,5\nc\n")
  (tmp_path / "dev.csv").write_bytes(b"text,label\n\xffa,0\n\n,1\n")
  message = refusal(
    str(tmp_path / "train.csv"),
    validation=str(tmp_path / "dev.csv"),
    labels={0: "no", 1: "yes"},
  )
  found = re.sub(re.escape(f"{tmp_path}/"), "", message).splitlines()
  assert found[0].startswith("4 rows of a_table")
  assert found[1:] == [
    "  train.csv row 3: its target 'label' is '5', none of '0', '1'",
    "  train.csv row 4: it has 1 cells, the header 2",
    "  dev.csv row 2: 'text' is not UTF-8 at character 1",
    "  dev.csv row 4: its input is empty: 'text'",
  ]


def test_a_file_in_another_encoding_is_refused(tmp_path):
  (tmp_path / "a.csv").write_bytes("text,label\na,0\n".encode("utf-16"))
  assert "a.csv has a column" in refusal(str(tmp_path / "a.csv"))
  assert "save it as UTF-8" in refusal(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("content", ["", "\n", "text,label\n", "text,label"])
def test_a_file_without_rows_is_refused(tmp_path, content):
  (tmp_path / "a.csv").write_text(content)
  assert "a.csv has no rows, expected at least one" in refusal(str(tmp_path / "a.csv"))
  (tmp_path / "a.jsonl").write_text("\n")
  assert "a.jsonl has no rows" in refusal(str(tmp_path / "a.jsonl"))


def test_an_empty_second_file_is_refused_too(tmp_path):
  (tmp_path / "a.csv").write_text("text,label\n")
  rows = {"text": ["a"], "label": ["x"]}
  message = refusal(rows, test=str(tmp_path / "a.csv"))
  assert "a.csv has no rows" in message and "leave test out" in message
