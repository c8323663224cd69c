"""Source tasks of SPoT (Vu et al. 2022), each with its name in front.

spot_glue_cola_v200 ...  spot_glue_mnli_and_dev_v200
spot_mrqa_squad_v100 ...       "squad question: Q context: C"
spot_anli_r1_v010 ...          "anli_r1 hypothesis: H context: X"
spot_aeslc_v100 ...            "aeslc summarize: TEXT"

Mixtures of them, by size of the training sets:

spot_glue_mixture  spot_mrqa_mixture  spot_nli_mixture  spot_summarization_mixture
spot_all_mixture                          the source of a prompt for any target
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence

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
_RATES = glue_benchmark.RATES
_MNLI_SIZES = {  # its validation sets are evaluated only
  "glue_mnli_train_v200": _RATES["mnli"],
  **{f"glue_mnli_{split}_v200": 0 for split in MNLI_VALIDATION},
}
# family -> task -> training examples, as TFDS counts them
SIZES: dict[str, dict[str, int]] = {
  "glue": {
    **{f"glue_{config}_v200": _RATES[config] for config in (*GLUE, "stsb")},
    **_MNLI_SIZES,
  },
  "mrqa": {
    "mrqa_squad_v100": 86_588,
    "mrqa_news_qa_v100": 74_160,
    "mrqa_trivia_qa_v100": 61_688,
    "mrqa_search_qa_v100": 117_384,
    "mrqa_hotpot_qa_v100": 72_928,
    "mrqa_natural_questions_v100": 104_071,
  },
  "nli": {
    "anli_r1_v010": 16_946,
    "anli_r2_v010": 45_460,
    "anli_r3_v010": 100_459,
    "doc_nli_v100": 942_314,
    "snli_v110": 550_152,
    **{f"glue_{config}_v200": _RATES[config] for config in ("qnli", "rte")},
    **_MNLI_SIZES,
  },
  "summarization": {
    "aeslc_v100": 14_436,
    "billsum_v300": 18_949,
    "gigaword_v120": 3_803_957,
    "cnn_dailymail_v320": 287_113,
    "multi_news_v100": 44_972,
    "samsum_v100": 14_732,
    "newsroom_v100": 995_041,
  },
}
LIMIT = 2**19  # examples that one task counts as, at most (T5's K, and the paper's)


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


def add_mixture(name: str, sizes: Mapping[str, int]) -> None:
  """Registers a mixture in proportion to the training sets, each counted up to `LIMIT`.

  Args:
    name: Of the mixture.
    sizes: {registered task: its training examples; 0 is evaluated only}.
  """
  rates = {task: float(min(size, LIMIT)) for task, size in sizes.items()}
  variants.register_mixture(name, rates)


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

for _family, _sizes in [*SIZES.items(), ("all", collections.ChainMap(*SIZES.values()))]:
  add_mixture(f"spot_{_family}_mixture", {f"spot_{t}": n for t, n in _sizes.items()})
