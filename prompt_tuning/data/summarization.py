"""Summaries of news: "summarize: TEXT".

  xsum_v110             XSum (Narayan et al. 2018)
  cnn_dailymail_v310    CNN / Daily Mail (Hermann et al. 2015)
"""

import functools

from prompt_tuning.data import preprocessors, text_metrics, variants

_SPLITS = ("train", "validation", "test")

# name -> TFDS dataset, field of the text, field of the summary
TASKS = {
  "xsum_v110": ("xsum:1.1.0", "document", "summary"),
  "cnn_dailymail_v310": ("cnn_dailymail:3.1.0", "article", "highlights"),
}


def summaries(
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


for _name, _row in TASKS.items():
  variants.add(_name, summaries(*_row), forms=(variants.BASE,))
