"""Runs from checkpoints and prompts of every format."""

import json

import numpy as np
import pytest
from etils import epath

from prompt_tuning import formats
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hf_base(base, tmp_path_factory):
  """The base model as a Hugging Face folder."""
  folder = tmp_path_factory.mktemp("hf") / "model"
  assert main(["convert", str(base), str(folder), "--to", "hf"]) == 0
  return folder


def test_a_run_from_a_hugging_face_folder_is_the_same_run(
  trained, hf_base, run, command, tmp_path
):
  macros = {"INITIAL_CHECKPOINT_PATH": str(hf_base), "INITIAL_STEP": 3}
  found = run(command("train", tmp_path / "run", **macros))
  assert found.status == 0, found.err
  ours = formats.read_prompt(str(tmp_path / "run"))
  theirs = formats.read_prompt(str(trained.folder))
  np.testing.assert_array_equal(ours.prompt, theirs.prompt)
  assert ours.metadata == theirs.metadata
  assert (
    json.loads((tmp_path / "run" / "summary.json").read_text())["score"]
    == (trained.summary["score"])
  )


@pytest.mark.parametrize("to", ["npy", "safetensors", "peft", "t5x"])
def test_a_prompt_evaluates_alike_in_every_format(
  to, trained, base, hf_base, run, command, tmp_path
):
  target = tmp_path / (f"prompt.{to}" if to in ("npy", "safetensors") else "prompt")
  source = str(trained.folder / "prompt.safetensors")
  extra = ["--base", str(base)] if to == "t5x" else []
  assert run(["convert", source, str(target), "--to", to, *extra]).status == 0
  outputs = []
  for number, prompt in enumerate((source, str(target))):
    macros = {"PROMPT_FILE": prompt, "CHECKPOINT_PATH": str(hf_base)}
    found = run(command("eval", tmp_path / f"eval_{number}", **macros))
    assert found.status == 0, found.err
    results = json.loads((tmp_path / f"eval_{number}" / "results.json").read_text())
    outputs.append(results["prompts"][0]["tasks"])
  assert outputs[0] == outputs[1]


def test_a_prompt_of_another_vocabulary_is_refused(trained, run, command, tmp_path):
  file = formats.read_prompt(str(trained.folder))
  assert len(file.metadata["vocabulary"]) == 64
  story = {**file.metadata, "vocabulary": "0" * 64}
  path = str(tmp_path / "foreign.safetensors")
  prompt_files.save_prompt(path, file.prompt, story)
  found = run(command("eval", tmp_path / "eval", PROMPT_FILE=path))
  assert found.status == 2 and f"vocabulary: {'0' * 64}, here" in found.err


def test_a_prompt_of_another_model_is_not_put_into_a_checkpoint(
  trained, save_t5, run, tmp_path
):
  save_t5(tmp_path / "other", seed=1)
  source = str(trained.folder / "prompt.safetensors")
  target = str(tmp_path / "out")
  found = run(["convert", source, target, "--to", "t5x", "--base", str(tmp_path / "other")])
  assert found.status == 2 and "was trained on the model" in found.err
  assert not epath.Path(target).exists()
