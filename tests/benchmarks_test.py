"""What the documentation says of speed is what was measured."""

import json
import pathlib
import runpy
import sys

import pytest

REPO = pathlib.Path(__file__).parents[1]
RESULTS = REPO / "docs" / "benchmarks.json"


@pytest.fixture(scope="module")
def report():
  sys.path.insert(0, str(REPO / "benchmarks"))
  try:
    return runpy.run_path(str(REPO / "benchmarks" / "report.py"))
  finally:
    sys.path.pop(0)


@pytest.fixture(scope="module")
def parts():
  return json.loads(RESULTS.read_text())


@pytest.mark.parametrize(
  ("path", "table"), [("README.md", "summary"), ("docs/benchmarks.md", "whole")]
)
def test_the_tables_are_those_of_the_results(report, parts, path, table):
  text = (REPO / path).read_text()
  assert text.count(report["BEGIN"]) == text.count(report["END"]) == 1
  assert report["between"](text, report[table](parts)) == text


def test_the_picture_is_that_of_the_results(report, parts):
  assert report["picture"](parts) == (REPO / "docs" / "benchmarks.svg").read_text()


def test_every_part_is_reported(report, parts):
  assert set(parts) <= set(report["ORDER"])
  said = report["summary"](parts)
  for part in parts.values():
    for row in part["rows"]:
      assert row["bar"] is None or row["what"] in said


def test_a_bar_that_was_not_reached_is_called_missed(report):
  def verdict(median: float, bar: float, better: str) -> str:
    row = {"what": "x", "unit": "s", "median": median, "least": 1, "most": 9, "runs": 3}
    part = {"machine": {"processor": "", "cores": 2}, "versions": {}, "date": ""}
    parts = {"start": part | {"rows": [row | {"bar": bar, "better": better}]}}
    return report["summary"](parts).splitlines()[2].split("|")[-2].strip("* ")

  assert verdict(3.0, 2.0, "more") == verdict(2.0, 3.0, "less") == "reached"
  assert verdict(2.0, 3.0, "more") == verdict(3.0, 2.0, "less") == "missed"
  assert verdict(2.0, 2.0, "more") == verdict(2.0, 2.0, "less") == "reached"
