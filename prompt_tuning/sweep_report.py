"""A sweep as a person reads it: its members, its settings, a picture.

{"best": name or None, "prompt": its file or None, "split": "test" or None,
 "tasks": {task: {"examples", "majority", "untuned", "samples"}},
 "members": [{"name", "learning rate", "seed", "start", "task", "best": bool, "best_step",
              "score", "metrics", "scores": [[step, score]], "last_step", "end", "test",
              "test_metrics", "prompt"}],
 "settings": [{"name", "members", "score": {"mean", "spread"}, "test": ...}]}

Scores are of the validation split, "test" of the split of the summary.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from prompt_tuning.analysis import pictures

FACTS = ("learning rate", "seed", "start", "task")
Row = Mapping[str, Any]


def settings(members: Sequence[Row]) -> list[dict[str, Any]]:
  """What the members of each setting, which differ in the seed only, have in common.

  Args:
    members: As above; those without a score do not count.
  """
  facts = [fact for fact in _varied(members) if fact != "seed"]
  found: dict[str, list[Row]] = {}
  for row in members:
    name = ", ".join(f"{fact} {_shown(row[fact])}" for fact in facts)
    found.setdefault(name or "all", []).append(row)
  return [
    {
      "name": name,
      "members": [row["name"] for row in rows],
      "score": _spread([row["score"] for row in rows if row["score"] is not None]),
      "test": _spread([row["test"] for row in rows if row["test"] is not None]),
    }
    for name, rows in found.items()
  ]


def _varied(members: Sequence[Row]) -> list[str]:
  return [fact for fact in FACTS if len({row[fact] for row in members}) > 1]


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
  if not values:
    return None
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return {"mean": statistics.fmean(values), "spread": spread}


def report(summary: Mapping[str, Any]) -> str:
  """The tables as Markdown; the best member is in bold."""
  tested = [f"{summary['split']} split"] if summary["split"] else []
  varied = _varied(summary["members"])
  members = _table(
    ["member", *varied, "best step", "score", *tested, "end"],
    [_member(row, varied, bool(tested)) for row in summary["members"]],
  )
  alike = _table(
    ["setting", "members", "score", *tested],
    [_setting(one, bool(tested)) for one in summary["settings"]],
  )
  lines = [_task(name, summary["split"], one) for name, one in summary["tasks"].items()]
  if summary["prompt"]:
    lines.append(f"The best prompt is in {summary['prompt']}")
  return "\n\n".join([members, alike, *lines]) + "\n"


def _member(row: Row, varied: Sequence[str], tested: bool) -> list[str]:
  return [
    f"**{row['name']}**" if row["best"] else row["name"],
    *(_shown(row[fact]) for fact in varied),
    _shown(row["best_step"]),
    _percent(row["score"]),
    *([_percent(row["test"])] if tested else []),
    f"step {row['last_step']}: {row['end']}",
  ]


def _setting(one: Row, tested: bool) -> list[str]:
  shown = [one["name"], str(len(one["members"])), _mean(one["score"])]
  return [*shown, _mean(one["test"])] if tested else shown


def _task(name: str, split: str, found: Row) -> str:
  untuned = ", ".join(f"{metric} {value:.2f}" for metric, value in found["untuned"].items())
  majority = found["majority"]
  return (
    f"{name}, {split} split, {found['examples']} examples: untuned {untuned}; always "
    f"{majority['target']!r} is right for {majority['accuracy']:.1f} %."
  )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
  return "-" if value is None else f"{value:.2f}"


def _mean(found: Mapping[str, float] | None) -> str:
  return "-" if found is None else f"{found['mean']:.2f} ± {found['spread']:.2f}"


def draw(summary: Mapping[str, Any], path: epath.Path) -> None:
  """The scores by step, in a colour for each setting; needs matplotlib."""
  curves = {row["name"]: row["scores"] for row in summary["members"] if row["scores"]}
  shown = {
    one["name"]: [curves[name] for name in one["members"] if name in curves]
    for one in summary["settings"]
  }
  if curves:
    pictures.where_possible(pictures.sweep, shown, "score, validation split", path)
