"""Pictures of results, as SVG. Needs matplotlib, which `prompt-tuning[docs]` brings."""

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prompt_tuning import checks

_BLUE, _ORANGE, _GREY = "#3465a4", "#ce5c00", "#888a85"


def power_of_scale(rungs: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
  """Accuracy by size of model: tuned prompt, tuned model, untuned, majority class.

  Args:
    rungs: Rows of `scale.scale`, of one task.
    path: The .svg file.
  """
  figure, axes = _figure(6.0, 3.8)
  sizes = [rung["parameters"] / 1e6 for rung in rungs]
  for name, label, color in (
    ("model_tuning", "model tuning", _ORANGE),
    ("prompt", "prompt tuning", _BLUE),
  ):
    means = [rung[name]["mean"] for rung in rungs]
    spreads = [rung[name]["spread"] for rung in rungs]
    axes.errorbar(sizes, means, yerr=spreads, fmt="o-", color=color, label=label, capsize=4)
  axes.plot(sizes, [r["untuned"] for r in rungs], "s--", color=_GREY, label="untuned")
  axes.plot(sizes, [r["majority"] for r in rungs], ":", color=_GREY, label="majority class")
  axes.set_xscale("log")
  axes.set_xticks(sizes, [f"{size:.1f} M" for size in sizes])
  axes.minorticks_off()
  axes.set(xlabel="parameters of the model", ylabel="accuracy, %")
  axes.legend(frameon=False)
  _save(figure, path)


def pretraining(
  stages: Mapping[str, Sequence[Mapping[str, Any]]], path: str | os.PathLike
) -> None:
  """Held-out loss by step, one line for each objective.

  Args:
    stages: {title: rows of a run's `metrics.jsonl`}, in order.
    path: The .svg file.

  Raises:
    InputError: A run has never evaluated.
  """
  figure, axes = _figure(7.0, 3.8)
  for stage, color in zip(stages, itertools.cycle((_BLUE, _ORANGE, _GREY)), strict=False):
    rows = [row for row in stages[stage] if any(k.startswith("held_out/") for k in row)]
    if not rows:
      raise checks.InputError(
        f"the metrics of {stage} hold no held-out loss, expected a run that evaluated; "
        "choose another MODEL_DIR"
      )
    names = [k for k in rows[0] if k.startswith("held_out/") and k.endswith("/loss")]
    for name, style in zip(names, itertools.cycle(("o-", "s--", "^:")), strict=False):
      objective = name.split("/")[1].replace("_", " ")
      axes.plot(
        [row["step"] for row in rows],
        [row[name] for row in rows],
        style,
        color=color,
        markersize=3,
        label=f"{stage}: {objective}",
      )
  axes.set(xlabel="step", ylabel="held-out loss, nats per token")
  axes.set_ylim(bottom=0)
  axes.legend(frameon=False, fontsize=8)
  _save(figure, path)


def rates(found: Mapping[str, Any], path: str | os.PathLike) -> None:
  """Loss by learning rate, and the rate to train with.

  Args:
    found: As `rates.range_test` returns it.
    path: The .svg file.
  """
  figure, axes = _figure(6.0, 3.4)
  axes.plot(found["rates"], found["losses"], color=_GREY, linewidth=0.8, label="each step")
  axes.plot(found["rates"], found["smoothed"], color=_BLUE, label="smoothed")
  axes.axvline(found["suggested"], color=_ORANGE, linestyle="--", label="suggested")
  axes.set_xscale("log")
  axes.set(xlabel="learning rate", ylabel="loss per target token")
  axes.legend(frameon=False)
  _save(figure, path)


def scorecards(results: Mapping[str, Any], path: str | os.PathLike) -> None:
  """Scores of an evaluation: a bar for each task, or lines where prompts are several.

  Args:
    results: As `prompt_tuning.scorecard` describes them.
    path: The .svg file.
  """
  rows = [_scores(one) for one in results["prompts"]]
  if len(rows) == 1:
    _bars(rows[0], f"{results['split']} split, %", path)
    return
  figure, axes = _figure(7.0, 3.8)
  steps = [one["step"] for one in results["prompts"]]
  for name in rows[0]:
    axes.plot(steps, [row[name] for row in rows], "o-", markersize=3, label=name)
  axes.set(xlabel="step", ylabel=f"{results['split']} split, %")
  axes.legend(frameon=False, fontsize=7)
  _save(figure, path)


def _scores(one: Mapping[str, Any]) -> dict[str, float]:
  """A number for each task, the mean of its metrics, and for each whole benchmark."""
  tasks = {t: sum(m.values()) / len(m) for t, m in one["tasks"].items() if m}
  benchmarks = one["benchmarks"].items()
  return tasks | {name: b["score"] for name, b in benchmarks if b["score"] is not None}


def _bars(scores: Mapping[str, float], label: str, path: str | os.PathLike) -> None:
  figure, axes = _figure(7.0, 1.0 + 0.3 * len(scores))
  bars = axes.barh(list(scores), list(scores.values()), color=_BLUE)
  axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
  axes.invert_yaxis()
  axes.tick_params(axis="y", labelsize=8)
  axes.set(xlabel=label)
  _save(figure, path)


def sweep(
  settings: Mapping[str, Sequence[Sequence[tuple[int, float]]]],
  label: str,
  path: str | os.PathLike,
) -> None:
  """Scores by step: a line for each member, a colour for each setting.

  Args:
    settings: {name: for each of its members (step, score) pairs}.
    label: Of the scores.
    path: The .svg file.
  """
  figure, axes = _figure(7.0, 3.8)
  for number, (name, curves) in enumerate(settings.items()):
    for place, curve in enumerate(curves):
      steps, scores = zip(*curve, strict=True)
      axes.plot(
        steps,
        scores,
        "o-",
        color=f"C{number % 10}",
        markersize=3,
        linewidth=1,
        label=None if place else name,
      )
  axes.set(xlabel="step", ylabel=label)
  axes.legend(frameon=False, fontsize=7)
  _save(figure, path)


def methods(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
  """Accuracy of methods with its spread over seeds, and of the untuned model.

  Args:
    rows: As `prompt_tuning.contest` returns them.
    path: The .svg file.
  """
  figure, axes = _figure(7.0, 1.2 + 0.3 * len(rows))
  names = [row["method"].replace("_", " ") for row in rows]
  means = [row["accuracy"]["mean"] for row in rows]
  spreads = [row["accuracy"]["spread"] for row in rows]
  axes.errorbar(means, names, xerr=spreads, fmt="o", color=_BLUE, capsize=4)
  axes.axvline(rows[0]["untuned"], linestyle="--", color=_GREY, label="untuned")
  axes.invert_yaxis()
  axes.tick_params(axis="y", labelsize=8)
  axes.set(xlabel="accuracy, %")
  axes.legend(frameon=False, fontsize=8)
  _save(figure, path)


def similarity(result: Mapping[str, Any], path: str | os.PathLike) -> None:
  """A heat map of similar tasks, and the tree of who joins whom above it.

  Args:
    result: As `transfer.transfer` returns it.
    path: The .svg file.
  """
  names, matrix = list(result["sources"]), result["similarity"]
  order = [names.index(name) for name in result["order"]]
  size = 2.5 + 0.45 * len(names)
  figure, axes = _figure(size + 1.0, size)
  rows = [[matrix[i][j] for j in order] for i in order]
  axes.imshow(rows, cmap="Blues", aspect="auto")
  middle = (min(map(min, rows)) + max(map(max, rows))) / 2
  for i, row in enumerate(rows):
    for j, value in enumerate(row):
      color = "white" if value > middle else "black"
      axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
  ticks = range(len(names))
  axes.set_xticks(ticks, result["order"], rotation=45, ha="right", fontsize=8)
  axes.set_yticks(ticks, result["order"], fontsize=8)
  tree = axes.inset_axes((0.0, 1.02, 1.0, 0.2), sharex=axes)
  tree.axis("off")
  for places, heights in result["joints"]:
    tree.plot(places, heights, color=_GREY, linewidth=1)
  _save(figure, path)


def where_possible(draw: Callable[..., None], *arguments: Any) -> None:
  """Draws where matplotlib is installed, and says so where it is not."""
  if importlib.util.find_spec("matplotlib") is not None:
    draw(*arguments)
    return
  print(
    "no picture: it needs matplotlib, pip install 'prompt-tuning[docs]'", file=sys.stderr
  )


def check() -> None:
  """Raises `InputError` where matplotlib is missing."""
  if importlib.util.find_spec("matplotlib") is None:
    raise checks.InputError(
      "matplotlib is not installed, expected it for the picture; run "
      "`pip install 'prompt-tuning[docs]'`"
    )


def _figure(width: float, height: float) -> tuple[Any, Any]:
  check()
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height))
  FigureCanvasSVG(figure)
  axes = figure.subplots()
  axes.spines[["top", "right"]].set_visible(False)
  return figure, axes


def _save(figure: Any, path: str | os.PathLike) -> None:
  figure.tight_layout()
  figure.savefig(path, format="svg", metadata={"Date": None})
