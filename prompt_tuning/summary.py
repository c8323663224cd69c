"""What a run achieved, next to what needs no training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = 300  # characters of an example
_Z95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


def binomial_interval(percent: float, count: int) -> tuple[float, float]:
  """Wilson's 95 % interval of a share in percent, observed on `count` examples."""
  if not count:
    return 0.0, 100.0
  share, spread = percent / 100.0, _Z95**2 / count
  center = (share + spread / 2) / (1 + spread)
  half = _Z95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
  return 100.0 * (center - half), 100.0 * (center + half)


def table(rows: Sequence[tuple[str, Mapping[str, float]]], count: int) -> str:
  """Rows of (name, {metric: value}) as text; accuracies with their interval."""
  names = list(dict.fromkeys(name for _, values in rows for name in values))
  width = max([24, *(len(title) for title, _ in rows)])
  lines = ["  ".join([" " * width, *(f"{name:<22}" for name in names)])]
  for title, values in rows:
    cells = [_cell(name, values.get(name), count) for name in names]
    lines.append("  ".join([f"{title:<{width}}", *(f"{cell:<22}" for cell in cells)]))
  return "\n".join(line.rstrip() for line in lines)


def _cell(name: str, value: float | None, count: int) -> str:
  if value is None:
    return "-"
  if name != "accuracy":
    return f"{value:.2f}"
  low, high = binomial_interval(value, count)
  return f"{value:.1f}  [{low:.1f}, {high:.1f}]"


def samples(
  examples: Sequence[Mapping[str, Any]], targets: Sequence[str], predictions: Sequence[str]
) -> str:
  """A few examples with what was predicted and what was right."""
  lines = []
  for example, right, predicted in zip(examples, targets, predictions, strict=False):
    mark = "+" if predicted == right else "-"
    lines.append(f"{mark} {predicted:<12} (is {right:<12}) {_inputs(example)}")
  return "\n".join(lines)


def _inputs(example: Mapping[str, Any]) -> str:
  """The text of an example, cut where it would fill the screen."""
  value = example.get("inputs_pretokenized", b"")
  text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
  return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
