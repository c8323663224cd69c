"""C4 as pretraining tasks (TFDS `c4/en:2.2.0`), under the original's names.

c4_v220_span_corruption       T5's own objective
c4_v220_prefix_lm             LM adaptation
c4_v220_bart_text_infilling   BART's, as the original registers it
c4_v220_bart_token_deletion
"""

from collections.abc import Callable

import seqio

from prompt_tuning.data import features, objectives, vocabularies

TFDS_NAME = "c4/en:2.2.0"
TASKS = {
  "c4_v220_span_corruption": objectives.span_corruption,
  "c4_v220_prefix_lm": objectives.prefix_lm,
  "c4_v220_bart_text_infilling": objectives.text_infilling,
  "c4_v220_bart_token_deletion": objectives.token_deletion,
}


def _cached_when_tokenized(objective: Callable) -> list:
  """The steps of the objective, which seqio may cache behind the tokenizer."""
  rekey, tokenize, *rest = objectives.from_text(objective)
  return [rekey, tokenize, seqio.CacheDatasetPlaceholder(), *rest]


for _name, _objective in TASKS.items():
  if _name not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add(
      _name,
      source=seqio.TfdsDataSource(tfds_name=TFDS_NAME),
      preprocessors=_cached_when_tokenized(_objective),
      metric_fns=[],
      output_features=features.text_to_text(vocabularies.T5),
    )
