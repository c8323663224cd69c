"""Tasks of prompt recycling (Lester et al. 2022): several label words for one task.

  pr:imdb_v100_0_1_verbalizers_train, _test, _test_rc      rc: the label words are scored
  pr:imdb_v100_0_1_verbalizers, ..._verbalizers_eval       all of them, the last two
  pr:glue_sst2_v200_train ...  pr:glue_qqp_v200_..._verbalizers_training ...
  pr:super_glue_record_v102_training ...
  c4_v220_random_positive_negative_targets

The end of each training split is its "validation"; the benchmark's own is the "validation"
of the others.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from prompt_tuning.data import (
  c4_documents,
  candidates,
  glue_benchmark,
  metrics,
  objectives,
  postprocessors,
  preprocessors,
  ranking_metrics,
  super_glue_benchmark,
  variants,
)

Parts = Mapping[str, variants.Description]
IMDB = "imdb_reviews/plain_text:1.0.0"
IMDB_LABELS = (("0", "1"), ("negative", "positive"))
QQP_LABELS = (
  ("not_duplicate", "duplicate"),
  ("0", "1"),
  ("unique", "duplicate"),
  ("not duplicate", "duplicate"),
)
_TEST = ("validation",)


def sst2() -> Parts:
  """SST-2, generated and scored."""
  task = glue_benchmark.classification("sst2", "v200")
  test = variants.with_splits(task, _TEST)
  train = variants.with_splits(task, variants.held_out(1000))
  return {"train": train, "test": test, "test_rc": candidates.scored(test)}


def imdb(labels: tuple[str, ...]) -> Parts:
  """IMDB with some label words; those that differ in length are also normed."""
  task = variants.Description(
    source=variants.tfds(IMDB, variants.held_out(1000)),
    preprocessors=[
      functools.partial(preprocessors.labelled_text, field="text", labels=labels)
    ],
    postprocess=variants.labelled(labels),
    metrics=[metrics.accuracy],
    labels=labels,
  )
  test = variants.with_splits(task, {"validation": "test"})
  its_metrics = [candidates.ranked(labels)]
  if labels == ("0", "1"):
    normed = ranking_metrics.normed_rank_classification
    its_metrics.append(functools.partial(normed, num_classes=len(labels)))
  return {"train": task, "test": test, "test_rc": candidates.scored(test, its_metrics)}


def qqp(labels: tuple[str, ...]) -> Parts:
  """QQP with some label words."""
  task = glue_benchmark.classification("qqp", "v200", labels)
  test = variants.with_splits(task, _TEST)
  return {
    "training": variants.with_splits(task, variants.held_out(10_000)),
    "test": test,
    "rc": candidates.scored(test),
    "rc_normed": candidates.scored(test, [candidates.ranked(labels, normed=True)]),
  }


def record() -> Parts:
  """ReCoRD, generated, and scored with the entities of the passage as candidates."""
  task = super_glue_benchmark.record()
  test = variants.with_splits(task, _TEST)
  scored = dataclasses.replace(
    test,
    preprocessors=[candidates.record, candidates.as_rows],
    postprocess=postprocessors.rank_classification,
    metrics=[
      ranking_metrics.rank_classification,
      ranking_metrics.normed_rank_classification,
    ],
  )
  train = variants.with_splits(task, variants.held_out(10_000))
  return {"training": train, "test": test, "rc": scored}


def _add(name: str, parts: Parts, form: str) -> None:
  """Registers the parts, all of them as a mixture, and all but the training as one."""
  for part, task in parts.items():
    variants.register(f"{name}_{part}", task, form)
  names = [f"{name}_{part}" for part in parts]
  evaluated = [full for full in names if not full.endswith(("_train", "_training"))]
  variants.register_mixture(name, dict.fromkeys(names, 1.0))
  variants.register_mixture(f"{name}_eval", dict.fromkeys(evaluated, 1.0))


def _called(labels: Sequence[str]) -> str:
  """Label words as part of a name, "_spc_" for a space."""
  return "_".join(label.replace(" ", "_spc_") for label in labels)


_add("pr:glue_sst2_v200", sst2(), variants.TASKLESS)
_add("pr:super_glue_record_v102", record(), variants.TASKLESS)
for _labels in IMDB_LABELS:
  _add(f"pr:imdb_v100_{_called(_labels)}_verbalizers", imdb(_labels), variants.BASE)
for _labels in QQP_LABELS:
  _name = f"pr:glue_qqp_v200_{_called(_labels)}_verbalizers"
  _add(_name, qqp(_labels), variants.TASKLESS)
c4_documents.add(
  "c4_v220_random_positive_negative_targets",
  objectives.prefix_lm,
  functools.partial(preprocessors.random_targets, targets=("positive", "negative")),
)
