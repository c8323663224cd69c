"""Several measurements of one thing in a few numbers."""

import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
  """Their mean, their standard deviation (0 of one) as "spread", and the values."""
  deviation = statistics.stdev(values) if len(values) > 1 else 0.0
  return {"mean": statistics.fmean(values), "spread": deviation, "values": list(values)}


def text(found: dict[str, Any], digits: int = 1) -> str:
  """Mean ± spread."""
  return f"{found['mean']:.{digits}f} ± {found['spread']:.{digits}f}"
