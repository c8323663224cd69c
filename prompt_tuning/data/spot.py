"""Source tasks of SPoT (Vu et al. 2022), each with its name in front.

spot_glue_cola_v200 ...  spot_glue_mnli_and_dev_v200
spot_mrqa_squad_v100 ...       "squad question: Q context: C"
spot_anli_r1_v010 ...          "anli_r1 hypothesis: H context: X"
spot_aeslc_v100 ...            "aeslc summarize: TEXT"
"""

import dataclasses
import functools
from collections.abc import Sequence

from prompt_tuning.data import (
  glue_benchmark,
  metrics,
  preprocessors,
  question_answering,
  reading,
  summaries,
  variants,
)

GLUE_VERSION = "v200"
GLUE = ("cola", "sst2", "mrpc", "qqp", "qnli", "rte", "wnli")
MNLI_VALIDATION = ("validation_matched", "validation_mismatched")
MRQA = ("squad", *question_answering.IN_DOMAIN)
SUMMARIES = {  # name -> TFDS version, fields of the text and of the summary
  "aeslc": ("1.0.0", "email_body", "subject_line"),
  "billsum": ("3.0.0", "text", "summary"),
  "gigaword": ("1.2.0", "document", "summary"),
  "cnn_dailymail": ("3.2.0", "article", "highlights"),
  "multi_news": ("1.0.0", "document", "summary"),
  "samsum": ("1.0.0", "dialogue", "summary"),
  "newsroom": ("1.0.0", "text", "summary"),
}
_NLI = ("entailment", "neutral", "contradiction")
_ALL = ("train", "validation", "test")
# name -> TFDS dataset, splits, field of the premise, label words in class order
NLI = {
  "anli_r1_v010": ("anli/r1:0.1.0", _ALL, "context", _NLI),
  "anli_r2_v010": ("anli/r2:0.1.0", _ALL, "context", _NLI),
  "anli_r3_v010": ("anli/r3:0.1.0", _ALL, "context", _NLI),
  "doc_nli_v100": ("doc_nli:1.0.0", _ALL, "premise", ("not_entailment", "entailment")),
  "snli_v110": ("snli:1.1.0", _ALL, "premise", _NLI),
}


def nli(
  name: str, tfds_name: str, splits: Sequence[str], premise: str, labels: tuple[str, ...]
) -> variants.Description:
  """Whether a hypothesis follows from a text."""
  return variants.Description(
    source=variants.tfds(tfds_name, splits),
    preprocessors=[
      functools.partial(
        preprocessors.classification,
        name=name.rpartition("_")[0],
        fields=("hypothesis", premise),
        labels=labels,
      ),
      preprocessors.single_spaced,
    ],
    metrics=[metrics.accuracy],
    labels=labels,
  )


def _add(name: str, task: variants.Description) -> None:
  variants.register(f"spot_{name}", task)


for _config in GLUE:
  _add(
    f"glue_{_config}_{GLUE_VERSION}", glue_benchmark.classification(_config, GLUE_VERSION)
  )
_add(f"glue_stsb_{GLUE_VERSION}", glue_benchmark.stsb(GLUE_VERSION))
_mnli = glue_benchmark.classification("mnli", GLUE_VERSION)
_parts: dict[str, dict[str, str]] = {
  "train": {"train": "train"},
  **{split: {"validation": split} for split in MNLI_VALIDATION},
}
for _part, _splits in _parts.items():
  _add(f"glue_mnli_{_part}_{GLUE_VERSION}", variants.with_splits(_mnli, _splits))
variants.register_mixture(
  f"spot_glue_mnli_and_dev_{GLUE_VERSION}",
  {f"spot_glue_mnli_{part}_{GLUE_VERSION}": 1.0 for part in _parts},
)
for _name in MRQA:
  _text = functools.partial(reading.mrqa, name=_name)
  _task = dataclasses.replace(
    question_answering.mrqa(_name, ("train", "validation")), preprocessors=[_text]
  )
  _add(f"mrqa_{_name}_v100", _task)
for _name, _row in NLI.items():
  _add(_name, nli(_name, *_row))
for _name, (_version, _source, _summary) in SUMMARIES.items():
  _task = summaries.described(f"{_name}:{_version}", _source, _summary, _name)
  _add(f"{_name}_v{_version.replace('.', '')}", _task)
