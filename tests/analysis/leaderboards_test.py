"""The scores of the benchmarks by their own rule, worked out by hand."""

import pytest

from prompt_tuning.analysis.leaderboards import standings

SUPER_GLUE = {  # config -> metrics, and what the task scores
  "boolq": ({"accuracy": 80.0}, 80.0),
  "cb": ({"mean_3class_f1": 70.0, "accuracy": 90.0}, 80.0),
  "copa": ({"accuracy": 60.0}, 60.0),
  "multirc": ({"f1": 70.0, "exact_match": 30.0}, 50.0),
  "record": ({"em": 71.0, "f1": 73.0}, 72.0),
  "rte": ({"accuracy": 66.0}, 66.0),
  "wic": ({"accuracy": 58.0}, 58.0),
  "wsc.fixed": ({"accuracy": 64.0}, 64.0),
}
GLUE = {
  "cola": ({"matthews_corrcoef": 50.0}, None),
  "sst2": ({"accuracy": 95.0}, None),
  "mrpc": ({"f1": 90.0, "accuracy": 86.0}, None),
  "stsb": ({"pearson_corrcoef": 89.0, "spearman_corrcoef": 91.0}, None),
  "qqp": ({"f1": 88.0, "accuracy": 92.0}, None),
  "mnli_matched": ({"accuracy": 84.0}, None),
  "mnli_mismatched": ({"accuracy": 86.0}, None),
  "qnli": ({"accuracy": 93.0}, None),
  "rte": ({"accuracy": 75.0}, None),
  "wnli": ({"accuracy": 56.0}, None),
}


def evaluated(benchmark, table):
  metrics = {f"a_{config}_task": found for config, (found, _) in table.items()}
  datasets = {f"a_{config}_task": f"{benchmark}/{config}:9.9.9" for config in table}
  return metrics, datasets


def test_super_glue_is_the_mean_over_eight_tasks():
  found = standings(*evaluated("super_glue", SUPER_GLUE))
  assert list(found) == ["SuperGLUE"]
  assert list(found["SuperGLUE"].tasks.values()) == [
    score for _, score in SUPER_GLUE.values()
  ]
  # (80 + 80 + 60 + 50 + 72 + 66 + 58 + 64) / 8
  assert found["SuperGLUE"].score == pytest.approx(66.25)
  assert found["SuperGLUE"].missing == []


def test_glue_counts_the_two_sets_of_mnli_once():
  found = standings(*evaluated("glue", GLUE))["GLUE"]
  assert found.tasks["MNLI"] == pytest.approx(85.0)
  # (50 + 95 + 88 + 90 + 90 + 85 + 93 + 75 + 56) / 9
  assert found.score == pytest.approx(722 / 9)


def test_a_part_of_a_benchmark_has_no_score():
  metrics, datasets = evaluated("super_glue", SUPER_GLUE)
  del metrics["a_record_task"], metrics["a_cb_task"]
  found = standings(metrics, datasets)["SuperGLUE"]
  assert (found.score, found.missing) == (None, ["CB", "ReCoRD"])


def test_half_of_mnli_is_no_task():
  metrics, datasets = evaluated("glue", GLUE)
  del metrics["a_mnli_mismatched_task"]
  assert standings(metrics, datasets)["GLUE"].missing == ["MNLI"]


def test_diagnostics_other_data_and_other_metrics_do_not_count():
  metrics, datasets = evaluated("super_glue", SUPER_GLUE)
  more = {"an_axb_task": {"accuracy": 1.0}, "my_own": {"accuracy": 2.0}}
  known = {**datasets, "an_axb_task": "super_glue/axb:1.0.2", "my_own": None}
  assert standings({**metrics, **more}, known) == standings(metrics, datasets)
  metrics["a_copa_task"] = {"auc-roc": 99.0}
  assert standings(metrics, datasets)["SuperGLUE"].missing == ["COPA"]


def test_a_single_task_is_no_benchmark():
  assert standings({"x": {"accuracy": 1.0}}, {"x": "glue/sst2:2.0.0"}) == {}
