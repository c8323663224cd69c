"""Runs that learn to rank candidates: from data to answers, resumed, refused."""

import json
import pathlib
import re

import numpy as np
import pytest
import tiny_tasks

from prompt_tuning import formats
from prompt_tuning.cli.main import main

pytestmark = pytest.mark.usefixtures("runs_compiled_in_a_hurry")
RANK_GIN = """
include 'tiny_model.gin'
include 'prompt_tuning/configs/prompts/from_class_labels.gin'
include 'prompt_tuning/configs/runs/{run}.gin'
include 'prompt_tuning/configs/runs/rank_candidates.gin'
include 'tiny_candidates.gin'
CLASS_LABELS = ['positive', 'negative']
TRAIN_STEPS = None
TRAIN_STEPS_RELATIVE = 12
BATCH_SIZE = 11
EVAL_PERIOD = 6
EVAL_STEPS = 1
SAVE_PERIOD = 3
STATS_PERIOD = 1
TEST_SPLIT = 'test'
"""

TASK_GIN = """
MIXTURE_OR_TASK_NAME = 'tiny_candidates'
MIXTURE_OR_TASK_MODULE = 'candidate_tasks'
TASK_FEATURE_LENGTHS = {'inputs': 16, 'targets': 4, 'is_correct': 2}
"""

SWEEP_GIN = """
include 'rank_prompt_finetune.gin'
include 'prompt_tuning/configs/runs/prompt_sweep.gin'
include 'rank_prompt_finetune.gin'
SWEEP_LEARNING_RATES = [0.3, 0.1]
"""

AFTER_GIN = """
include 'tiny_model.gin'
include 'prompt_tuning/configs/runs/prompt_{run}.gin'
include 'prompt_tuning/configs/models/decoding/given_candidates.gin'
include 'tiny_candidates.gin'
utils.DatasetConfig.batch_size = 5
"""


@pytest.fixture(scope="module")
def ranking(base, command):
  """The arguments of a run over candidates: (command, kind of run, folder, **macros)."""
  (base / "tiny_candidates.gin").write_text(TASK_GIN)
  for kind in ("prompt_finetune", "finetune"):
    (base / f"rank_{kind}.gin").write_text(RANK_GIN.format(run=kind))
  for kind in ("eval", "infer"):
    (base / f"rank_{kind}.gin").write_text(AFTER_GIN.format(run=kind))

  def arguments(name, kind, out, **macros):
    given = command(name, out, **macros)
    return [x.replace(f"={name}.gin", f"=rank_{kind}.gin") for x in given]

  return arguments


@pytest.fixture(scope="module")
def ranked(ranking, tmp_path_factory):
  """Twelve steps of the hinge."""
  folder = tmp_path_factory.mktemp("ranked") / "run"
  assert main(ranking("train", "prompt_finetune", folder)) == 0
  return folder


def rows(folder):
  return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def prompt(folder):
  return formats.read_prompt(str(folder / "prompt.safetensors"))


def test_metrics_are_the_loss_and_what_is_right(ranked):
  found = rows(ranked)
  assert [row["step"] for row in found] == list(range(4, 16))
  assert all(0 <= row["accuracy"] <= 1 and row["loss"] >= 0 for row in found)
  assert not any("z_loss" in row for row in found)
  for name in ("eval/tiny_candidates/accuracy", "training_eval/loss"):
    assert [row["step"] for row in found if name in row] == [9, 15]
  # Eleven of the twelve examples of the split, which the first batch holds.
  one = next(row for row in found if "training_eval/accuracy" in row)
  hits = one["training_eval/accuracy"] * 11
  assert hits == pytest.approx(round(hits), abs=1e-4)
  assert 0 <= 12 * one["eval/tiny_candidates/accuracy"] / 100 - hits <= 1 + 1e-4


def test_the_summary_is_of_the_tasks_own_metric(ranked):
  summary = json.loads((ranked / "summary.json").read_text())
  task = summary["tasks"]["tiny_candidates"]
  labels = [label for _, label in tiny_tasks.sentences("test")]
  assert task["examples"] == len(labels)
  word = max(tiny_tasks.LABELS, key=labels.count)
  assert task["majority"]["target"] == word
  assert task["majority"]["accuracy"] == pytest.approx(
    100 * labels.count(word) / len(labels)
  )
  assert "the " in task["samples"] and "b'" not in task["samples"]


def test_evaluation_and_inference_answer_with_candidates(ranked, ranking, run, tmp_path):
  file = str(ranked / "prompt.safetensors")
  split = {"utils.DatasetConfig.split": "test"}
  found = run(ranking("eval", "eval", tmp_path / "eval", PROMPT_FILE=file, **split))
  assert found.status == 0, found.err
  (one,) = json.loads((tmp_path / "eval" / "results.json").read_text())["prompts"]
  summary = json.loads((ranked / "summary.json").read_text())
  accuracy = one["tasks"]["tiny_candidates"]["accuracy"]
  assert accuracy == summary["tasks"]["tiny_candidates"]["prompt"]["accuracy"]
  given = {"PROMPT_FILE": file, "infer.infer.mode": "predict_with_aux", **split}
  given["decoding.Prediction.return_all_decodes"] = True
  found = run(ranking("infer", "infer", tmp_path / "infer", **given))
  assert found.status == 0, found.err
  text = pathlib.Path(found.out.split()[-1]).read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  sentences = tiny_tasks.sentences("test")
  texts = [x["inputs"]["inputs_pretokenized"] for x in lines]
  assert texts == [[text, text] for text, _ in sentences]
  assert all(sorted(x["prediction"]) == ["negative", "positive"] for x in lines)
  assert all(x["aux"]["scores"] == sorted(x["aux"]["scores"]) for x in lines)
  pairs = zip(lines, sentences, strict=True)
  pairs = zip(lines, sentences, strict=True)
  right = sum(x["prediction"][-1] == label for x, (_, label) in pairs)
  assert 100 * right / len(lines) == pytest.approx(accuracy)


def test_it_resumes_exactly(ranked, ranking, run, tmp_path):
  for steps in (7, 12):
    found = run(ranking("train", "prompt_finetune", tmp_path, TRAIN_STEPS_RELATIVE=steps))
    assert found.status == 0, found.err
  assert "continuing" in found.err
  assert "other shapes than foreseen" not in found.err
  np.testing.assert_array_equal(prompt(tmp_path).prompt, prompt(ranked).prompt)
  ours, theirs = ([(r["loss"], r["accuracy"]) for r in rows(f)] for f in (tmp_path, ranked))
  assert ours == theirs


def test_members_of_a_sweep_learn_what_a_run_alone_learns(ranked, ranking, run, tmp_path):
  (tmp_path / "sweep.gin").write_text(SWEEP_GIN)
  arguments = ranking("train", "prompt_finetune", tmp_path / "sweep")
  flags = [x for x in arguments if not x.startswith("--gin_file")][1:]
  found = run(["sweep", f"--gin_file={tmp_path / 'sweep.gin'}", *flags])
  assert found.status == 0, found.err
  member = tmp_path / "sweep" / "members" / "lr0.3"
  np.testing.assert_allclose(
    prompt(member).prompt, prompt(ranked).prompt, rtol=1e-3, atol=1e-3
  )


def test_another_margin_is_another_run(ranked, ranking, run):
  found = run(ranking("train", "prompt_finetune", ranked, MARGIN=0.3))
  assert found.status == 2 and "margin" in found.err


def test_a_whole_model_learns_by_cross_entropy_in_microbatches(ranking, run, tmp_path):
  given = {"LEARNING_RATE": 0.01, "BATCH_SIZE": 22, "LABEL_SMOOTHING": 0.1}
  given |= {"DROPOUT_RATE": 0.0, "trainer.Trainer.num_microbatches": 2}
  arguments = ranking("train", "finetune", tmp_path, **given)
  found = run([*arguments, "--gin.LOSS=@losses.LabelCrossEntropy()"])
  assert found.status == 0, found.err
  losses = [row["loss"] for row in rows(tmp_path)]
  assert losses[-1] < 0.8 * losses[0], losses


# What cannot be used.


@pytest.mark.parametrize(
  ("macros", "what"),
  [
    ({"PACK": True}, "PACK is True and LOSS is Hinge.*set PACK = False"),
    (
      {"TASK_FEATURE_LENGTHS": {"inputs": 16, "targets": 4}},
      "expected lengths for inputs, targets, is_correct",
    ),
    (
      {"TASK_FEATURE_LENGTHS": {"inputs": 16, "targets": 4, "is_correct": 1}},
      "room for 1 candidates .* brings 2",
    ),
    ({"MIXTURE_OR_TASK_NAME": "tiny_words"}, "tiny_words bring no candidates"),
    (
      {"infer_eval/utils.DatasetConfig.mixture_or_task_name": "tiny_words"},
      "tiny_words bring no candidates",
    ),
  ],
)
def test_what_does_not_go_together_is_refused(ranking, run, tmp_path, macros, what):
  found = run(ranking("train", "prompt_finetune", tmp_path / "run", **macros))
  assert found.status == 2
  assert re.search(what, found.err.replace("\n", " ")), found.err


def test_the_loss_of_tokens_does_not_take_candidates(ranking, run, tmp_path):
  arguments = ranking("train", "prompt_finetune", tmp_path / "run")
  found = run([*arguments, "--gin.LOSS=@losses.Loss()"])
  assert found.status == 2 and "LOSS is Loss" in found.err
  lengths = {"inputs": 16, "targets": 4}
  arguments = ranking(
    "train", "prompt_finetune", tmp_path / "run", TASK_FEATURE_LENGTHS=lengths
  )
  found = run([*arguments, "--gin.LOSS=@losses.Loss()"])
  assert found.status == 2 and "add is_correct" in found.err


def test_the_score_of_the_targets_is_refused(ranked, ranking, run, tmp_path):
  given = {"PROMPT_FILE": str(ranked / "prompt.safetensors"), "infer.infer.mode": "score"}
  given["utils.DatasetConfig.split"] = "test"
  found = run(ranking("infer", "infer", tmp_path, **given))
  assert found.status == 2 and "predict_with_aux" in found.err
