"""`prompt-tuning spot`: what it prints, writes and refuses."""

import numpy as np
import pytest

from prompt_tuning import transfer
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.cli.main import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
  """Calls the command in a folder with prompts a, b and c: status, stdout, stderr."""
  monkeypatch.chdir(tmp_path)
  rng = np.random.default_rng(0)
  for name in "abc":
    prompt = (rng.normal(size=(3, 8)) + 0.5).astype(np.float32)
    prompt_files.save_prompt(f"{name}.npy", prompt)

  def call(*arguments):
    status = main(["spot", *arguments])
    return status, *capsys.readouterr()

  return call


def test_it_prints_the_table(run):
  status, out, err = run("a.npy", "b.npy", "c.npy", "--measure=tokens")
  expected = transfer.transfer(["a.npy", "b.npy", "c.npy"], measure="tokens")
  assert (status, out, err) == (0, transfer.report(expected) + "\n", "")


def test_it_prints_the_ranking_and_writes_what_it_found(run, tmp_path):
  folder = tmp_path / "out"
  status, out, err = run(
    "a.npy", "b.npy", "--target", "c.npy", "--top=1", f"--out={folder}"
  )
  expected = transfer.transfer(["a.npy", "b.npy"], "c.npy", 1)
  assert (status, out, err) == (0, transfer.report(expected) + "\n", "")
  assert "average" not in out
  assert {path.name for path in folder.iterdir()} == {"similarity.json", "similarity.svg"}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["a.npy"], "1 prompts are given"),
    (["a.npy", "b.npy", "--measure=sum"], "unknown measure 'sum'"),
    (["a.npy", "--target=b.npy", "--top=0"], "--top is 0"),
    (["a.npy", "--target=b.npy", "--top=2"], "2 of 1 sources"),
    (["a.npy", "b.npy", "--step=5"], "no prompts by step"),
    (["a.npy", "b.npy", "--out=a.npy"], "--out 'a.npy' cannot be written"),
  ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(run, arguments, message):
  status, out, err = run(*arguments)
  assert (status, out) == (2, "")
  assert message in err and len(err.splitlines()) == 1
