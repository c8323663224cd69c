"""configs/methods: the line in the head of each file works as pasted."""

import shlex

import numpy as np
import pytest

from prompt_tuning import config
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.cli.main import main
from prompt_tuning.methods.method import METHODS

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
  shown = capsys.readouterr().out
  learned = [line for line in shown.splitlines() if " tunable " in line]
  assert learned and "Total number of parameters" in shown
  assert not [line for line in learned if "steering" in line or "bank" in line]
