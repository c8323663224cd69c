"""configs/methods: the line in the head of each file works as pasted."""

import shlex

import numpy as np
import pytest

from prompt_tuning import config, trees
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.cli.main import main
from prompt_tuning.methods.method import METHODS
from prompt_tuning.models.t5 import T5
from prompt_tuning.training.state import Split

FILES = sorted((config.folder() / "methods").glob("*.gin"))


def command(path) -> list[str]:
  """The arguments of `# Run: prompt-tuning ...`."""
  head = [x.removeprefix("#") for x in path.read_text().splitlines() if x[:1] == "#"]
  text = "\n".join(head).replace("\\\n", " ")
  (line,) = (x.partition("Run:")[2] for x in text.splitlines() if "Run:" in x)
  return shlex.split(line)[1:]


def test_every_method_has_a_file():
  assert {path.stem for path in FILES} == set(METHODS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_line_works_as_pasted(path, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  demo = str(tmp_path / "runs" / "movies" / "prompt.safetensors")  # of the demo's run
  prompt_files.save_prompt(demo, np.zeros((20, 256), np.float32))
  arguments = command(path)
  assert f"--gin_file=methods/{path.name}" in arguments
  assert main([*arguments, "--dry_run"]) == 0, capsys.readouterr().err
  assert "Total number of parameters" in capsys.readouterr().out
  values = [x.partition("=")[2] for x in arguments if x.startswith("--gin_file=")]
  bindings = [x.removeprefix("--gin.") for x in arguments if x.startswith("--gin.")]
  settings, _ = config.load("train.train", values, bindings)
  assert settings.learned.name == path.stem
  split = Split.of(settings.learned.shapes(T5.abstract(settings.model)))
  named = {settings.learned.method.t5x_path(x) for x in trees.values(split.tunable)}
  assert named and not [x for x in named if "steering" in x or "bank" in x]
