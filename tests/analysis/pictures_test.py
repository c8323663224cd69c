"""Pictures: every number that goes in is drawn, and nothing random is written."""

import re
import xml.etree.ElementTree

import pytest

from prompt_tuning import checks
from prompt_tuning.analysis import pictures

RUNGS = [
  {
    "parameters": size,
    "majority": 51.8,
    "untuned": 60.0,
    "prompt": {"mean": 70.0, "spread": 1.0},
    "model_tuning": {"mean": 72.0, "spread": 0.5},
  }
  for size in (1_100_000, 5_900_000)
]
ROWS = [
  {"step": 50, "labelled/loss": 0.4},
  {"step": 100, "held_out/labelled/loss": 0.3, "held_out/span_corruption/loss": 4.0},
  {"step": 200, "held_out/labelled/loss": 0.2, "held_out/span_corruption/loss": 3.0},
]


def drawn(path):
  """The text of a picture: its labels are comments in front of their glyphs."""
  xml.etree.ElementTree.parse(path)
  return path.read_text()


def test_the_power_of_scale_names_its_sizes_and_methods(tmp_path):
  pictures.power_of_scale(RUNGS, tmp_path / "a.svg")
  text = drawn(tmp_path / "a.svg")
  for label in ("1.1 M", "5.9 M", "prompt tuning", "model tuning", "majority class"):
    assert f"<!-- {label} -->" in text
  pictures.power_of_scale(RUNGS, tmp_path / "b.svg")
  assert "<dc:date>" not in text


def test_a_pretraining_curve_has_a_line_for_each_objective(tmp_path):
  pictures.pretraining({"stage 1": ROWS, "stage 2": ROWS}, tmp_path / "a.svg")
  text = drawn(tmp_path / "a.svg")
  for stage in ("stage 1", "stage 2"):
    for objective in ("labelled", "span corruption"):
      assert f"<!-- {stage}: {objective} -->" in text


def card(step, accuracy, score=None):
  glue = {"score": score, "tasks": {"CoLA": 1.0, "RTE": 2.0}, "missing": []}
  return {
    "step": step,
    "tasks": {"boolq": {"accuracy": accuracy}, "axb": {}},
    "benchmarks": {"GLUE": glue},
  }


def test_an_evaluation_has_a_bar_for_each_task_and_each_whole_benchmark(tmp_path):
  results = {"split": "validation", "prompts": [card(3, 62.5, score=71.25)]}
  pictures.scorecards(results, tmp_path / "a.svg")
  text = drawn(tmp_path / "a.svg")
  for label in ("boolq", "62.5", "GLUE", "71.2", "validation split, %"):
    assert f"<!-- {label} -->" in text
  assert "<!-- axb -->" not in text


def test_several_prompts_are_lines_by_step(tmp_path):
  results = {"split": "validation", "prompts": [card(3, 50.0), card(6, 60.0)]}
  pictures.scorecards(results, tmp_path / "a.svg")
  text = drawn(tmp_path / "a.svg")
  assert "<!-- boolq -->" in text and "<!-- step -->" in text
  assert "<!-- GLUE -->" not in text  # a part of it has no score


def test_rows_without_a_held_out_loss_are_refused(tmp_path):
  with pytest.raises(checks.InputError, match="no held-out loss"):
    pictures.pretraining({"stage 1": ROWS[:1]}, tmp_path / "a.svg")


def test_similar_tasks_stand_in_their_order_with_every_number(tmp_path):
  result = {
    "sources": {"x": "runs/x", "y": "runs/y", "z": "runs/z"},
    "similarity": [[1.0, 0.25, 0.75], [0.25, 1.0, 0.5], [0.75, 0.5, 1.0]],
    "order": ["x", "z", "y"],
    "joints": [([0, 0, 1, 1], [0, 0.2, 0.2, 0]), ([0.5, 0.5, 2, 2], [0.2, 0.7, 0.7, 0])],
  }
  pictures.similarity(result, tmp_path / "a.svg")
  text = drawn(tmp_path / "a.svg")
  found = re.findall(r"<!-- (.+) -->", text)
  assert found[:6] == ["x", "z", "y"] * 2  # columns, rows
  assert " ".join(found[6:]) == "1.00 0.75 0.25 0.75 1.00 0.50 0.25 0.50 1.00"
  lines = re.findall(r'id="line2d_\d+">\s+<path d="([^"]+)" clip-path', text)
  assert len(lines) == 2


def test_a_sweep_has_a_line_for_each_member_and_a_name_for_each_setting(tmp_path):
  settings = {"rate 0.1": [[(3, 50.0), (6, 60.0)], [(3, 51.0)]], "rate 0.3": [[(3, 52.0)]]}
  pictures.sweep(settings, "score", tmp_path / "a.svg")
  text = drawn(tmp_path / "a.svg")
  for label in ("rate 0.1", "rate 0.3", "score", "step"):
    assert text.count(f"<!-- {label} -->") == 1
  lines = re.findall(r'id="line2d_\d+">\s+<path d="([^"]+)" clip-path', text)
  assert len(lines) == 3
