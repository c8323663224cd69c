"""Summaries: what a task of them is."""

import functools

from prompt_tuning.data import preprocessors, text_metrics, variants

_SPLITS = ("train", "validation", "test")


def described(
  tfds_name: str, text: str, summary: str, name: str = ""
) -> variants.Description:
  """A data set of texts and their summaries; `name` goes in front of the text."""
  return variants.Description(
    source=variants.tfds(tfds_name, _SPLITS),
    preprocessors=[
      functools.partial(
        preprocessors.text_generation,
        source=text,
        target=summary,
        name=name,
        prefix="summarize:",
      )
    ],
    metrics=[text_metrics.rouge],
    find_negative=False,
  )
