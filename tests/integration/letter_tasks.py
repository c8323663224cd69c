"""A task in the vocabulary of the run, whichever that is when this is imported."""

import seqio
import tiny_tasks

seqio.TaskRegistry.add(
  "letter_words",
  source=seqio.TaskRegistry.get("tiny_words").source,
  preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim],
  metric_fns=[],
  output_features=tiny_tasks.features.text_to_text(tiny_tasks.vocabularies.EMBEDDED),
)
