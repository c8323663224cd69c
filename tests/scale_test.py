"""The comparison by size: means and spreads of real runs, not repeated once finished."""

import json
import statistics
import xml.etree.ElementTree

import jax
import pytest
from etils import epath

from prompt_tuning import config, scale, trees
from prompt_tuning.checkpoints import t5x
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5

BINDINGS = [
  "TRAIN_STEPS_RELATIVE = 1",
  "EVAL_PERIOD = 1",
  "BATCH_SIZE = 8",
  "TASK_FEATURE_LENGTHS = {'inputs': 12, 'targets': 4}",
]


@pytest.mark.slow
def test_a_rung_is_run_once_and_summed_up(tmp_path):
  files = ("models/t5_1_1_reviews.gin", "models/sizes/reviews_300k.gin")
  shape = config.query("MODEL", files)
  assert isinstance(shape, T5Config)
  t5x.save(epath.Path(tmp_path), trees.values(T5.random(shape, jax.random.key(0))), 7)
  rungs = [scale.Rung("one", "300k", str(tmp_path))]
  out = tmp_path / "out"

  (row,) = scale.scale(out, rungs, 2, BINDINGS)
  summaries = {}
  for method in scale.EXPERIMENTS:
    paths = [out / "one" / method / f"seed_{seed}" / "summary.json" for seed in (0, 1)]
    summaries |= {path: path.read_text() for path in paths}
    values = [
      json.loads(path.read_text())["tasks"]["movie_reviews_sentiment"][method]["accuracy"]
      for path in paths
    ]
    assert row[method]["values"] == values
    assert row[method]["mean"] == statistics.fmean(values)
    assert row[method]["spread"] == pytest.approx(statistics.stdev(values))
  assert row["parameters"] == 287_072 and row["examples"] == 1000
  assert row["majority"] == pytest.approx(51.8)
  assert json.loads((out / "scale.json").read_text()) == [row]
  assert (
    f"| one | 287,072 | 51.8 | {row['untuned']:.1f} |" in (out / "scale.md").read_text()
  )

  marks = {path: path.stat().st_mtime_ns for path in summaries}
  assert scale.scale(out, rungs, 2, BINDINGS) == [row]
  assert {path: path.stat().st_mtime_ns for path in summaries} == marks
  root = xml.etree.ElementTree.parse(out / "scale.svg").getroot()
  assert root.tag.endswith("svg")
