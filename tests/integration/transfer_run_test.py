"""From prompts to a prompt: what `prompt-tuning spot` shows starts a run."""

import json
import shlex

import numpy as np

from prompt_tuning import formats, transfer
from prompt_tuning.checkpoints import prompt_files

NOTHING = {"LEARNING_RATE": 0.0, "TRAIN_STEPS_RELATIVE": 3}  # keeps the start as it is


def test_a_run_starts_from_the_average_that_spot_shows(run, command, trained, tmp_path):
  first = formats.read_prompt(str(trained.folder))
  other = str(tmp_path / "other.safetensors")
  noise = np.random.default_rng(0).normal(size=first.prompt.shape).astype(np.float32)
  prompt_files.save_prompt(other, first.prompt + noise, first.metadata)
  found = transfer.transfer(
    [str(trained.folder), other], str(trained.folder / "numpy_checkpoints")
  )
  _, flags = found["starts"].values()
  out = tmp_path / "run"
  result = run(command("train", out, *shlex.split(" ".join(flags)), **NOTHING))
  assert result.status == 0, result.err
  shares = np.array(list(found["ranking"].values()))
  arrays = [formats.load_prompt(found["sources"][name]) for name in found["ranking"]]
  expected = np.average(arrays, axis=0, weights=shares)
  np.testing.assert_allclose(formats.load_prompt(str(out)), expected, atol=1e-3)
  config = (out / "config.gin").read_text()
  assert json.dumps(other).strip('"') in config


def test_a_source_of_another_model_is_refused(run, command, trained, tmp_path):
  other = str(tmp_path / "other.safetensors")
  prompt = formats.load_prompt(str(trained.folder))
  prompt_files.save_prompt(other, prompt, {"base_fingerprint": "another"})
  result = run(
    command(
      "train",
      tmp_path / "run",
      "--gin_file=prompts/from_files.gin",
      SOURCE_PROMPTS=[str(trained.folder), other],
    )
  )
  assert result.status == 2
  assert "another model or vocabulary" in result.err and other in result.err
