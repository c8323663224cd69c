"""SuperGLUE (Wang et al. 2019) and DPR: what their tasks are, and how they become text."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from prompt_tuning.data import (
  coreference,
  metrics,
  postprocessors,
  preprocessors,
  reading,
  text_metrics,
  variants,
)

VERSION = "v102"
_TRAINED = ("train", "validation", "test")
_YES_NO = ("False", "True")
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("hypothesis", "premise")
_CB_F1: metrics.Metric = functools.partial(metrics.mean_multiclass_f1, num_classes=3)
_MULTIRC: list[metrics.Metric] = [
  functools.partial(metrics.values_only, metric=metrics.f1),
  metrics.exact_match_by_group,
]

Row = tuple[tuple[str, ...], tuple[str, ...], list[metrics.Metric]]

# config -> fields in their order, label words in class order, metrics
CLASSIFICATION: dict[str, Row] = {
  "boolq": (("passage", "question"), _YES_NO, [metrics.accuracy]),
  "cb": (_NLI, ("entailment", "contradiction", "neutral"), [_CB_F1, metrics.accuracy]),
  "copa": (
    ("choice1", "choice2", "premise", "question"),
    ("choice1", "choice2"),
    [metrics.accuracy],
  ),
  "multirc": (("question", "answer", "paragraph"), _YES_NO, _MULTIRC),
  "rte": (_NLI, _ENTAILMENT, [metrics.accuracy]),
  "wic": (("sentence1", "sentence2", "word"), _YES_NO, [metrics.accuracy]),
  "axb": (("sentence2", "sentence1"), _ENTAILMENT, []),
  "axg": (_NLI, _ENTAILMENT, []),
}
_TITLES = {"axb": {"sentence1": "premise", "sentence2": "hypothesis"}}
_SPLITS = {"axb": ("test",), "axg": ("test",)}
_CALLED = {"axb": "rte", "axg": "rte"}
INDEX = {
  name: number
  for number, name in enumerate(
    ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
  )
}
RATES = {  # training examples; the WSC records of both labels are evaluated only
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
DIAGNOSTICS = {"super_glue_axb_v102": 0, "super_glue_axg_v102": 0}


def classification(config: str) -> variants.Description:
  """A task of `CLASSIFICATION`."""
  fields, labels, its_metrics = CLASSIFICATION[config]
  called = _CALLED.get(config, config)
  text = functools.partial(
    preprocessors.classification,
    name=called,
    fields=fields,
    labels=labels,
    titles=_TITLES.get(config),
  )
  multirc = config == "multirc"
  return variants.Description(
    source=source(config, _SPLITS.get(config, _TRAINED)),
    preprocessors=[text, preprocessors.without_markup] if multirc else [text],
    postprocess=postprocessors.multirc if multirc else variants.labelled(labels),
    metrics=[metrics.labelled_only(metric) for metric in its_metrics],
    labels=labels,
    index=INDEX[called],
  )


def record() -> variants.Description:
  """Queries with a gap, of which any right answer counts."""
  squad_per_query = functools.partial(metrics.first_of_group, metric=text_metrics.squad)
  return variants.Description(
    source=source("record", _TRAINED),
    preprocessors=[reading.record],
    postprocess=postprocessors.record,
    metrics=[metrics.labelled_only(squad_per_query)],
    index=INDEX["record"],
  )


def wsc_train() -> variants.Description:
  """Schemas whose noun is the right one."""
  right = functools.partial(coreference.wsc_simple, correct_referent_only=True)
  return _schemas(right, ("train",))


def wsc_eval() -> variants.Description:
  """All schemas; an answer that means the noun says that it is the right one."""
  return _schemas(
    coreference.wsc_simple,
    ("validation", "test"),
    postprocess=coreference.wsc_matches,
    metrics=[metrics.labelled_only(metrics.accuracy)],
  )


def _schemas(text: Callable, splits: Sequence[str], **others: Any) -> variants.Description:
  return variants.Description(
    source=source("wsc.fixed", splits),
    preprocessors=[text],
    index=INDEX["wsc"],
    **others,
  )


def dpr() -> variants.Description:
  """Schemas of DPR, answered with one of two nouns."""
  return variants.Description(
    source=variants.tfds("definite_pronoun_resolution:1.1.0", ("train", "test")),
    preprocessors=[coreference.dpr_simple],
    metrics=[metrics.accuracy],
    index=INDEX["wsc"],
  )


def source(config: str, splits: Sequence[str]) -> Any:
  """The records of a config."""
  return variants.tfds(f"super_glue/{config}:1.0.2", splits)
