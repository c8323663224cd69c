"""The command line: every line that the help shows works as pasted."""

import gzip
import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

import prompt_tuning
from prompt_tuning import checks, config
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.cli import flags
from prompt_tuning.cli.main import COMMANDS, main

REPO = pathlib.Path(__file__).parents[2]
RUNS = ("train", "sweep", "eval", "ensemble", "infer", "tokens", "pretrain")
SERVERS = ("serve",)
PLANS = ("plan",)
FILES = ("convert", "inspect", "extract", "mrqa", "recycle", "spot")
TRAINED = ("movies", "boolq", "own_data")  # MODEL_DIRs of the experiments
PASSAGE = b'{"context": "x", "qas": [{"qid": "1", "question": "y", "answers": ["x"]}]}'


@pytest.fixture
def run(capsys):
  """Calls the command line; argparse's way out is a status too."""

  def call(*arguments: str) -> tuple[int, str, str]:
    try:
      status = main(arguments)
    except SystemExit as leaving:
      status = leaving.code
    return status, *capsys.readouterr()

  return call


def pasted(text: str) -> list[list[str]]:
  """The arguments of every `prompt-tuning ...` line in a help text that is a command."""
  text = text.replace("\\\n", " ")
  found = []
  for line in text.splitlines():
    line = line.partition("works as pasted: ")[2] or line
    for part in line.split("&&"):
      part = part.strip()
      if part.startswith("prompt-tuning ") and " [" not in part and "<" not in part:
        found.append(shlex.split(part)[1:])
  return found


def test_help_shows_every_command_and_a_line_that_works(run):
  for arguments in ([], ["--help"], ["-h"], ["help"]):
    status, out, err = run(*arguments)
    assert status == 0 and err == ""
    for name, (_, text) in COMMANDS.items():
      assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE)
    (line,) = pasted(out)
    assert line[0] == "train"


@pytest.mark.parametrize("command", list(COMMANDS))
def test_the_help_of_a_command_shows_a_line_that_works(run, command, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("train.csv").write_text("text,label\ngood,1\nbad,0\n")
  pathlib.Path("BioASQ.jsonl.gz").write_bytes(gzip.compress(PASSAGE))
  for number, name in enumerate(TRAINED, start=1):
    prompt = np.eye(number, 256, dtype=np.float32)
    prompt_files.save_prompt(f"runs/{name}/prompt.safetensors", prompt)
  status, out, err = run(command, "--help")
  assert status == 0 and err == ""
  lines = pasted(out)
  assert lines and lines[-1][0] == command
  for line in lines:
    if line[0] == "tasks":
      assert run(*line)[0] == 0
      continue
    if line[0] in FILES:
      status, out, err = run(*line)
      assert status == 0 and out and err == ""
      named = [x.rpartition("=")[2] for x in line]
      assert all(pathlib.Path(x).exists() for x in named if x.startswith("runs/"))
      continue
    if line[0] not in RUNS + SERVERS + PLANS:
      assert line[0] in COMMANDS and line[1].startswith("runs/")  # the folder to write
      continue
    named = [x.partition("=")[2] for x in line if x.startswith("--gin_file=")]
    assert named and all((config.folder() / name).is_file() for name in named)
    status, out, err = run(*line, "--dry_run")
    assert status == 0, err
    expected = "Objective.kind" if line[0] == "tokens" else "Total number of parameters"
    assert expected in out


@pytest.mark.parametrize("command", RUNS)
def test_the_help_of_a_run_lists_t5x_s_flags(run, command):
  _, out, _ = run(command, "--help")
  for flag in ("gin_file", "gin_search_paths", "gin_bindings", "tfds_data_dir"):
    assert f"--{flag}" in out
  assert "--dry_run" in out and "--seqio_additional_cache_dirs" in out


@pytest.mark.slow
def test_help_starts_without_jax():
  found = subprocess.run(
    [sys.executable, "-X", "importtime", "-m", "prompt_tuning", "--help"],
    cwd=REPO,
    capture_output=True,
    text=True,
    check=True,
  )
  assert "usage: prompt-tuning" in found.stdout
  imported = {line.split("|")[-1].strip() for line in found.stderr.splitlines()}
  assert "prompt_tuning.cli.main" in imported
  for name in ("jax", "numpy", "flax", "gin", "tensorflow", "seqio", "sentencepiece"):
    assert name not in imported


@pytest.mark.slow
def test_the_process_says_what_went_wrong_in_one_line_and_its_status():
  for arguments in (["trian"], ["train", "--gin_file=none.gin"]):
    found = subprocess.run(
      [sys.executable, "-m", "prompt_tuning", *arguments],
      cwd=REPO,
      capture_output=True,
      text=True,
      check=False,
    )
    assert found.returncode == 2 and found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith("prompt-tuning: unknown ")


def test_an_unknown_command_names_the_nearest(run):
  status, out, err = run("trian")
  assert status == 2 and out == ""
  assert err.startswith("prompt-tuning: unknown command 'trian'; the nearest known: train")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_wrong_flag_is_one_line_that_points_to_the_help(run, command):
  status, out, err = run(command, "--no_such_flag=1")
  assert status == 2 and out == ""
  assert err.startswith("prompt-tuning: ") and len(err.splitlines()) == 1
  assert f"prompt-tuning {command} --help" in err


def test_the_version_is_the_package_s(run):
  assert run("--version") == (0, f"{prompt_tuning.__version__}\n", "")


# Flags.


def test_gin_flags_are_bindings_in_their_order():
  found = flags.parse(
    "train",
    [
      "--gin_file=a.gin",
      "--gin.BATCH_SIZE=8",
      "--gin_file",
      "b.gin",
      "--gin_bindings=MODEL_DIR = '/tmp/x=y'",
      "--gin.train/utils.DatasetConfig.split='train[:10%]'",
    ],
  )
  assert found.gin_file == ["a.gin", "b.gin"]
  assert found.gin_bindings == [
    "BATCH_SIZE = 8",
    "MODEL_DIR = '/tmp/x=y'",
    "train/utils.DatasetConfig.split = 'train[:10%]'",
  ]
  assert found.dry_run is False


@pytest.mark.parametrize(
  ("given", "found"),
  [
    (["--dry_run"], True),
    (["--dry_run=True"], True),
    (["--dry_run=false"], False),
    (["--dry_run=0"], False),
    ([], False),
  ],
)
def test_dry_run_reads_as_absl_s_flag(given, found):
  assert flags.parse("train", given).dry_run is found


@pytest.mark.parametrize("flag", ["--gin.X", "--gin.", "--gin_fil=x", "--gin_file"])
def test_incomplete_flags_are_refused(flag):
  with pytest.raises(checks.InputError):
    flags.parse("train", [flag])


# The commands that are no runs.


@pytest.fixture
def corpus_folder(tmp_path):
  folder = tmp_path / "runs" / "corpus"
  folder.mkdir(parents=True)
  text = "\n".join(f"the film number {i} is good or bad" for i in range(300))
  (folder / "text.txt").write_text(text)
  rows = [
    json.dumps({"prefix": "mood:", "inputs": f"film {i}", "targets": "good"})
    for i in range(50)
  ]
  (folder / "labelled.jsonl").write_text("\n".join(rows))
  return folder


def test_vocabulary_prints_where_it_put_the_model(run, corpus_folder):
  status, out, _ = run("vocabulary", str(corpus_folder), "--pieces=300")
  assert status == 0
  assert out.strip() == str(corpus_folder / "sentencepiece.model")
  assert (corpus_folder / "sentencepiece.model").stat().st_size > 0


def test_vocabulary_refuses_a_folder_without_text(run, tmp_path):
  status, out, err = run("vocabulary", str(tmp_path))
  assert status == 2 and out == ""
  assert "there is no text" in err and "prompt-tuning corpus" in err


@pytest.mark.parametrize("rung", ["3m", "=runs/3m", "small:=runs/3m", "3m="])
def test_scale_refuses_a_rung_it_cannot_read(run, tmp_path, rung):
  status, out, err = run("scale", str(tmp_path), f"--rung={rung}")
  assert status == 2 and out == ""
  assert "expected [NAME:]SIZE=CHECKPOINT" in err


def test_scale_names_the_sizes_there_are(run, tmp_path):
  status, _, err = run("scale", str(tmp_path), "--rung=2m=package://assets")
  assert status == 2
  assert "models/sizes/reviews_3m.gin" in err


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error():
  line = f"{sys.executable} -m prompt_tuning inspect package://assets/t5_1_1_reviews"
  found = subprocess.run(
    ["bash", "-c", f"set -o pipefail; {line} | head -n 1"],
    cwd=REPO,
    capture_output=True,
    text=True,
    check=False,
  )
  assert found.returncode == 0 and found.stderr == ""
  assert found.stdout.split() == ["format", "T5X"]
