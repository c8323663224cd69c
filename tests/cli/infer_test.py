"""`prompt-tuning infer --input`: flags that no row can be answered with, and the rest."""

import json

import numpy as np
import pytest

import prompt_tuning as pt
from prompt_tuning import answers_file
from prompt_tuning.cli.main import main
from prompt_tuning.predictor_config import PredictorConfig

GIN = "--gin_file=experiments/movie_reviews_predictor.gin"


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Rows and two prompts, in the working folder."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "rows.csv").write_text("text,task,label,prompt\na film,p,good,\n")
  (tmp_path / "rows.jsonl").write_text('{"text": "a film"}\n')
  pt.save_prompt("p.safetensors", np.zeros((3, 256), np.float32), {"labels": ["a", "b"]})
  pt.save_prompt("q.npy", np.ones((5, 256), np.float32))
  return tmp_path


@pytest.fixture
def run(capsys, folder):
  """Calls the command; (status, stdout, stderr)."""

  def call(*arguments):
    status = main(["infer", *arguments])
    return status, *capsys.readouterr()

  return call


def load_nothing(monkeypatch):
  """Fails where a model is loaded: a large one takes minutes, and nothing needs it here."""

  def refuse(config):
    pytest.fail("the model was loaded")

  monkeypatch.setattr(PredictorConfig, "load", refuse)


P, Q = "--prompt=p=p.safetensors", "--prompt=q=q.npy"
CSV = "--input=rows.csv"


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([CSV], "no --gin_file is given"),
    ([GIN, "--output=x"], "--output is given without --input"),
    ([GIN, P], "--prompt is given without --input"),
    ([GIN, "--length-normalized"], "--length-normalized is given without --input"),
    ([GIN, "--input=none.csv"], "none.csv cannot be read"),
    ([GIN, "--input=rows.xml"], "are of no known kind"),
    ([GIN, CSV, "--format=xml"], "unknown format 'xml'"),
    ([GIN, CSV, "--mode=decode"], "unknown mode 'decode'"),
    ([GIN, CSV, "--prompt=p.safetensors"], "expected NAME=PATH"),
    ([GIN, CSV, P, "--prompt=p=q.npy"], "every name once"),
    ([GIN, CSV, "--prompt=p=none.npy"], "there is no prompt at none.npy"),
    ([GIN, CSV, P, Q], "give --prompt-column"),
    ([GIN, CSV, "--prompt-column=task"], "give --prompt NAME=PATH"),
    ([GIN, CSV, P, "--prompt-column=tsk"], "has no column 'tsk'"),
    ([GIN, CSV, "--text-column=txt"], "has no column 'txt'"),
    ([GIN, CSV, "--template={text} {txt}"], "has no column 'txt'"),
    ([GIN, CSV, "--template=text"], "the input template is 'text'"),
    ([GIN, CSV, "--template={text}", "--text-column=text"], "expected one of them"),
    ([GIN, CSV, "--keep=id"], "has no column 'id'"),
    ([GIN, CSV, "--keep=label,prompt"], "--keep names 'prompt'"),
    ([GIN, CSV, "--mode=score"], "expected a column of targets"),
    ([GIN, CSV, "--target-column=label"], "expected a column of targets"),
    ([GIN, CSV, "--mode=score", "--target-column=goal"], "has no column 'goal'"),
    (
      [GIN, CSV, "--mode=score", "--target-column=label", "--labels=a,b"],
      "labels are given for the mode score",
    ),
    ([GIN, CSV, "--labels=a,a"], "each once"),
    ([GIN, CSV, "--labels=a,"], "expected words"),
    ([GIN, CSV, '--labels=["a"'], "are no JSON list"),
    ([GIN, CSV, "--labels=a,b", "--labels=c,d"], "is the second for all, expected one"),
    ([GIN, CSV, P, "--labels=x=a,b"], "unknown prompt in --labels 'x'"),
    ([GIN, CSV, Q, "--mode=rank"], "there are no labels"),
    ([GIN, CSV, "--mode=rank", "--label-column=words"], "has no column 'words'"),
    ([GIN, CSV, "--multiprocess"], "expected one for --input"),
    ([GIN, CSV, "--process_count=2"], "expected one for --input"),
    ([GIN, CSV, "--window=0"], "--window is 0"),
    ([GIN, CSV, "--window=x"], "invalid int value"),
    ([GIN, CSV, "--output=."], "is no ordinary file"),
    ([GIN, CSV, "--output=rows.csv"], "exists without rows.csv.run.json"),
    ([GIN, "--input=rows.jsonl", "--text-column=txt"], "has no column 'txt'"),
    ([GIN, CSV, "--gin.NO_SUCH=1"], "NO_SUCH"),
  ],
)
def test_what_is_wrong_for_all_rows_is_one_sentence(run, flags, message, monkeypatch):
  load_nothing(monkeypatch)
  status, out, err = run(*flags)
  assert status == 2 and out == ""
  assert message in err and err.startswith("prompt-tuning: ")


def test_labels_that_the_model_cannot_tell_apart_are_wrong_for_all_rows(run):
  status, out, err = run(GIN, CSV, '--labels=["bad", " bad"]')
  assert status == 2 and out == "" and "the same to the vocabulary" in err


def test_labels_that_the_model_cannot_write_are_wrong_for_all_rows(run):
  status, out, err = run(GIN, CSV, f"--labels=good,{'very ' * 100}good")
  assert status == 2 and out == ""
  assert "the candidate 'very very" in err and "tokens" in err


def test_short_inputs_say_nothing_about_labels(run):
  status, out, err = run(GIN, CSV, "--labels=good,bad", "--gin.MAX_INPUT_LEN=2")
  assert status == 1, err
  assert json.loads(out)["error"].startswith("the text has 3 tokens with EOS, expected at")


def test_rows_of_csv_to_stdout(run):
  status, out, err = run(GIN, CSV, P, "--keep=label", "--keep=label,task")
  assert status == 0 and "1 rows, 1 of them answered now" in err
  (line,) = map(json.loads, out.splitlines())
  assert list(line) == ["row", "prompt", "prediction", "score", "scores", "label", "task"]
  assert line["prompt"] == "p" and list(line["scores"]) == ["a", "b"]
  assert (line["label"], line["task"]) == ("good", "p")


def test_no_rows_are_no_answers_and_need_no_model(run, folder, monkeypatch):
  load_nothing(monkeypatch)
  (folder / "empty.csv").write_text("text\n")
  status, out, err = run(GIN, "--input=empty.csv", "--output=new/answers.jsonl")
  assert status == 0 and out == "" and "0 rows" in err
  assert (folder / "new" / "answers.jsonl").read_bytes() == b""


def test_gin_s_prompts_are_there_too(run, folder):
  (folder / "mine.gin").write_text(
    "include 'prompt_tuning/configs/experiments/movie_reviews_predictor.gin'\n"
    "PROMPT_FILES = {'q': 'q.npy'}\nPROMPT_LABELS = {'q': ['x', 'y']}\n"
  )
  status, out, err = run("--gin_file=mine.gin", CSV, "--mode=rank")
  assert status == 0, err
  assert json.loads(out)["prompt"] == "q"
  assert json.loads(out)["scores"].keys() == {"x", "y"}


def test_the_notes_say_what_the_answers_depend_on(run, folder):
  status, _, err = run(GIN, CSV, P, "--output=answers.jsonl", "--template=review: {text}")
  assert status == 0, err
  notes = json.loads((folder / "answers.jsonl.run.json").read_text())
  assert notes["rows"]["rows"] == 1 and len(notes["rows"]["sha256"]) == 64
  settings = notes["settings"]
  assert settings["template"] == "review: {text}" and settings["mode"] == "predict"
  assert "checkpoint_11000" in settings["checkpoint"] and settings["window"] == "256"
  assert len(settings["prompt 'p'"]) == 16 and notes["model"]
  with answers_file.opened("answers.jsonl", settings) as answers:
    assert (answers.done, answers.failed) == (1, 0)


def test_a_complete_file_is_said_to_be_complete_without_the_model(run, folder, monkeypatch):
  (folder / "rows.jsonl").write_text('{"text": "a film"}\n{"text": ""}\n')
  flags = [GIN, "--input=rows.jsonl", P, "--output=answers.jsonl"]
  assert run(*flags)[0] == 1
  before = (folder / "answers.jsonl").read_bytes()
  load_nothing(monkeypatch)
  (folder / "p.safetensors").rename(folder / "same.safetensors")
  flags[2] = "--prompt=p=same.safetensors"  # elsewhere, and the same
  status, out, err = run(*flags)
  assert status == 1 and out == ""
  assert "answers.jsonl is complete: 2 rows; 1 could not be answered" in err
  assert (folder / "answers.jsonl").read_bytes() == before


def test_the_dry_run_reads_no_rows(run):
  status, out, _ = run(GIN, "--input=none.jsonl", "--prompt=p=none", "--dry_run")
  assert status == 0 and "Total number of parameters" in out
