"""The floor: trees, files, summaries, logs."""

import os

import jax
import ml_dtypes
import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks, files, metrics_log, summary, trees


def test_a_fingerprint_survives_half_precision_and_nothing_else(tiny_t5):
  params = {path: np.asarray(x) for path, x in trees.values(tiny_t5).items()}
  half = {path: x.astype(ml_dtypes.bfloat16) for path, x in params.items()}
  base = trees.fingerprint(params)
  assert trees.fingerprint(half) == base
  assert trees.fingerprint(jax.tree.map(jax.numpy.asarray, params)) == base
  changed = {**params, "encoder/encoder_norm/scale": np.full(16, 1.1, np.float32)}
  assert trees.fingerprint(changed) != base
  del changed["encoder/encoder_norm/scale"]
  assert trees.fingerprint(changed) != base


def test_values_go_out_of_a_state_and_back(tiny_t5):
  from prompt_tuning.training.state import Split

  split = Split.of(tiny_t5)
  doubled = {path: 2 * x for path, x in trees.values(split.frozen).items()}
  again = trees.values(trees.with_values(split.frozen, doubled))
  np.testing.assert_array_equal(
    again["token_embedder/embedding"], doubled["token_embedder/embedding"]
  )


def test_atomic_writes_replace_whole_files_and_leave_nothing_else(tmp_path):
  target = epath.Path(tmp_path / "file")
  files.write_atomically(target, b"old")
  files.write_atomically(target, b"new")
  assert target.read_bytes() == b"new"
  assert os.listdir(tmp_path) == ["file"]


def test_package_paths_stay_in_the_package():
  assert files.path("package://assets").is_dir()
  with pytest.raises(checks.InputError, match="leaves the package"):
    files.path("package://../secrets")


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path):
  (tmp_path / "file").write_text("x")
  with pytest.raises(checks.InputError, match="MODEL_DIR"):
    files.output_folder(str(tmp_path / "file" / "run"), "MODEL_DIR")


def test_the_binomial_interval_is_wilson_s():
  low, high = summary.binomial_interval(70.0, 1000)
  assert (round(low, 1), round(high, 1)) == (67.1, 72.8)
  assert summary.binomial_interval(0.0, 0) == (0.0, 100.0)
  assert summary.binomial_interval(100.0, 10)[1] == pytest.approx(100.0)


def test_the_table_shows_what_is_missing_as_a_dash():
  text = summary.table([("a", {"accuracy": 50.0}), ("b", {"f1": 1.0})], 100)
  assert "50.0  [40.4, 59.6]" in text
  assert text.splitlines()[1].rstrip().endswith("-")


def test_resumed_logs_hold_each_step_once(tmp_path):
  folder = epath.Path(tmp_path)
  with metrics_log.MetricsLog(folder, 0) as log:
    for step in (10, 20, 30):
      log.write(step, {"loss": step / 10})
  with (folder / "metrics.jsonl").open("a") as sink:
    sink.write('{"step": 40, "lo')  # killed while writing
  with metrics_log.MetricsLog(folder, 20) as log:
    log.write(30, {"loss": 9.0})
  rows = metrics_log.read(folder / "metrics.jsonl")
  assert [row["step"] for row in rows] == [10, 20, 30]
  assert rows[-1]["loss"] == 9.0


def test_unknown_names_suggest_the_nearest_or_list_all():
  assert "the nearest known: boolq" in str(checks.unknown("task", "bolq", ["boolq", "rte"]))
  assert "known: boolq, rte" in str(checks.unknown("task", "zzz", ["boolq", "rte"]))
