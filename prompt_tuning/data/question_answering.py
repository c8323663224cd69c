"""SQuAD and MRQA 2019: what their tasks are."""

from collections.abc import Callable, Mapping, Sequence

import seqio

from prompt_tuning.data import (
  example_metrics,
  postprocessors,
  reading,
  text_metrics,
  variants,
)

IN_DOMAIN = ("news_qa", "trivia_qa", "search_qa", "hotpot_qa", "natural_questions")
OUT_OF_DOMAIN = (
  "bio_asq",
  "drop",
  "duo_rc",
  "race",
  "relation_extraction",
  "textbook_qa",
)


def answered(source: seqio.DataSource, text: Callable) -> variants.Description:
  """A data set of questions whose answers are spans of a passage."""
  return variants.Description(
    source=source,
    preprocessors=[text],
    postprocess=postprocessors.qa,
    metrics=[text_metrics.squad],
    shown=example_metrics.answers_shown,
  )


def mrqa(name: str, splits: Sequence[str] | Mapping[str, str]) -> variants.Description:
  """A data set of MRQA."""
  return answered(variants.tfds(f"mrqa/{name}:1.0.0", splits), reading.mrqa)


def squad() -> variants.Description:
  """SQuAD 1.1."""
  source = variants.tfds("squad/v1.1:3.0.0", ("train", "validation"))
  return answered(source, reading.squad)
