"""From decoded text to what a metric compares."""

from collections.abc import Sequence
from typing import Any


def string_label_to_class_id(
  text: str, label_classes: Sequence[str], default: int = -1, **kwargs: Any
) -> int:
  """The index of a label word, or `default` for anything else."""
  del kwargs
  return label_classes.index(text) if text in label_classes else default
