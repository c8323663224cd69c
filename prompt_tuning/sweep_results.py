"""What the members of a sweep achieved: tested together, written down."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from prompt_tuning import checks, distributed, files, partitioning, sweep_report
from prompt_tuning.best import overall
from prompt_tuning.judge import Judge, Params
from prompt_tuning.partitioning import Layout
from prompt_tuning.sweep_config import Member, SweepConfig
from prompt_tuning.sweep_memory import Record


def finish(
  config: SweepConfig,
  records: Mapping[str, Record],
  judge: Judge,
  layout: Layout,
  folder: epath.Path,
) -> dict[str, Any]:
  """Tests the best prompt of every member, writes the results and returns them.

  Args:
    config: The sweep.
    records: By name of the member.
    judge: Of its model.
    layout: Where the model lies.
    folder: MODEL_DIR.

  Returns:
    See `sweep_report`.

  Raises:
    InputError: No member kept a prompt.
  """
  run, members = config.run, {member.name: member for member in config.members()}
  _, last = run.trainer.steps(judge.base.step)
  prompts = {name: run.learned.best(folder / m.folder) for name, m in members.items()}
  rows = [_row(m, records[m.name], last, prompts[m.name]) for m in members.values()]
  kept = [row for row in rows if row["best_step"] is not None]
  if not kept:
    raise checks.InputError(
      "no member has a finite loss and prompt, expected at least one; choose another "
      "MODEL_DIR with lower SWEEP_LEARNING_RATES or ACTIVATION_DTYPE='float32'"
    )
  tasks: dict[str, Any] = {}
  distributed.meet("the best prompts are written")
  for task in dict.fromkeys(row["task"] for row in kept if run.test_dataset):
    of_task = [row for row in reversed(kept) if row["task"] == task]
    contestants = sorted(of_task, key=lambda row: row["score"])  # of equals the first wins
    contestants[-1]["best"] = True
    params = {
      row["name"]: partitioning.replicate(
        run.learned.load_best(folder / members[row["name"]].folder), layout.mesh
      )
      for row in contestants
    }
    tasks |= _tested(members[contestants[-1]["name"]], contestants, params, judge)
  best = [row["name"] for row in kept if row["best"]]
  one_task = len({row["task"] for row in rows}) == 1
  summary: dict[str, Any] = {
    "best": best[0] if one_task and best else None,
    "prompt": str(run.learned.best(folder)) if one_task and best else None,
    "split": run.test_dataset.split if run.test_dataset else None,
    "tasks": tasks,
    "members": rows,
    "settings": sweep_report.settings(rows),
  }
  if distributed.is_first():
    if summary["best"]:
      content = prompts[summary["best"]].read_bytes()
      files.write_atomically(run.learned.best(folder), content)
    _write(summary, folder)
  return summary


def _row(member: Member, record: Record, last: int, prompt: epath.Path) -> dict[str, Any]:
  """What is known of a member before the test."""
  known = record.best.step is not None
  return {
    "name": member.name,
    **member.facts,
    "best": False,
    "best_step": record.best.step,
    "score": record.best.score if known else None,
    "metrics": record.best.metrics,
    "scores": record.scores,
    "last_step": record.last_step or last,
    "end": record.end or "the last",
    "test": None,
    "test_metrics": {},
    "prompt": str(prompt) if known else None,
  }


def _tested(
  best: Member, rows: list[dict[str, Any]], params: Mapping[str, Params], judge: Judge
) -> dict[str, Any]:
  """Evaluates the prompts of one task and enters what they reach into their rows."""
  dataset = best.run.test_dataset
  assert dataset is not None  # whoever calls has looked
  found = judge.compare(judge.evaluation(dataset), params, rows[-1]["best_step"])
  for row in rows:
    row["test_metrics"] = {part: one.pop(row["name"]) for part, one in found.items()}
    row["test"] = overall(row["test_metrics"], best.run.trainer.metric)
  return found


def _write(summary: dict[str, Any], folder: epath.Path) -> None:
  text = json.dumps(summary, indent=2) + "\n"
  files.write_atomically(folder / "summary.json", text.encode())
  (folder / "sweep.md").write_text(sweep_report.report(summary))
  sweep_report.draw(summary, folder / "sweep.svg")
