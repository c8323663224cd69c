"""Model tuning: the same run as prompt tuning, with every weight of the model learning."""

import json

import numpy as np
import pytest

import prompt_tuning as pt
from prompt_tuning.cli.main import main

MODEL_TRAIN_GIN = """
include 'tiny_model.gin'
include 'prompt_tuning/configs/runs/finetune.gin'
include 'tiny_task.gin'
TRAIN_STEPS = None
TRAIN_STEPS_RELATIVE = 12
LEARNING_RATE = 0.05
BATCH_SIZE = 11
EVAL_PERIOD = 6
EVAL_STEPS = 1
SAVE_PERIOD = 3
STATS_PERIOD = 1
TEST_SPLIT = 'test'
"""


def tune(base, out, *flags):
  return main(
    [
      "train",
      f"--gin_search_paths={base}",
      "--gin_file=model_train.gin",
      f"--gin.INITIAL_CHECKPOINT_PATH='{base}'",
      f"--gin.MODEL_DIR='{out}'",
      *flags,
    ]
  )


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
  (base / "model_train.gin").write_text(MODEL_TRAIN_GIN)
  before = {p: p.read_bytes() for p in (base / "checkpoint_3").rglob("*") if p.is_file()}
  folder = tmp_path_factory.mktemp("tuned")
  assert tune(base, folder) == 0
  after = {p: p.read_bytes() for p in (base / "checkpoint_3").rglob("*") if p.is_file()}
  assert before == after  # the pretrained checkpoint stays as it is
  return folder


def test_every_weight_learns_and_the_best_model_is_a_t5x_checkpoint(base, tuned):
  summary = json.loads((tuned / "summary.json").read_text())
  best = pt.load_checkpoint(summary["model_tuning"])
  assert summary["learned"] == "model_tuning" and best.step == summary["best_step"]
  pretrained = pt.load_checkpoint(str(base))
  assert best.keys() == pretrained.keys()
  for path, array in pretrained.items():
    assert (np.asarray(array) != np.asarray(best[path])).any(), path
  assert len(list((tuned / "best").glob("checkpoint_*"))) == 1
  assert not (tuned / "prompt.safetensors").exists()


def test_it_is_compared_with_the_pretrained_model(tuned, trained):
  (task,) = json.loads((tuned / "summary.json").read_text())["tasks"].values()
  (prompted,) = trained.summary["tasks"].values()
  for name in ("untuned", "majority", "examples"):
    assert task[name] == prompted[name]
  assert 0 <= task["model_tuning"]["accuracy"] <= 100
  assert "prompt" not in task


def test_the_best_model_evaluates_as_the_summary_says(base, tuned, tmp_path, capsys):
  """Evaluated once more as a frozen model, with no training state at hand."""
  again = tmp_path / "again"
  flags = ["--gin.TRAIN_STEPS_RELATIVE=1", "--gin.LEARNING_RATE=0.0"]
  best = json.loads((tuned / "summary.json").read_text())
  flags.append(f"--gin.INITIAL_CHECKPOINT_PATH='{best['model_tuning']}'")
  assert tune(base, again, *flags) == 0
  capsys.readouterr()
  (found,) = json.loads((again / "summary.json").read_text())["tasks"].values()
  (expected,) = best["tasks"].values()
  assert found["untuned"] == expected["model_tuning"]


def test_it_resumes_exactly(base, tuned, tmp_path):
  assert tune(base, tmp_path, "--gin.TRAIN_STEPS_RELATIVE=6") == 0
  assert tune(base, tmp_path) == 0
  ours, theirs = (pt.load_checkpoint(str(f / "best")) for f in (tmp_path, tuned))
  assert ours.step == theirs.step
  for path, array in theirs.items():
    np.testing.assert_array_equal(ours[path], array)
