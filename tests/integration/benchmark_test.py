"""Evaluation on whole benchmarks: every task, the official score, what is handed in."""

import json
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent.parent / "data"))
import benchmark_records

SUPER_GLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc.fixed")
DIAGNOSTICS = ("axb", "axg")
GLUE = (
  *("cola", "sst2", "mrpc", "stsb", "qqp", "mnli_matched", "mnli_mismatched"),
  *("qnli", "rte", "wnli"),
)


@pytest.fixture(scope="module")
def data_dir():
  """Handwritten records of both benchmarks as TFDS keeps them."""
  names = [f"super_glue/{config}:1.0.2" for config in (*SUPER_GLUE, *DIAGNOSTICS)]
  names += [f"glue/{config}:2.0.0" for config in (*GLUE, "mnli", "ax")]
  return benchmark_records.prepared(*names, "definite_pronoun_resolution:1.1.0")


@pytest.fixture
def evaluated(trained, run, command, tmp_path, data_dir):
  """Evaluates the trained prompt on a mixture and reads its results."""

  def evaluate(mixture: str, split: str, **macros: object) -> tuple[dict, str]:
    out = tmp_path / "eval"
    given = {
      "MIXTURE_OR_TASK_NAME": mixture,
      "MIXTURE_OR_TASK_MODULE": None,
      "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 16},
      "LABELS": "task",
      "PROMPT_FILE": str(trained.folder / "prompt.safetensors"),
      "utils.DatasetConfig.split": split,
      **macros,
    }
    found = run([*command("eval", out, **given), f"--tfds_data_dir={data_dir}"])
    assert found.status == 0, found.err
    (one,) = json.loads((out / "results.json").read_text())["prompts"]
    return one, found.out + found.err

  return evaluate


def test_super_glue_has_a_table_a_score_and_files(evaluated, tmp_path):
  one, table = evaluated("taskless_super_glue_v102_proportional", "validation")
  assert len(one["tasks"]) == 8
  found = one["benchmarks"]["SuperGLUE"]
  assert found["missing"] == [] and len(found["tasks"]) == 8
  assert found["score"] == pytest.approx(sum(found["tasks"].values()) / 8)
  multirc = one["tasks"]["taskless_super_glue_multirc_v102"]
  expected = (multirc["f1"] + multirc["exact_match"]) / 2
  assert found["tasks"]["MultiRC"] == pytest.approx(expected)
  for task in one["tasks"]:
    assert task in table
  assert f"score {found['score']:.2f}, the mean of 8 tasks" in table
  written = {pathlib.Path(path).name for path in one["submission"]}
  assert written == {
    *("BoolQ.jsonl", "CB.jsonl", "COPA.jsonl", "MultiRC.jsonl", "ReCoRD.jsonl"),
    *("RTE.jsonl", "WiC.jsonl", "WSC.jsonl"),
  }
  assert all(path in table for path in one["submission"])
  assert "<!-- SuperGLUE -->" in (tmp_path / "eval" / "results.svg").read_text()


def test_rank_classification_answers_every_task_in_its_own_words(evaluated):
  one, _ = evaluated("taskless_super_glue_v102_proportional", "validation")
  files = {pathlib.Path(path).name: path for path in one["submission"]}
  for name, labels in (
    ("BoolQ.jsonl", {"true", "false"}),
    ("CB.jsonl", {"entailment", "contradiction", "neutral"}),
    ("COPA.jsonl", {0, 1}),
  ):
    rows = [json.loads(row) for row in pathlib.Path(files[name]).read_text().splitlines()]
    config = {"BoolQ": "boolq", "CB": "cb", "COPA": "copa"}[name.partition(".")[0]]
    records = benchmark_records.SUPER_GLUE[config]["validation"]
    assert [row["idx"] for row in rows] == [record["idx"] for record in records]
    assert {row["label"] for row in rows} <= labels


def test_test_sets_have_no_score_but_are_handed_in(evaluated):
  one, table = evaluated("taskless_super_glue_v102_proportional", "test")
  assert not any(one["tasks"].values())
  assert one["benchmarks"] == {}
  assert "no labels to compare with" in table
  written = {pathlib.Path(path).name for path in one["submission"]}
  assert {"AX-b.jsonl", "AX-g.jsonl", "BoolQ.jsonl", "ReCoRD.jsonl"} <= written
  assert len(written) == 10


def test_glue_has_a_score_and_tables(evaluated):
  one, _ = evaluated("glue_v200_examples_proportional", "validation")
  found = one["benchmarks"]["GLUE"]
  assert found["missing"] == [] and len(found["tasks"]) == 9
  parts = [
    one["tasks"][f"glue_mnli_{part}_v200_examples"]["accuracy"]
    for part in ("matched", "mismatched")
  ]
  assert found["tasks"]["MNLI"] == pytest.approx(sum(parts) / 2)
  assert len(one["submission"]) == 10


def test_generated_answers_that_are_no_label_words_are_counted(evaluated):
  decoded = {"decoding.Prediction.labels": None, "decoding.Prediction.max_len": 4}
  one, text = evaluated("taskless_super_glue_cb_v102", "validation", **decoded)
  assert one["tasks"]["taskless_super_glue_cb_v102"]["accuracy"] == 0.0
  count = len(benchmark_records.SUPER_GLUE["cb"]["validation"])
  assert f"{count} of {count} answers are none of the label words" in text
  assert one["benchmarks"] == {}


def test_every_task_of_a_mixture_is_applied_and_written(
  trained, run, command, tmp_path, data_dir
):
  given = {
    "MIXTURE_OR_TASK_NAME": "taskless_super_glue_v102_proportional",
    "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 16},
    "LABELS": "task",
    "PROMPT_FILE": str(trained.folder / "prompt.safetensors"),
    "utils.DatasetConfig.split": "validation",
  }
  found = run([*command("infer", tmp_path / "i", **given), f"--tfds_data_dir={data_dir}"])
  assert found.status == 0, found.err
  paths = [pathlib.Path(line) for line in found.out.splitlines()]
  assert len(paths) == 8 and all(path.exists() for path in paths)
  (cb,) = [path for path in paths if "_cb_" in path.name]
  rows = [json.loads(line) for line in cb.read_text().splitlines()]
  assert len(rows) == len(benchmark_records.SUPER_GLUE["cb"]["validation"])
  assert all("hypothesis: " in row["inputs"]["inputs_pretokenized"] for row in rows)
  assert {r["prediction"] for r in rows} <= {"entailment", "contradiction", "neutral"}


def test_candidates_of_an_example_are_ranked_as_label_words_are(evaluated):
  pairs, together = "taskless_super_glue_cb_v102", "super_glue_cb_v102_perceptron_test"
  lengths = {"inputs": 64, "targets": 16, "is_correct": 3}
  words, _ = evaluated(pairs, "validation")
  given, _ = evaluated(together, "validation", TASK_FEATURE_LENGTHS=lengths)
  assert given["tasks"][together] == words["tasks"][pairs]


def test_an_ensemble_refuses_candidates_with_a_way_out(
  prompts, run, command, tmp_path, data_dir
):
  given = {
    "MIXTURE_OR_TASK_NAME": "super_glue_cb_v102_perceptron_test",
    "MIXTURE_OR_TASK_MODULE": None,
    "TASK_FEATURE_LENGTHS": None,
    "PROMPT_FILES": list(prompts.values()),
    "utils.DatasetConfig.split": "validation",
  }
  arguments = command("ensemble", tmp_path / "e", **given)
  found = run([*arguments, f"--tfds_data_dir={data_dir}"])
  assert found.status == 2 and "_generation" in found.err, found.err
