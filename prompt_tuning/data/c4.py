"""C4 as pretraining tasks (TFDS `c4/en:2.2.0`), under the original's names.

c4_v220_span_corruption       T5's own objective
c4_v220_prefix_lm             LM adaptation
c4_v220_bart_text_infilling   BART's, as the original registers it
c4_v220_bart_token_deletion
"""

from prompt_tuning.data import c4_documents, objectives

TASKS = {
  "c4_v220_span_corruption": objectives.span_corruption,
  "c4_v220_prefix_lm": objectives.prefix_lm,
  "c4_v220_bart_text_infilling": objectives.text_infilling,
  "c4_v220_bart_token_deletion": objectives.token_deletion,
}

for _name, _objective in TASKS.items():
  c4_documents.add(_name, _objective)
