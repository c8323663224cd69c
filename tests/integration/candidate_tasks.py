"""The tests' task with both label words in every example, for runs that rank them."""

import functools

import seqio
import tiny_tasks

from prompt_tuning.data import (
  candidates,
  example_metrics,
  metrics,
  postprocessors,
  vocabularies,
)

seqio.TaskRegistry.add(
  "tiny_candidates",
  source=seqio.TaskRegistry.get("tiny_words").source,
  preprocessors=candidates.side_by_side(tiny_tasks.LABELS),
  postprocess_fn=functools.partial(
    candidates.of_right_candidate,
    postprocess=functools.partial(
      postprocessors.string_label_to_class_id, label_classes=tiny_tasks.LABELS
    ),
  ),
  metric_fns=[functools.partial(example_metrics.unwrapped, metric=metrics.accuracy)],
  output_features=candidates.output_features(vocabularies.EMBEDDED),
)
