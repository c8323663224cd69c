"""Runs on weights in int8: prompts go to and from other dtypes, the rest is refused."""

import shutil

import pytest

from prompt_tuning import formats, metrics_log


@pytest.fixture(scope="module")
def trained_on_int8(tmp_path_factory, command):
  from prompt_tuning.cli.main import main

  folder = tmp_path_factory.mktemp("int8") / "run"
  assert main(command("train", folder, WEIGHT_DTYPE="int8")) == 0
  return folder


def prompt_of(folder):
  return str(folder / "prompt.safetensors")


def test_a_prompt_says_what_it_was_trained_on(trained, trained_on_int8):
  one, other = (
    formats.read_prompt(prompt_of(folder)).metadata
    for folder in (trained.folder, trained_on_int8)
  )
  assert (one["weight_dtype"], other["weight_dtype"]) == ("float32", "int8")
  assert one["base_fingerprint"] == other["base_fingerprint"]
  info = (trained_on_int8 / "model-info.txt").read_text()
  assert "token_embedder/embedding_scale" in info and " int8 " in info


def test_it_learns_on_int8_what_it_learns_on_float32(trained, trained_on_int8):
  found, expected = (
    [row["loss"] for row in metrics_log.read(folder / "metrics.jsonl") if "loss" in row]
    for folder in (trained_on_int8, trained.folder)
  )
  assert expected[-1] < 0.98 * expected[0]
  assert found == pytest.approx(expected, rel=5e-3) and found != expected


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_prompts_go_both_ways(trained, trained_on_int8, run, command, tmp_path, dtype):
  folder = trained_on_int8 if dtype == "float32" else trained.folder
  macros = {"PROMPT_FILE": prompt_of(folder), "WEIGHT_DTYPE": dtype}
  found = run(command("eval", tmp_path / "eval", **macros))
  assert found.status == 0, found.err


def test_a_run_is_not_continued_on_other_weights(trained_on_int8, run, command, tmp_path):
  shutil.copytree(trained_on_int8, tmp_path / "run")
  found = run(command("train", tmp_path / "run", WEIGHT_DTYPE="bfloat16"))
  assert found.status == 2
  assert "weight dtype: int8 before, bfloat16 now" in found.err


def test_a_model_does_not_learn_in_int8(base, run, tmp_path):
  found = run(
    [
      "train",
      f"--gin_search_paths={base}",
      "--gin_file=tiny_model.gin",
      "--gin_file=runs/finetune.gin",
      "--gin_file=tiny_task.gin",
      f"--gin.INITIAL_CHECKPOINT_PATH='{base}'",
      f"--gin.MODEL_DIR='{tmp_path / 'run'}'",
      "--gin.TRAIN_STEPS=20",
      "--gin.WEIGHT_DTYPE='int8'",
    ]
  )
  assert found.status == 2 and "set WEIGHT_DTYPE='float32'" in found.err
  assert "Traceback" not in found.err


def test_the_dry_run_shows_weights_as_they_will_lie_in_memory(run, command, tmp_path):
  found = run(command("train", tmp_path, "--dry_run", WEIGHT_DTYPE="int8"))
  assert found.status == 0, found.err
  (line,) = [x for x in found.out.splitlines() if x.startswith("token_embedder/embedding ")]
  assert line.split()[1] == "int8"


def test_a_predictor_answers_on_int8(trained, base):
  from prompt_tuning import config

  def scores(dtype):
    settings, _ = config.load(
      "predictor.predictor",
      ["tiny_model.gin", "runs/predictor.gin"],
      [
        f"CHECKPOINT_PATH = {str(base)!r}",
        f"PROMPT_FILES = {{'words': {prompt_of(trained.folder)!r}}}",
        f"WEIGHT_DTYPE = {dtype!r}",
        "MAX_INPUT_LEN = 16",
        "MAX_OUTPUT_LEN = 4",
        "BATCH_SIZE = 2",
      ],
      [str(base)],
    )
    predictor = settings.load()
    assert predictor.base.weight_dtype == dtype
    words = [["negative", "positive"]] * 2
    return [x.scores for x in predictor.rank(["a fine film", "dull"], words, "words")]

  exact, found = scores("float32"), scores("int8")
  for one, other in zip(exact, found, strict=True):
    assert one == pytest.approx(other, abs=1.0) and one != other
