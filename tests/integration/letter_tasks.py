"""Tasks without metrics: in the vocabulary of the run, and in one of its own."""

import seqio
import tiny_tasks

EMBEDDED = tiny_tasks.vocabularies.EMBEDDED
FEATURES = {
  "letter_words": tiny_tasks.features.text_to_text(EMBEDDED),
  "embedded_words": {
    name: seqio.Feature(EMBEDDED.load()) for name in ("inputs", "targets")
  },
}

for _name, _features in FEATURES.items():
  seqio.TaskRegistry.add(
    _name,
    source=seqio.TaskRegistry.get("tiny_words").source,
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    metric_fns=[],
    output_features=_features,
  )
