"""Methods side by side: who takes part, and what is written of them."""

import json
import pathlib
import xml.etree.ElementTree

import pytest

from prompt_tuning import contest, files
from prompt_tuning.analysis import pictures
from prompt_tuning.cli.main import main
from prompt_tuning.methods.method import METHODS

DOCS = pathlib.Path(__file__).parents[1] / "docs"
ROWS = [
  {
    "method": name,
    "accuracy": {"mean": mean, "spread": 0.5, "values": [mean]},
    "untuned": 72.0,
    "majority": 51.8,
    "examples": 1000,
    "parameters": 5120,
    "bytes": 21000,
    "examples_per_second": 130.4,
  }
  for name, mean in (("prompt", 74.0), ("per_layer", 73.25))
]


def test_every_method_takes_part_that_needs_nothing_but_a_task():
  found = contest.contestants()
  own = METHODS.keys() - {"attempt", "multi_task"}  # trained prompts; several tasks
  assert found.keys() == own | {"prompt", "model_tuning"}


def test_a_row_says_what_it_costs():
  lines = contest.table(ROWS).splitlines()
  assert lines[2:4] == [
    "| majority class | 51.8 | | | |",
    "| untuned | 72.0 | | | |",
  ]
  assert lines[5] == "| per layer | 73.2 ± 0.5 | 5,120 | 21,000 | 130 |"


def test_the_picture_names_every_method(tmp_path):
  pictures.methods(ROWS, tmp_path / "methods.svg")
  text = (tmp_path / "methods.svg").read_text()
  assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
  assert "per layer" in text and "prompt" in text


def test_an_unknown_method_names_the_nearest(capsys, tmp_path):
  assert main(["methods", str(tmp_path), "--only", "ia33"]) == 2
  assert "ia3" in capsys.readouterr().err


FOUND = json.loads((DOCS / "capabilities.json").read_text())


@pytest.mark.parametrize("method", FOUND)
def test_the_table_of_capabilities_is_what_was_found(method):
  text = (DOCS / "methods.md").read_text()
  lines = text.partition("<!-- capabilities -->")[2].partition("<!-- /")[0].splitlines()
  (row,) = [line for line in lines if line.startswith(f"| {method.replace('_', ' ')} | ")]
  cells = [cell.strip() for cell in row.strip("| ").split(" | ")][1:]
  assert [cell == "yes" for cell in cells] == [x is None for x in FOUND[method].values()]


def test_the_bytes_of_a_checkpoint_are_those_of_its_folder(tmp_path):
  place = files.path(tmp_path / "best")
  (place / "checkpoint_7").mkdir(parents=True)
  (place / "checkpoint_7" / "checkpoint").write_bytes(bytes(30))
  (place / "config.json").write_bytes(bytes(4))
  assert contest._bytes(place) == 34
  assert contest._bytes(place / "config.json") == 4
