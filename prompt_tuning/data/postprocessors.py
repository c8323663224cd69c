"""From decoded text to what a metric compares.

seqio calls each twice per example: with the target's text and `is_target=True`, and with
the model's answer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prompt_tuning.data import label_words

Example = Mapping[str, Any]


def string_label_to_class_id(
  text: str, label_classes: Sequence[str], default: int = -1, **kwargs: Any
) -> int:
  """The index of a label word, or `default` for anything else."""
  del kwargs
  found = label_words.class_of(text, label_classes)
  return default if found is None else found


def string_to_float(text: str, default: float = -1.0, **kwargs: Any) -> float:
  """The finite number that a text spells, or `default`."""
  del kwargs
  try:
    number = float(text)
  except ValueError:
    return default
  return number if math.isfinite(number) else default


def multirc(text: str, example: Example, is_target: bool = False) -> dict[str, Any]:
  """MultiRC: whether an answer is right, and in the target the question it belongs to."""
  found: dict[str, Any] = {"value": string_label_to_class_id(text, ("False", "True"))}
  if is_target:
    found["group"] = int(example["idx/question"])
  return found


def record(text: str, example: Example, is_target: bool = False) -> dict[str, Any]:
  """ReCoRD: an answer, or in the target all right ones and the query they belong to."""
  if not is_target:
    return {"value": text}
  group = int(example["idx/passage"]), int(example["idx/query"])
  return {"value": qa(text, example, is_target), "group": group}


def qa(text: str, example: Example, is_target: bool = False) -> str | list[str]:
  """Question answering: an answer, or in the target all right ones."""
  return [_text(answer) for answer in example["answers"]] if is_target else text


def rank_classification(
  score: float, example: Example, is_target: bool = False
) -> float | tuple:
  """Scores as they are; the target says which candidate of which example it is."""
  if not is_target:
    return score
  idx = tuple(int(i) for i in example["idx"])
  weight = float(example.get("weight", 1.0))
  return idx, bool(example["is_correct"]), weight, len(example["targets"])


def replacing(
  text: str,
  replacements: Mapping[str, str],
  postprocess: Callable[..., Any],
  is_target: bool = False,
  **kwargs: Any,
) -> Any:
  """Another task's words become this task's before it reads an answer.

  Args:
    text: Target or answer.
    replacements: {part of an answer: what stands for it here}.
    postprocess: This task's own.
    is_target: Targets are in this task's words already.
    kwargs: For `postprocess`.
  """
  if not is_target:
    for theirs, ours in replacements.items():
      text = text.replace(theirs, ours)
  return postprocess(text, is_target=is_target, **kwargs)


def with_examples(
  text: str,
  postprocess: Callable[..., Any] | None,
  example: Example,
  is_target: bool = False,
) -> Any:
  """An answer together with the texts it belongs to, for metrics that show examples.

  Returns:
    For a target what `postprocess` makes of it; for an answer a dict with
    "prediction", "prediction_pretokenized" and the example's pretokenized texts.
  """
  value = text
  if postprocess is not None:
    value = postprocess(text, example=example, is_target=is_target)
  if is_target:
    return value
  fields = ("inputs_pretokenized", "targets_pretokenized")
  texts = {field: _text(example[field]) for field in fields if field in example}
  nothing = dict.fromkeys(fields)
  return {"prediction": value, "prediction_pretokenized": text, **nothing, **texts}


def _text(value: bytes | str) -> str:
  return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
