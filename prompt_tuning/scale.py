"""The power of scale: prompt tuning against model tuning, by size of the model.

OUT/
  <rung>/<method>/seed_<n>/       one training run each, which resumes by itself
  scale.json  scale.md  scale.svg   means and spreads, a table, a picture
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from prompt_tuning import config, train, trees
from prompt_tuning.analysis import pictures, spreads
from prompt_tuning.models import families
from prompt_tuning.train_config import TrainConfig

EXPERIMENTS = {
  "prompt": "experiments/movie_reviews.gin",
  "model_tuning": "experiments/movie_reviews_model.gin",
}


@dataclasses.dataclass(frozen=True)
class Rung:
  """One pretrained model.

  Attributes:
    name: In tables and folders.
    size: Its file is `models/sizes/reviews_<size>.gin`.
    checkpoint: Its weights.
  """

  name: str
  size: str
  checkpoint: str


def scale(
  out: pathlib.Path, rungs: Sequence[Rung], seeds: int, bindings: Sequence[str] = ()
) -> list[dict[str, Any]]:
  """Trains a prompt and the whole model on every rung with every seed.

  Args:
    out: Folder to write.
    rungs: From small to large.
    seeds: Runs of each kind, with random seeds from 0.
    bindings: gin bindings of every run.

  Returns:
    A row per rung: parameters, majority, untuned, and mean, spread (the standard
    deviation over seeds) and values of both methods, in percent.
  """
  pictures.check()  # before hours of training
  rows = []
  for rung in rungs:
    found: dict[str, Any] = {"rung": rung.name}
    for method, experiment in EXPERIMENTS.items():
      accuracies = []
      for seed in range(seeds):
        folder = out / rung.name / method / f"seed_{seed}"
        settings, summary = _run(rung, experiment, seed, folder, bindings)
        (task,) = summary["tasks"].values()
        accuracies.append(task[method]["accuracy"])
        found["parameters"] = _parameters(settings)
        found["examples"] = task["examples"]
        found["majority"] = task["majority"]["accuracy"]
        found["untuned"] = task["untuned"]["accuracy"]
      found[method] = spreads.spread(accuracies)
    rows.append(found)
    (out / "scale.json").write_text(json.dumps(rows, indent=2) + "\n")
  (out / "scale.md").write_text(table(rows))
  pictures.power_of_scale(rows, out / "scale.svg")
  return rows


def _run(
  rung: Rung,
  experiment: str,
  seed: int,
  folder: pathlib.Path,
  bindings: Sequence[str],
) -> tuple[TrainConfig, dict[str, Any]]:
  """The settings and the summary of one run, which is not repeated once finished."""
  settings, text = config.load(
    "train.train",
    [experiment, f"models/sizes/reviews_{rung.size}.gin"],
    [
      *bindings,
      f"INITIAL_CHECKPOINT_PATH = {rung.checkpoint!r}",
      f"MODEL_DIR = {str(folder)!r}",
      f"RANDOM_SEED = {seed}",
    ],
  )
  done, same = folder / "summary.json", folder / "config.gin"
  if done.exists() and same.read_text() == text:
    return settings, json.loads(done.read_text())
  return settings, train.train(settings, text)


def _parameters(settings: TrainConfig) -> int:
  shapes = trees.values(families.abstract(settings.model)).values()
  return sum(int(shape.size) for shape in shapes)


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows as a Markdown table; accuracies in percent, mean ± standard deviation."""
  lines = [
    "| model | parameters | majority class | untuned | prompt tuning | model tuning |",
    "|---|---|---|---|---|---|",
  ]
  for row in rows:
    tuned = " | ".join(spreads.text(row[name]) for name in EXPERIMENTS)
    lines.append(
      f"| {row['rung']} | {row['parameters']:,} | {row['majority']:.1f} | "
      f"{row['untuned']:.1f} | {tuned} |"
    )
  return "\n".join(lines) + "\n"
