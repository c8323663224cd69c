"""Tables and a picture from docs/benchmarks.json: README.md, docs/benchmarks.md and .svg.

  python benchmarks/report.py

In the two texts, what lies between the markers `<!-- performance -->` and
`<!-- /performance -->` is replaced.
"""

import html
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import results

REPO = pathlib.Path(__file__).parents[1]
BEGIN, END = "<!-- performance -->", "<!-- /performance -->"
Parts = Mapping[str, Any]  # see `results`
ORDER = (
  "training_speed",
  "decoder_speed",
  "step_speed",
  "step_memory_peak",
  "sweep_speed",
  "saving",
  "start",
  "compiling",
)
_LEFT, _BAR, _HIGH, _WIDTH = 110, 440, 24, 620  # of the picture, in pixels
_OURS, _OTHERS = "#3465a4", "#888a85"


def summary(parts: Parts) -> str:
  """README's table: everything that has a bar, and where it was measured."""
  found = [row for part in _ordered(parts) for row in parts[part]["rows"]]
  rows = [_row(row) for row in found if row["bar"] is not None]
  places = dict.fromkeys(_place(part) for part in parts.values())
  return "\n".join([*_table(rows), "", *(f"{place}." for place in places)])


def whole(parts: Parts) -> str:
  """The table of docs/benchmarks.md: each part with all that it measured."""
  found: list[str] = []
  for name in _ordered(parts):
    rows = [_row(row) for row in parts[name]["rows"]]
    found += [f"### {name}", "", *_table(rows), "", f"{_place(parts[name])}.", ""]
  return "\n".join(found).rstrip()


def between(text: str, table: str) -> str:
  """The text with another table between its markers."""
  before, _, rest = text.partition(BEGIN)
  _, _, after = rest.partition(END)
  return f"{before}{BEGIN}\n{table}\n{END}{after}"


def picture(parts: Parts) -> str:
  """Training examples per second, as SVG: a bar each, its range, its number."""
  rows = [row for row in parts["training_speed"]["rows"] if row["unit"] == "examples/s"]
  rows.sort(key=lambda row: row["median"])
  scale = _BAR / max(row["most"] for row in rows)
  height = _HIGH * (len(rows) + 1) + 8
  lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
    'font-family="sans-serif" font-size="12">',
    f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    '<text x="8" y="17">training examples per second, T5 1.1 small on two cores</text>',
  ]
  for place, row in enumerate(rows, 1):
    lines += _bar(row, scale, place * _HIGH + 4)
  return "\n".join([*lines, "</svg>", ""])


def _bar(row: results.Row, scale: float, top: int) -> Iterable[str]:
  name = row["what"].removeprefix("training, ")
  color = _OTHERS if name.startswith(("peft", "padded")) else _OURS
  middle, wide = top + 10, row["median"] * scale
  least, most = (_LEFT + row[end] * scale for end in ("least", "most"))
  yield f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{html.escape(name)}</text>'
  yield f'<rect x="{_LEFT}" y="{top}" width="{wide:.1f}" height="20" fill="{color}"/>'
  yield f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="black"/>'
  yield f'<text x="{most + 6:.1f}" y="{top + 14}">{number(row["median"])}</text>'


def number(value: float) -> str:
  """Three digits."""
  return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _row(row: results.Row) -> list[str]:
  reached, sign = results.reached(row), "≥" if row["better"] == "more" else "≤"
  verdict = {None: "", True: "reached", False: "**missed**"}[reached]
  return [
    row["what"],
    f"{number(row['median'])} {row['unit']}",
    f"{number(row['least'])} to {number(row['most'])}, {row['runs']}",
    "" if reached is None else f"{sign} {row['bar']:g}",
    verdict,
  ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
  head = ["", "median", "range, runs", "meant", ""]
  return ["| " + " | ".join(each) + " |" for each in (head, ["---"] * len(head), *rows)]


def _place(part: Mapping[str, Any]) -> str:
  machine, versions = part["machine"], part["versions"]
  named = ", ".join(f"{name} {version}" for name, version in versions.items())
  return f"{machine['processor']}, {machine['cores']} cores, {part['date']}; {named}"


def _ordered(parts: Parts) -> list[str]:
  return [name for name in ORDER if name in parts]


def main() -> None:
  """Writes."""
  parts = json.loads(results.PATH.read_text())
  for path, table in (("README.md", summary), ("docs/benchmarks.md", whole)):
    text = (REPO / path).read_text()
    (REPO / path).write_text(between(text, table(parts)))
  (REPO / "docs" / "benchmarks.svg").write_text(picture(parts))


if __name__ == "__main__":
  main()
