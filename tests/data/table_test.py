"""A table's settings: the template, the label words, and what it is made of."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from prompt_tuning import checks
from prompt_tuning.data.table import Table

REPO = pathlib.Path(__file__).parent.parent.parent


def table(**changes) -> Table:
  rows = {"text": ["a", "b"], "title": ["", "t"], "label": [0, 1]}
  settings = {"name": "a_table", "train": rows, "inputs": "{text}", "targets": "label"}
  return Table(**{**settings, **changes})


# The template.


@pytest.mark.parametrize(
  ("template", "parts"),
  [
    ("{text}", [("text", True)]),
    (
      "a: {x} b: {y}.",
      [("a: ", False), ("x", True), (" b: ", False), ("y", True), (".", 0)],
    ),
    ("{{x}} {x}", [("{", False), ("x", False), ("}", False), (" ", False), ("x", True)]),
    ("{{{x}}}", [("{", False), ("x", True), ("}", False)]),
    ("{x.__class__}{0}{x!r}", [("x.__class__", True), ("0", True), ("x!r", True)]),
    ("{of two words}\n", [("of two words", True), ("\n", False)]),
  ],
)
def test_a_template_is_text_and_names_of_columns(template, parts):
  assert table(inputs=template).template() == parts


@pytest.mark.parametrize(
  "template",
  ["", "text", "{}", "{text", "text}", "{{text}}", "{a{b}}", "{x}}", "{", 3, None],
)
def test_a_template_without_columns_or_with_odd_braces_is_refused(template):
  with pytest.raises(
    checks.InputError, match=re.escape(f"the input template is {template!r}")
  ):
    table(inputs=template).template()


def test_a_template_of_any_length_is_parsed_at_once():
  with pytest.raises(checks.InputError, match="the input template"):
    table(inputs="a" * 100_000 + "{").template()


def test_the_columns_that_are_needed_are_named_once():
  found = table(inputs="{b} {a} {b}", targets="a", answers="c").columns()
  assert found == ["b", "a", "c"]


# Label words.


@pytest.mark.parametrize(
  ("labels", "by_value", "words"),
  [
    (None, None, None),
    (["no", "yes"], {"no": "no", "yes": "yes"}, ("no", "yes")),
    ({"1": "good", "0": "bad"}, {"1": "good", "0": "bad"}, ("good", "bad")),
    ({0: "bad", 1: "good"}, {"0": "bad", "1": "good"}, ("bad", "good")),
    (
      {False: "bad", "true": "good"},
      {
        **{"false": "bad", "False": "bad", "FALSE": "bad"},
        **{"true": "good", "True": "good", "TRUE": "good"},
      },
      ("bad", "good"),
    ),
  ],
)
def test_label_words_are_looked_up_by_the_value_as_text(labels, by_value, words):
  found = table(labels=labels)
  assert found.by_value() == by_value and found.words() == words


@pytest.mark.parametrize(
  "labels",
  [
    *({"0": "bad", "1": "bad"}, {"1": "a", 1: "b"}, {"true": "a", True: "b"}),
    *(
      ["a", "a"],
      ["a"],
      {"0": "a"},
      [],
      {},
      "positive",
      3,
      ["a", ""],
      ["a", 3],
      ["a", " "],
    ),
  ],
)
def test_label_words_that_do_not_tell_values_apart_are_refused(labels):
  with pytest.raises(checks.InputError, match="the label words are") as error:
    table(labels=labels).words()
  assert repr(labels) in str(error.value)


# The other settings.


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"name": "my task"}, "the table's name is 'my task', expected letters"),
    ({"name": ""}, "the table's name is ''"),
    ({"name": None}, "the table's name is None"),
    ({"targets": None}, "the target column of a_table is None, expected its name"),
    ({"train": None}, "the table a_table has no rows, expected a file"),
    ({"metrics": "accuracy"}, "are 'accuracy', expected a list of names"),
    ({"metrics": []}, "expected a list of names"),
    ({"metrics": [3]}, "expected a list of names"),
  ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
  with pytest.raises(checks.InputError, match=re.escape(message)):
    table(**changes).check()


def test_the_splits_are_those_given():
  assert list(table(train=None, test="t.csv", validation="d.csv").sources()) == [
    "validation",
    "test",
  ]


# What it is made of.


def test_the_identity_changes_with_whatever_makes_the_examples(tmp_path):
  for name, label in [("a", 0), ("b", 0), ("c", 1)]:
    (tmp_path / f"{name}.csv").write_text(f"text,title,label\nx,y,{label}\n")
  same, other = (str(tmp_path / f"{name}.csv") for name in "bc")
  before = table(train=str(tmp_path / "a.csv"), labels={0: "no", 1: "yes"})
  changes = [
    {"train": other},
    {"test": same},
    {"inputs": "{title}"},
    {"targets": "title"},
    {"labels": {1: "yes", 0: "no"}},
    {"labels": None},
    {"answers": "title"},
  ]
  settings = {"train": same, "labels": {0: "no", 1: "yes"}}
  assert table(**settings, metrics=["f1"]).identity() == before.identity()
  found = [table(**{**settings, **change}).identity() for change in changes]
  assert len({before.identity(), *found}) == 1 + len(changes)
  assert json.loads(json.dumps(before.identity())) == before.identity()


def test_the_identity_is_the_same_in_every_process(tmp_path):
  (tmp_path / "a.csv").write_text("text,label\nx,true\n")
  program = f"""
import sys
from prompt_tuning.data.table import Table
table = Table(
  name="a",
  train={str(tmp_path / "a.csv")!r},
  validation={{"text": ["a"], "label": [True]}},
  inputs="{{text}}",
  targets="label",
  labels={{True: "yes", False: "no"}},
)
heavy = {{"tensorflow", "seqio", "pyarrow", "datasets"}} & sys.modules.keys()
print(table.identity(), heavy, sep="\\n")
"""
  found = {python(program, seed) for seed in ("1", "2", "3")}
  assert len(found) == 1
  identity, heavy = found.pop().splitlines()
  assert re.fullmatch(r"settings \w{16}, train \w{16}, validation \w{16}", identity)
  assert heavy == "set()"  # a gin file that names a table is read without TensorFlow


def python(program: str, seed: str) -> str:
  return subprocess.run(
    [sys.executable, "-c", program],
    cwd=REPO,
    env={"PYTHONHASHSEED": seed},
    capture_output=True,
    text=True,
    check=True,
  ).stdout


def test_the_identity_needs_files_that_are_there():
  with pytest.raises(checks.InputError, match="there is no file none"):
    table(train="none.csv").identity()
