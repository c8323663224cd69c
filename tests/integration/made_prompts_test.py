"""Methods whose variables make prompts, from the command line: trained, then evaluated."""

import csv
import json
import shutil

import pytest
from tiny_tasks import LABELS, sentences

from prompt_tuning import formats
from prompt_tuning.checkpoints import prompt_files

METHOD = "--gin_file=methods/{}.gin"
SHORT = ["--gin.TRAIN_STEPS_RELATIVE=3", "--gin.TRAIN_STEPS=None"]


@pytest.fixture
def table(tmp_path):
  """Arguments for files with two tasks in turn, whose names are in a column."""
  found = ["--gin_file=tables/table.gin"]
  for macro, split in {"TRAIN_FILE": "train", "VALIDATION_FILE": "validation"}.items():
    path = tmp_path / f"{split}.csv"
    with path.open("w", newline="") as sink:
      rows = csv.writer(sink)
      rows.writerow(["task", "text", "label"])
      for place, (text, label) in enumerate(sentences(split)):
        rows.writerow([f"<extra_id_{place % 2}>", text, label])
    found.append(f"--gin.{macro}={str(path)!r}")
  return [*found, "--gin.TARGET_COLUMN='label'", f"--gin.LABEL_WORDS={list(LABELS)!r}"]


def of_task(name, template):
  return {"MIXTURE_OR_TASK_NAME": name, "INPUT_TEMPLATE": template}


@pytest.mark.slow
def test_tasks_learn_together_and_are_told_apart_by_their_sentinels(
  run, command, tmp_path, table
):
  given = of_task("two_tasks", "{task} {text}")
  flags = [*table, METHOD.format("multi_task"), *SHORT]
  macros = {"NUM_TASKS": 2, "TEST_SPLIT": "validation"}
  found = run(command("train", tmp_path / "run", *flags, **given, **macros))
  assert found.status == 0, found.err
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["multi_task"].endswith("method.safetensors")

  split = {"utils.DatasetConfig.split": "validation", **given}
  trained = {"PROMPT_FILE": str(tmp_path / "run"), **split}
  found = run(command("eval", tmp_path / "eval", *table, **trained))
  assert found.status == 0, found.err
  results = json.loads((tmp_path / "eval" / "results.json").read_text())
  (card,) = results["prompts"]
  assert str(summary["metrics"]["two_tasks"]["accuracy"])[:4] in json.dumps(card)

  found = run(command("eval", tmp_path / "e", *table, PROMPTS="all", **trained))
  assert found.status == 2 and "PROMPTS is 'all'" in found.err


def test_inputs_without_a_sentinel_are_refused_with_one_sentence(
  run, command, tmp_path, table
):
  given = of_task("no_sentinels", "{text}")
  flags = [*table, METHOD.format("multi_task"), *SHORT]
  found = run(command("train", tmp_path / "run", *flags, TEST_SPLIT="validation", **given))
  assert found.status == 2
  assert "inputs begin with the tokens" in found.err and "4088 to 4095" in found.err


@pytest.mark.slow
def test_the_prompt_that_an_mlp_made_is_evaluated_at_every_step(run, command, tmp_path):
  flags = [METHOD.format("residual"), *SHORT, "--gin.SAVE_PERIOD=1"]
  found = run(command("train", tmp_path / "run", *flags))
  assert found.status == 0, found.err
  trained = {"PROMPT_FILE": str(tmp_path / "run"), "PROMPTS": "all"}
  found = run(command("eval", tmp_path / "eval", **trained))
  assert found.status == 0, found.err
  results = json.loads((tmp_path / "eval" / "results.json").read_text())
  assert len(results["prompts"]) == 3


@pytest.mark.slow
def test_a_run_is_not_continued_with_other_sources(run, command, prompts, tmp_path):
  source = tmp_path / "source.safetensors"
  shutil.copy(prompts["prompt_13"], source)
  flags = [METHOD.format("attempt"), f"--gin.SOURCE_PROMPTS={[str(source)]!r}"]
  given = command("train", tmp_path / "run", *flags, TRAIN_STEPS_RELATIVE=1)
  found = run(given)
  assert found.status == 0, found.err
  prompt_files.save_prompt(str(source), formats.load_prompt(str(source)) + 1)
  found = run(given)
  assert found.status == 2 and "  what the method reads: " in found.err, found.err
