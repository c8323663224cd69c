"""Metrics beside which some examples are shown as text, in logs and in TensorBoard."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio

from prompt_tuning.data.metrics import Metric

Predictions = Sequence[Mapping[str, Any]]  # of `postprocessors.with_examples`


def unwrapped(targets: Sequence[Any], predictions: Predictions, metric: Metric) -> dict:
  """A metric over the answers alone."""
  return metric(targets, [found["prediction"] for found in predictions])


def text_examples(
  targets: Sequence[Any],
  predictions: Predictions,
  task: str,
  num_examples: int = 8,
  seed: int = 0,
  shown: Callable[[Any, Mapping[str, Any]], str] | None = None,
  find_negative: bool = True,
) -> dict[str, seqio.metrics.Text]:
  """Some examples, and some of those that are wrong.

  Args:
    targets: What is right.
    predictions: What was answered.
    task: Named in the titles.
    num_examples: Most examples of each kind.
    seed: Of the drawing, so that a run that is repeated logs the same.
    shown: (target, prediction) as Markdown; None for inputs, target and answer.
    find_negative: Whether wrong ones are listed by themselves.

  Returns:
    {"<task> samples": text}, and "<task> negative samples" where there are any.
  """
  draw = random.Random(seed)
  pairs = list(zip(targets, predictions, strict=True))
  found = {f"{task} samples": pairs}
  if find_negative:
    found[f"{task} negative samples"] = [pair for pair in pairs if _wrong(*pair)]
  return {
    title: seqio.metrics.Text(
      "\n\n---\n\n".join(
        (shown or _shown)(*pair) for pair in draw.sample(some, min(num_examples, len(some)))
      )
    )
    for title, some in found.items()
    if some
  }


def _wrong(target: Any, prediction: Mapping[str, Any]) -> bool:
  """Whether an answer is not the target, or none of several right ones."""
  found = prediction["prediction"]
  if isinstance(target, Mapping):  # with the group it belongs to
    target, found = target["value"], found["value"]
  return found not in target if isinstance(target, list) else found != target


def _shown(target: Any, prediction: Mapping[str, Any]) -> str:
  right = prediction["targets_pretokenized"] or target
  return "\n\n".join(
    [
      f"**inputs**: {prediction['inputs_pretokenized']}",
      f"**target**: {right}",
      f"**prediction**: {prediction['prediction_pretokenized']}",
    ]
  )


def answers_shown(target: Sequence[str], prediction: Mapping[str, Any]) -> str:
  """A question with all of its right answers, without repeats and in order."""
  right = ", ".join(sorted(set(target)))
  return _shown(target, {**prediction, "targets_pretokenized": right})
