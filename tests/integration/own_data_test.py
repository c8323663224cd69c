"""Files of one's own, from the command line and from Python, on the tiny model."""

import csv
import json
import pathlib
import re

import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_tasks import LABELS, sentences

from prompt_tuning import config, train
from prompt_tuning.data.table import Table

SPLITS = {"TRAIN_FILE": "train", "VALIDATION_FILE": "validation", "TEST_FILE": "test"}
WORDS = {"0": "negative", "1": "positive"}


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
  """{macro: path of a .csv of good and bad sentences}."""
  found = {}
  for macro, split in SPLITS.items():
    path = tmp_path / f"{split}.csv"
    with path.open("w", newline="") as sink:
      rows = csv.writer(sink)
      rows.writerow(["text", "label"])
      rows.writerows((text, LABELS.index(label)) for text, label in sentences(split))
    found[macro] = str(path)
  return found


@pytest.fixture
def training(command, tmp_path, files):
  """The arguments of a training on the files: (*flags, **macros)."""

  def arguments(*flags: str, **macros: object) -> list[str]:
    given = {
      **files,
      "MIXTURE_OR_TASK_NAME": "own_words",
      "INPUT_TEMPLATE": "review: {text}",
      "TARGET_COLUMN": "label",
      "LABEL_WORDS": WORDS,
      **macros,
    }
    return command(
      "train", tmp_path / "run", "--gin_file=tables/table.gin", *flags, **given
    )

  return arguments


def metrics_of(folder: pathlib.Path) -> list[dict]:
  lines = (folder / "inference_eval" / "own_words-metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_file_is_trained_on_evaluated_and_summed_up(run, training, tmp_path):
  found = run(training(METRICS=["accuracy", "macro_f1"]))
  assert found.status == 0, found.err
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["split"] == "test"
  assert summary["metrics"]["own_words"].keys() == {"accuracy", "mean_2class_f1"}
  assert "own_words" in found.out
  labels = [LABELS.index(label) for _, label in sentences("validation")]
  possible = {100 * right / len(labels) for right in range(len(labels) + 1)}
  assert {line["accuracy"] for line in metrics_of(tmp_path / "run")} <= possible


def test_a_prompt_is_evaluated_and_applied_on_the_file(run, command, training, tmp_path):
  assert run(training()).status == 0
  table = [x for x in training() if "MODEL_DIR" not in x and "INITIAL" not in x][3:]
  prompt = f"--gin.PROMPT_FILE={str(tmp_path / 'run' / 'prompt.safetensors')!r}"
  found = run(command("eval", tmp_path / "eval", *table, prompt))
  assert found.status == 0, found.err
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  tuned = summary["tasks"]["own_words"]["prompt"]["accuracy"]
  assert re.search(rf"own_words +accuracy +{tuned:.2f}\n", found.out), found.out
  found = run(command("infer", tmp_path / "infer", *table, prompt))
  assert found.status == 0, found.err
  lines = pathlib.Path(found.out.strip()).read_text().splitlines()
  assert len(lines) == len(sentences("test"))


def test_every_kind_of_file_gives_the_same_prompt(run, training, files, tmp_path):
  kinds = {"csv": files["TRAIN_FILE"]}
  rows = [(text, LABELS.index(label)) for text, label in sentences("train")]
  columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
  kinds["parquet"] = str(tmp_path / "train.parquet")
  parquet.write_table(pa.table(columns), kinds["parquet"])
  kinds["jsonl"] = str(tmp_path / "train.jsonl")
  lines = [json.dumps({"label": label, "text": text}) for text, label in rows]
  pathlib.Path(kinds["jsonl"]).write_text("\n".join(lines))
  prompts = set()
  for kind, path in kinds.items():
    out = tmp_path / f"run_{kind}"
    found = run(training(TRAIN_FILE=path, MODEL_DIR=str(out), TRAIN_STEPS_RELATIVE=3))
    assert found.status == 0, found.err
    (prompt,) = (out / "numpy_checkpoints" / "checkpoint_6").iterdir()
    prompts.add(prompt.read_bytes())
  assert len(prompts) == 1


def test_a_document_as_long_as_a_book_is_cut_counted_and_reported(run, training, files):
  with open(files["TRAIN_FILE"], "a", newline="") as sink:
    csv.writer(sink).writerow(["a good book " * 8334, 1])  # 100,008 characters
  found = run(training(TRAIN_STEPS_RELATIVE=3))
  assert found.status == 0, found.err
  (line,) = [row for row in found.err.splitlines() if "own_words train: " in row]
  assert re.search(r"1 of 51 inputs is longer than 16 tokens and is cut \(the long", line)


def test_a_run_refuses_to_continue_on_other_rows(run, training, files):
  assert run(training(TRAIN_STEPS_RELATIVE=3)).status == 0
  path = pathlib.Path(files["TRAIN_FILE"])
  path.write_text(path.read_text().replace("the film", "a film"))
  found = run(training(TRAIN_STEPS_RELATIVE=6))
  assert found.status == 2
  assert "table" in found.err and "train" in found.err


def test_label_words_that_the_vocabulary_cannot_tell_apart_are_refused(run, training):
  found = run(training(LABEL_WORDS={"0": "Good", "1": "good"}, LABELS="task"))
  assert found.status == 2
  assert "the labels 'Good' and 'good' are the same to the vocabulary" in found.err


def test_five_lines_of_python(base, files, tmp_path):
  reviews = Table(
    name="five_lines",
    train=files["TRAIN_FILE"],
    validation=files["VALIDATION_FILE"],
    inputs="review: {text}",
    targets="label",
    labels=WORDS,
    metrics=["accuracy"],
  )
  reviews.register()
  settings, text = config.load(
    "train.train",
    ["experiments/own_data.gin", "tiny_model.gin"],
    [
      "TABLE = None",
      "MIXTURE_OR_TASK_NAME = 'five_lines'",
      f"MODEL_DIR = {str(tmp_path / 'run')!r}",
      f"INITIAL_CHECKPOINT_PATH = {str(base)!r}",
      "TRAIN_STEPS_RELATIVE = 2",
      "BATCH_SIZE = 10",
    ],
    [str(base)],
  )
  summary = train.train(settings, text)
  assert summary["metrics"]["five_lines"].keys() == {"accuracy"}
  assert (tmp_path / "run" / "prompt.safetensors").is_file()
  assert predictions(tmp_path / "run", "five_lines") <= {0, 1}


def predictions(folder: pathlib.Path, task: str) -> set:
  """All that a run predicted in its evaluations: classes, -1 for what is no label word."""
  files = (folder / "inference_eval").glob(f"{task}-[0-9]*.jsonl")
  lines = [line for file in files for line in file.read_text().splitlines()]
  assert lines
  return {json.loads(line)["prediction"] for line in lines}


@pytest.fixture
def experiment(run, base, files, tmp_path):
  """Trains with experiments/own_data.gin, but the tiny model and two steps: (**macros)."""

  def call(**macros: object):
    given = {
      "INITIAL_CHECKPOINT_PATH": str(base),
      "MODEL_DIR": str(tmp_path / "run"),
      "TRAIN_STEPS_RELATIVE": 2,
      "BATCH_SIZE": 10,
      **files,
      **macros,
    }
    return run(
      [
        "train",
        f"--gin_search_paths={base}",
        "--gin_file=experiments/own_data.gin",
        "--gin_file=tiny_model.gin",
        *(f"--gin.{name}={value!r}" for name, value in given.items()),
      ]
    )

  return call


def test_the_experiment_chooses_from_the_label_words_of_the_table(experiment, tmp_path):
  found = experiment(LABEL_WORDS={"0": "awful", "1": "great"})
  assert found.status == 0, found.err
  assert predictions(tmp_path / "run", "own_data") <= {0, 1}


def test_the_experiment_answers_freely_where_there_are_no_label_words(experiment, tmp_path):
  found = experiment(
    MIXTURE_OR_TASK_NAME="own_text", TARGET_COLUMN="text", METRICS=["exact_match", "rouge"]
  )
  assert found.status == 0, found.err
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert {"exact_match", "rouge1"} <= summary["metrics"]["own_text"].keys()


# What cannot be used.


@pytest.fixture
def refused(run, training, tmp_path):
  """Trains with these macros, which must be refused; returns the message."""

  def call(**macros: object) -> str:
    found = run(training(**macros))
    assert found.status == 2, found
    first, *more = found.err.splitlines()
    assert first.startswith("prompt-tuning: "), found.err
    assert all(line.startswith("  ") for line in more), found.err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    return found.err

  return call


@pytest.mark.parametrize(
  ("macros", "message"),
  [
    ({"TRAIN_FILE": "none.csv"}, "there is no file none.csv"),
    (
      {"TRAIN_FILE": "gs://no-such-bucket/a.csv"},
      "gs://no-such-bucket/a.csv cannot be read",
    ),
    ({"ANSWERS_COLUMN": 5}, "the answers column of own_words is 5"),
    ({"LABEL_WORDS": {"0": "bad", "1": "bad "}}, "expected another word for every value"),
    ({"TRAIN_FILE": "."}, ". is a folder"),
    ({"VALIDATION_FILE": __file__}, "has the suffix '.py'"),
    (
      {"INPUT_TEMPLATE": "{txt}"},
      "no column 'txt', expected one of its own: 'text', 'label'",
    ),
    ({"INPUT_TEMPLATE": "review"}, "the input template is 'review'"),
    ({"INPUT_TEMPLATE": "{text"}, "the input template is '{text'"),
    ({"INPUT_TEMPLATE": "{text.__class__}"}, "no column 'text.__class__'"),
    ({"TARGET_COLUMN": "labels"}, "no column 'labels', expected one of its own: 'label'"),
    ({"TARGET_COLUMN": 3}, "the target column of own_words is 3"),
    ({"LABEL_WORDS": {"0": "bad", "1": "bad"}}, "expected another word for every value"),
    ({"LABEL_WORDS": "positive"}, "expected two or more"),
    ({"METRICS": ["acuracy"]}, "unknown metric 'acuracy'; the nearest known: accuracy"),
    ({"METRICS": ["bleu"]}, "remove bleu"),
    ({"MIXTURE_OR_TASK_NAME": "tiny_words"}, "is that of another task"),
    ({"MIXTURE_OR_TASK_NAME": "my task"}, "the table's name is 'my task'"),
    ({"TRAIN_FILE": None}, "no rows for the split 'train', expected some; set TRAIN_FILE"),
    ({"VALIDATION_FILE": None}, "validation"),
  ],
)
def test_settings_that_cannot_be_used(refused, macros, message):
  assert message in refused(**macros)


CONTENTS = {
  "label": (
    b"text,label\na,0\nb,2\n",
    "row 3: its target 'label' is '2', none of '0', '1'",
  ),
  "cells": (b"text,label\na,0,x\n", "row 2: it has 3 cells, the header 2"),
  "empty": (b"text,label\n ,1\n", "row 2: its input is empty"),
  "no target": (b"text,label\nb,\n", "row 2: its target 'label' is empty"),
  "latin-1": (b"text,label\na,1\nsch\xf6n,1\n", "row 3: 'text' is not UTF-8"),
  "NUL": (b"text,label\na\0,1\n", "row 2: 'text' holds a NUL byte"),
  "quotes": (b'text,label\n"a,1\n', "row 2: its quotes do not match"),
  "twice": (b"text,text,label\na,b,1\n", "more than one column 'text'"),
  "no rows": (b"text,label\n", "has no rows"),
  "nothing": (b"", "has no rows"),
  "UTF-16": ("text,label\na,1\n".encode("utf-16"), "save it as UTF-8"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("macro", SPLITS)
def test_files_that_cannot_be_used(refused, tmp_path, macro, name):
  content, message = CONTENTS[name]
  (tmp_path / "bad.csv").write_bytes(content)
  found = refused(**{macro: str(tmp_path / "bad.csv")})
  assert message in found and str(tmp_path / "bad.csv") in found


def test_problems_of_all_files_are_named_at_once(refused, tmp_path):
  (tmp_path / "a.csv").write_text("text,label\na,0\nb,5\n")
  (tmp_path / "b.jsonl").write_text('{"text": "a", "label": true}\n{\n')
  found = refused(TRAIN_FILE=str(tmp_path / "a.csv"), TEST_FILE=str(tmp_path / "b.jsonl"))
  assert found.startswith("prompt-tuning: 3 rows of own_words cannot be used")
  assert "b.jsonl row 1: its target 'label' is 'True', none of" in found
  assert "b.jsonl row 2: it is no JSON" in found
