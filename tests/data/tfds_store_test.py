"""Data that are here, data that are not, and what is said then."""

import benchmark_records
import pytest
import seqio

from prompt_tuning import checks
from prompt_tuning.data import (
  folders,
  registry,
  tasks,  # noqa: F401
  tfds_store,
  vocabularies,
)
from prompt_tuning.data.dataset_config import DatasetConfig


@pytest.fixture
def here():
  benchmark_records.prepared("glue/cola:1.0.0", "glue/cola:2.0.0")


@pytest.fixture
def nothing(tmp_path, monkeypatch):
  """A folder without data, on a machine whose proxies and names resolve nothing."""
  for name in ("http_proxy", "https_proxy", "all_proxy"):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)
  # A name that never resolves (RFC 2606) stands for every name of a machine offline.
  monkeypatch.setattr(tfds_store, "_HOST", "no-such-host.invalid")
  folders.use(str(tmp_path), [])
  return tmp_path


@pytest.mark.parametrize("version", ["v002", "v200"])
def test_what_is_here_is_used_whatever_its_version(here, version):
  task = seqio.TaskRegistry.get(f"taskless_glue_cola_{version}")
  tfds_store.ensure(task)
  found = {split: len(rows) for split, rows in benchmark_records.GLUE["cola"].items()}
  assert tfds_store.counts(task) == found


def test_a_missing_dataset_ends_in_one_sentence_that_says_how_to_get_it(nothing):
  task = seqio.TaskRegistry.get("mt5_glue_wnli_v200_examples")
  assert tfds_store.counts(task) is None
  with pytest.raises(checks.InputError) as error:
    tfds_store.ensure(task)
  text = str(error.value)
  for part in (
    "glue/wnli:2.0.0",
    task.name,
    "offline",
    "prompt-tuning tasks",
    str(nothing),
  ):
    assert part in text
  assert "\n" not in text


def test_a_version_that_tfds_has_given_up_is_named(nothing, monkeypatch):
  monkeypatch.setattr(tfds_store, "_HOST", "localhost")  # as if there were a network
  task = seqio.TaskRegistry.get("mt5_glue_wnli_v002_examples")
  with pytest.raises(checks.InputError, match=r"glue/wnli:1\.0\.0.*too old"):
    tfds_store.ensure(task)


def test_a_run_is_refused_before_it_loads_anything_else(nothing):
  config = DatasetConfig(
    mixture_or_task_name="mt5_glue_rte_v200",
    task_feature_lengths=None,
    split="validation",
    batch_size=1,
  )
  with pytest.raises(checks.InputError, match=r"glue/rte:2\.0\.0 of mt5_glue_rte_v200"):
    registry.find(config, vocabularies.EMBEDDED)
  vocabularies.use(None)


def test_another_folder_is_read_by_tasks_that_have_read_one(here, tmp_path):
  task = seqio.TaskRegistry.get("byt5_taskless_glue_cola_v200")
  assert next(iter(task.get_dataset(None, "train", shuffle=False))) is not None
  folders.use(str(tmp_path), [])
  assert tfds_store.counts(task) is None


def test_without_a_folder_the_usual_one_is_read_again(here):
  task = seqio.TaskRegistry.get("taskless_glue_cola_v200")
  assert tfds_store.counts(task) is not None
  folders.use(None, [])
  assert task.source.tfds_dataset.data_dir is None


def test_tasks_without_tfds_need_nothing(numbers):
  assert tfds_store.dataset_name(numbers) is None
  assert tfds_store.counts(numbers) == {}
  tfds_store.ensure(numbers)
