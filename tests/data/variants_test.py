"""Variants of a task: their names, steps, sentinels and mixtures."""

import ast
import itertools
import pathlib

import pytest
import seqio
from benchmark_records import answered, examples, numbers, t5, texts

import prompt_tuning.data
from prompt_tuning.data import (
  glue,
  glue_transfer,
  preprocessors,
  super_glue,
  vocabularies,
)
from prompt_tuning.data import variants as lib

DATA = pathlib.Path(prompt_tuning.data.__file__).parent
FAMILIES = {
  *("glue", "super_glue", "glue_transfer", "qa", "summarization", "c4"),
  *("spot", "perceptron", "recycling", "movie_reviews"),
}
INDEX = {  # after task_index_: the number of the sentinel, and a split
  "glue_cola_v200": (0, "train"),
  "glue_mnli_v200": (1, "train"),
  "glue_mnli_matched_v200": (1, "validation"),
  "glue_mnli_mismatched_v200": (1, "validation"),
  "glue_ax_v200": (1, "test"),
  "glue_mrpc_v200": (2, "train"),
  "glue_qnli_v200": (3, "train"),
  "glue_qqp_v200": (4, "train"),
  "glue_rte_v200": (5, "train"),
  "glue_sst2_v200": (6, "train"),
  "glue_stsb_v200": (7, "train"),
  "glue_wnli_v200": (8, "train"),
  "glue_mrpc_from_qqp_v002": (2, "validation"),
  "glue_qqp_from_mrpc_v002": (4, "validation"),
  "super_glue_boolq_v102": (0, "train"),
  "super_glue_cb_v102": (1, "train"),
  "super_glue_copa_v102": (2, "train"),
  "super_glue_multirc_v102": (3, "train"),
  "super_glue_record_v102": (4, "train"),
  "super_glue_rte_v102": (5, "train"),
  "super_glue_axb_v102": (5, "test"),
  "super_glue_axg_v102": (5, "test"),
  "super_glue_wic_v102": (6, "train"),
  "super_glue_wsc_v102_simple_train": (7, "train"),
  "super_glue_wsc_v102_simple_eval": (7, "validation"),
  "dpr_v001_simple": (7, "train"),
}
VARIANTS = list(itertools.product(lib.PREFIXES, lib.FORMS, lib.SUFFIXES))


@pytest.mark.parametrize(("name", "found"), INDEX.items())
def test_the_sentinel_of_a_task_stands_before_its_taskless_tokens(fixtures, name, found):
  number, split = found
  vocabulary = t5(fixtures)
  rows = examples(f"task_index_{name}", split, vocabulary)
  bare = texts(f"taskless_{name}", split)
  assert rows and len(rows) == len(bare)
  for row, (inputs, targets) in zip(rows, bare, strict=True):
    tokens = vocabulary.load().encode(inputs)
    assert row["inputs"].tolist() == [32099 - number, *tokens, 1]
    assert row["inputs_pretokenized"].decode() == inputs
    assert row["targets_pretokenized"].decode() == targets
    assert row["targets"].tolist() == [*vocabulary.load().encode(targets), 1]


@pytest.mark.parametrize("name", ["glue_qqp_v002", *INDEX])
def test_every_variant_has_its_name(name):
  for prefix, form, suffix in VARIANTS:
    task = seqio.TaskRegistry.get(f"{prefix}{form}{name}{suffix}")
    steps = [getattr(step, "func", step) for step in task.preprocessors]
    place = steps.index(seqio.preprocessors.tokenize)
    sentinel = preprocessors.add_sentinel_to_beginning
    cache = [isinstance(step, seqio.CacheDatasetPlaceholder) for step in steps].index(True)
    assert (preprocessors.remove_first_text_token in steps[:place]) == (form != "")
    assert (
      (sentinel in steps[place:cache]) == (sentinel in steps) == (form == "task_index_")
    )
    assert steps[cache + 1 :] == [seqio.preprocessors.append_eos_after_trim]


def test_a_name_s_prefix_is_the_vocabulary_where_a_run_sets_none():
  (row,) = examples("byt5_task_index_glue_rte_v200", "validation", vocabulary=None)
  text = b"sentence1: Ann met Bo in Rome. sentence2: Bo was in Rome."
  sentinel = 256 + 3 - 1 - 5  # the id of a byte that UTF-8 never has
  assert row["inputs"].tolist() == [sentinel, *(byte + 3 for byte in text), 1]
  assert row["targets"].tolist() == [*(byte + 3 for byte in b"entailment"), 1]
  features = seqio.TaskRegistry.get("mt5_glue_rte_v200").output_features
  assert str(features["inputs"].vocabulary) == f"the vocabulary {vocabularies.MT5_PATH}"


def test_a_name_that_exists_is_left_as_it_is():
  before = seqio.TaskRegistry.get("taskless_glue_cola_v200")
  lib.add("glue_cola_v200", glue.benchmark.stsb("v200"))
  lib.register_mixture("glue_mnli_and_dev_v200", {"glue_cola_v200": 1.0})
  assert seqio.TaskRegistry.get("taskless_glue_cola_v200") is before
  assert len(seqio.MixtureRegistry.get("glue_mnli_and_dev_v200").tasks) == 3


def test_examples_come_as_dicts_and_targets_as_they_are():
  (row,) = examples("taskless_glue_sst2_v200_examples", "validation")
  task = seqio.TaskRegistry.get("taskless_glue_sst2_v200_examples")
  assert task.postprocess_fn("positive", example=row, is_target=True) == 1
  assert task.postprocess_fn("great", example=row, is_target=False) == {
    "prediction": -1,
    "prediction_pretokenized": "great",
    "inputs_pretokenized": "sentence: it 's charming",
    "targets_pretokenized": "positive",
  }


@pytest.mark.parametrize("form", ["", "taskless_", "task_index_"])
def test_dpr_shows_examples_of_answers_left_as_they_are(form):
  name = f"{form}dpr_v001_simple_examples"
  rows = examples(name, "test")
  found = seqio.TaskRegistry.get(name).postprocess_fn("Eve", example=rows[0])
  assert found["prediction"] == found["prediction_pretokenized"] == "Eve"
  scored = answered(name, rows, ["Eve", "lid"])
  assert numbers(scored) == {"accuracy": 100.0}
  assert scored.keys() == {"accuracy", f"{name} samples"}


def test_other_splits_of_the_same_task():
  task = glue.benchmark.classification("qqp", "v200")
  held = lib.with_splits(task, lib.held_out(5000))
  assert held.source.tfds_dataset.name == "glue/qqp:2.0.0"
  assert held.source.tfds_dataset._split_map == {
    "train": "train[:-5000]",
    "validation": "train[-5000:]",
  }
  assert (held.labels, held.index) == (("not_duplicate", "duplicate"), 4)


def rates(name):
  mixture = seqio.MixtureRegistry.get(name)
  return {task.name: mixture.get_rate(task) for task in mixture.tasks}


def of_form(form, sizes, suffix=""):
  return {f"{form}{name}{suffix}": size for name, size in sizes.items()}


SUPER_GLUE = {
  "super_glue_wsc_v102_simple_train": 259,
  "super_glue_wsc_v102_simple_eval": 0,
  "super_glue_boolq_v102": 9427,
  "super_glue_cb_v102": 250,
  "super_glue_copa_v102": 400,
  "super_glue_multirc_v102": 27243,
  "super_glue_record_v102": 138854,
  "super_glue_rte_v102": 2490,
  "super_glue_wic_v102": 5428,
}
DPR = {"dpr_v001_simple": 1322}


def test_super_glue_is_mixed_by_the_size_of_the_training_sets():
  form, suffix = "task_index_", "_examples"
  plain = f"{form}super_glue_v102{suffix}_proportional"
  with_dpr = f"{form}super_glue_with_dpr_v102{suffix}_proportional"
  assert rates(plain) == of_form(form, SUPER_GLUE, suffix)
  assert rates(with_dpr) == of_form(form, {**SUPER_GLUE, **DPR}, suffix)
  none_to_train = {"super_glue_axb_v102": 0, "super_glue_axg_v102": 0}
  assert rates("super_glue_v102_proportional") == {**SUPER_GLUE, **DPR, **none_to_train}


@pytest.mark.parametrize("suffix", ["", "_examples"])
@pytest.mark.parametrize("form", ["", "taskless_", "task_index_"])
def test_wsc_is_trained_on_one_part_and_evaluated_on_both(form, suffix):
  parts = {f"super_glue_wsc_v102_simple_{part}": 1.0 for part in ("train", "eval")}
  name = f"super_glue_wsc_and_dev_v102_simple{suffix}"
  for prefix in ("", "mt5_", "byt5_"):
    assert rates(f"{prefix}{form}{name}") == of_form(prefix + form, parts, suffix)


@pytest.mark.parametrize("form", ["", "taskless_", "task_index_"])
@pytest.mark.parametrize("version", ["v002", "v200"])
def test_mnli_is_evaluated_on_tasks_of_the_same_form(form, version):
  parts = {f"glue_mnli{part}_{version}": 1.0 for part in ("", "_matched", "_mismatched")}
  for prefix, suffix in (("", "_examples"), ("mt5_", ""), ("byt5_", "")):
    name = f"{prefix}{form}glue_mnli_and_dev_{version}{suffix}"
    assert rates(name) == of_form(prefix + form, parts, suffix)


@pytest.mark.parametrize("form", ["", "taskless_"])
def test_glue_is_mixed_by_the_size_of_the_training_sets(form):
  sizes = {
    "glue_cola_v002": 8551,
    "glue_sst2_v002": 67349,
    "glue_mrpc_v002": 3668,
    "glue_qqp_v002": 363849,
    "glue_stsb_v002": 5749,
    "glue_mnli_v002": 392702,
    "glue_qnli_v002": 104743,
    "glue_rte_v002": 2490,
    "glue_mnli_mismatched_v002": 0,
    "glue_mnli_matched_v002": 0,
    "glue_ax_v002": 0,
    "glue_wnli_v002": 0,  # evaluated here; T5 leaves it out
  }
  assert rates(f"{form}glue_v002_proportional") == of_form(form, sizes)


def imported(module):
  """Modules of the data room that a file imports anywhere."""
  found = set()
  for node in ast.walk(ast.parse((DATA / f"{module}.py").read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name.rpartition(".")[2] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      found |= {node.module.rpartition(".")[2], *(alias.name for alias in node.names)}
  return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_imports_no_other_family(family):
  assert not imported(family) & (FAMILIES | {"tasks"})


def test_one_module_imports_every_family():
  assert imported("tasks") >= FAMILIES
  assert {glue, glue_transfer, super_glue} <= {
    module for name, module in vars(prompt_tuning.data).items() if name in FAMILIES
  }
