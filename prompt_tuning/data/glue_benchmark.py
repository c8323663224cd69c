"""GLUE (Wang et al. 2018): what its tasks are, and how they become text."""

import functools
from typing import Any

from prompt_tuning.data import metrics, postprocessors, preprocessors, variants

VERSIONS = {"v002": "1.0.0", "v200": "2.0.0"}  # in names -> of TFDS
_TRAINED = ("train", "validation", "test")
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_PAIR = ("sentence1", "sentence2")

Row = tuple[tuple[str, ...], tuple[str, ...], list[metrics.Metric]]

# config -> fields in their order, label words in class order, metrics
CLASSIFICATION: dict[str, Row] = {
  "cola": (("sentence",), ("unacceptable", "acceptable"), [metrics.matthews_corrcoef]),
  "sst2": (("sentence",), ("negative", "positive"), [metrics.accuracy]),
  "mrpc": (_PAIR, ("not_equivalent", "equivalent"), [metrics.f1, metrics.accuracy]),
  "qqp": (
    ("question1", "question2"),
    ("not_duplicate", "duplicate"),
    [metrics.f1, metrics.accuracy],
  ),
  "mnli": (("hypothesis", "premise"), _NLI, [metrics.accuracy]),
  "mnli_matched": (("hypothesis", "premise"), _NLI, [metrics.accuracy]),
  "mnli_mismatched": (("hypothesis", "premise"), _NLI, [metrics.accuracy]),
  "qnli": (("question", "sentence"), _ENTAILMENT, [metrics.accuracy]),
  "rte": (_PAIR, _ENTAILMENT, [metrics.accuracy]),
  "wnli": (_PAIR, ("not_entailment", "entailment"), [metrics.accuracy]),
  "ax": (("hypothesis", "premise"), _NLI, []),
}
_SPLITS = {
  "mnli": (
    "train",
    "validation_matched",
    "validation_mismatched",
    "test_matched",
    "test_mismatched",
  ),
  "mnli_matched": ("validation", "test"),
  "mnli_mismatched": ("validation", "test"),
  "ax": ("test",),
}
_CALLED = {"mnli_matched": "mnli", "mnli_mismatched": "mnli", "ax": "mnli"}
INDEX = {
  name: number
  for number, name in enumerate(
    ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
  )
}
RATES = {  # training examples; WNLI and what has none are evaluated only
  "cola": 8551,
  "sst2": 67349,
  "mrpc": 3668,
  "qqp": 363849,
  "stsb": 5749,
  "mnli": 392702,
  "qnli": 104743,
  "rte": 2490,
  "mnli_mismatched": 0,
  "mnli_matched": 0,
  "ax": 0,
  "wnli": 0,
}
MNLI_AND_DEV = ("mnli", "mnli_mismatched", "mnli_matched")


def classification(
  config: str, version: str, labels: tuple[str, ...] | None = None
) -> variants.Description:
  """A task of `CLASSIFICATION`, perhaps with other label words."""
  fields, its_labels, its_metrics = CLASSIFICATION[config]
  labels = labels or its_labels
  called = _CALLED.get(config, config)
  text = functools.partial(
    preprocessors.classification, name=called, fields=fields, labels=labels
  )
  return variants.Description(
    source=source(config, version),
    preprocessors=[text],
    postprocess=variants.labelled(labels),
    metrics=[metrics.labelled_only(metric) for metric in its_metrics],
    labels=labels,
    index=INDEX[called],
  )


def stsb(version: str) -> variants.Description:
  """How similar two sentences are, a number."""
  return variants.Description(
    source=source("stsb", version),
    preprocessors=[preprocessors.stsb],
    postprocess=postprocessors.string_to_float,
    metrics=[
      metrics.labelled_only(metrics.pearson_corrcoef),
      metrics.labelled_only(metrics.spearman_corrcoef),
    ],
    index=INDEX["stsb"],
  )


def source(config: str, version: str) -> Any:
  """The records of a config; `version` as in names."""
  name = f"glue/{config}:{VERSIONS[version]}"
  return variants.tfds(name, _SPLITS.get(config, _TRAINED))
