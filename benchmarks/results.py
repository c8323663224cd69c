"""docs/benchmarks.json: one part for each benchmark, written when it is done.

  {part: {"machine": {...}, "versions": {...}, "date": ..., "rows": [
    {"what", "unit", "median", "least", "most", "runs", "bar", "better"}]}}

`bar` is what a row was meant to reach, null where it is there for information; `better`
says on which side of it: "more" or "less".
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
from collections.abc import Sequence
from typing import Any

PATH = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.json"
PACKAGES = ("jax", "flax", "torch", "transformers", "peft")
Row = dict[str, Any]


def row(
  what: str,
  values: Sequence[float],
  unit: str,
  bar: float | None = None,
  better: str = "more",
) -> Row:
  """Median and range of what alternating runs found."""
  return {
    "what": what,
    "unit": unit,
    "median": statistics.median(values),
    "least": min(values),
    "most": max(values),
    "runs": len(values),
    "bar": bar,
    "better": better,
  }


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
  """Run by run."""
  return [a / b for a, b in zip(above, below, strict=True)]


def reached(row: Row) -> bool | None:
  """Whether the median is on the right side of the bar; None without one."""
  if row["bar"] is None:
    return None
  if row["better"] == "more":
    return row["median"] >= row["bar"]
  return row["median"] <= row["bar"]


def write(part: str, rows: Sequence[Row]) -> None:
  """Puts a part into the file, prints it as a table and then as a line of JSON."""
  parts = json.loads(PATH.read_text()) if PATH.exists() else {}
  parts[part] = {
    "machine": machine(),
    "versions": versions(),
    "date": datetime.date.today().isoformat(),
    "rows": list(rows),
  }
  PATH.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n")
  for each in rows:
    print(line(each))
  print(json.dumps({"benchmark": part, **parts[part]}), flush=True)


def versions() -> dict[str, str]:
  """Of the packages that are there."""
  there = {name.lower() for name in importlib.metadata.packages_distributions()}
  return {x: importlib.metadata.version(x) for x in PACKAGES if x in there}


def line(row: Row) -> str:
  """A row as text."""
  found = f"{row['median']:>12.4g} {row['unit']:<14}"
  spread = f"[{row['least']:.4g}, {row['most']:.4g}] of {row['runs']}"
  text = f"{row['what']:<58}{found}{spread:<28}"
  if row["bar"] is None:
    return text
  sign = ">=" if row["better"] == "more" else "<="
  return f"{text}{sign} {row['bar']:g}: {'reached' if reached(row) else 'MISSED'}"


def machine() -> dict[str, str | int | None]:
  """Processor and system."""
  info = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  model = next((x.split(":")[1].strip() for x in info if x.startswith("model name")), "")
  return {
    "processor": f"{model}, {platform.machine()}",
    "cores": os.cpu_count(),
    "python": platform.python_version(),
  }
