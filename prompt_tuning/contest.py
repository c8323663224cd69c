"""Methods side by side: the demo's task, the same number of steps, several seeds.

OUT/
  <method>/seed_<n>/            one training run each, which resumes by itself
  methods.json  methods.md  methods.svg   accuracy, parameters, bytes, speed
"""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from prompt_tuning import checks, config, files, step_shapes, train, trees
from prompt_tuning.analysis import pictures, spreads
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps

_DEMO = "experiments/movie_reviews.gin"
PAPER = {  # the paper's own two: prompts, and its baseline
  "prompt": [_DEMO],
  "model_tuning": ["experiments/movie_reviews_model.gin"],
}
_TIMED = 7  # steps of each
_OWN = {  # bindings of methods that leave a choice to their user
  "wayward": ["TASK_STRING = 'is this movie good or bad?'", "PROMPT_LENGTH = 7"],
}
Files = tuple[list[str], list[str]]  # gin files and bindings


def contestants() -> dict[str, Files]:
  """Every method that needs nothing but a task, {name: its files and bindings}."""
  paths = sorted((config.folder() / "methods").glob("*.gin"))
  own = {path.stem: [_DEMO, f"methods/{path.name}"] for path in paths}
  del own["multi_task"]  # one task says nothing about it
  found = {name: (files, _OWN.get(name, [])) for name, files in (PAPER | own).items()}
  return {name: files for name, files in found.items() if _is_complete(*files)}


def _is_complete(gin_files: Sequence[str], bindings: Sequence[str]) -> bool:
  """Whether no macro waits for a value that only a user has."""
  try:
    config.load("train.train", gin_files, [*bindings, "MODEL_DIR = ''"])
  except checks.InputError as error:
    if "required gin macros" not in str(error):
      raise
    return False
  return True


def contest(
  out: pathlib.Path,
  methods: Sequence[str],
  seeds: int,
  bindings: Sequence[str] = (),
) -> list[dict[str, Any]]:
  """Trains every method with every seed, and times its steps.

  Args:
    out: Folder to write.
    methods: Names of `contestants`.
    seeds: Runs of each, with random seeds from 0.
    bindings: gin bindings of every run.

  Returns:
    A row for each method: accuracy (with mean, spread and values, in percent), parameters
    that learn, bytes of what is kept, examples per second.
  """
  pictures.check()  # before hours of training
  known, rows, timed = contestants(), [], {}
  for name in methods:
    accuracies: list[float] = []
    for seed in range(seeds):
      gin_files, own = known[name]
      folder = out / name / f"seed_{seed}"
      settings, summary = _run(gin_files, seed, folder, [*own, *bindings])
      (task,) = summary["tasks"].values()
      accuracies.append(task[settings.learned.name]["accuracy"])
    rows.append(
      {
        "method": name,
        "accuracy": spreads.spread(accuracies),
        "untuned": task["untuned"]["accuracy"],
        "majority": task["majority"]["accuracy"],
        "examples": task["examples"],
        "parameters": _parameters(settings),
        "bytes": _bytes(settings.learned.best(files.path(settings.model_dir))),
      }
    )
    timed[name] = settings
  for row, speed in zip(rows, _speeds(timed), strict=True):
    row["examples_per_second"] = speed
  (out / "methods.json").write_text(json.dumps(rows, indent=2) + "\n")
  (out / "methods.md").write_text(table(rows))
  pictures.methods(rows, out / "methods.svg")
  return rows


def _run(
  gin_files: Sequence[str], seed: int, folder: pathlib.Path, bindings: Sequence[str]
) -> tuple[TrainConfig, dict[str, Any]]:
  """The settings and the summary of one run, which is not repeated once finished."""
  own = [f"MODEL_DIR = {str(folder)!r}", f"RANDOM_SEED = {seed}"]
  settings, text = config.load("train.train", gin_files, [*bindings, *own])
  done, same = folder / "summary.json", folder / "config.gin"
  if done.exists() and same.read_text() == text:
    return settings, json.loads(done.read_text())
  return settings, train.train(settings, text)


def _parameters(settings: TrainConfig) -> int:
  tunable = trees.values(step_shapes.split(settings).tunable)
  return sum(int(shape.size) for shape in tunable.values())


def _bytes(place: epath.Path) -> int:
  """Of a file, or of all in a folder."""
  if place.is_dir():
    return sum(map(_bytes, place.iterdir()))
  return place.stat().length


def _speeds(timed: dict[str, TrainConfig]) -> list[float]:
  """Training examples per second of each, the median of steps that take turns."""
  deeds = {name: _step(settings) for name, settings in timed.items()}
  seconds: dict[str, list[float]] = {name: [] for name in deeds}
  for _ in range(_TIMED):
    for name, deed in deeds.items():
      began = time.perf_counter()
      deed()
      seconds[name].append(time.perf_counter() - began)
  sizes = {name: settings.train_dataset.batch_size for name, settings in timed.items()}
  return [sizes[name] / statistics.median(seconds[name]) for name in deeds]


def _step(settings: TrainConfig) -> Callable[[], None]:
  """One training step on a batch without padding, compiled already."""
  layout = settings.partitioner.layout(settings.train_dataset.batch_size)
  base = settings.learned.load(settings.model, settings.checkpoint, layout)
  model = settings.learned.model(base, settings.vocabulary, jax.random.key(0))
  split = states.Split.of(model)
  optimizer = settings.learned.optimizer(
    settings.optimizer.transformation(settings.learning_rate_fn)
  )
  state = states.create(split, optimizer, jax.random.key(1))
  step = jax.jit(steps.update(split, optimizer, settings.loss))
  shapes = step_shapes.batch(settings, settings.train_dataset.batch_size)
  batch = {name: jnp.ones(x.shape, x.dtype) for name, x in shapes.items()}

  def deed() -> None:
    jax.block_until_ready(step(state, split.frozen, batch))

  deed()
  return deed


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows as a Markdown table; accuracies in percent, mean ± standard deviation."""
  first = rows[0]
  lines = [
    "| method | accuracy | parameters | bytes | examples/s |",
    "|---|---|---|---|---|",
    f"| majority class | {first['majority']:.1f} | | | |",
    f"| untuned | {first['untuned']:.1f} | | | |",
  ]
  lines += [
    f"| {row['method'].replace('_', ' ')} | {spreads.text(row['accuracy'])} | "
    f"{row['parameters']:,} | {row['bytes']:,} | {row['examples_per_second']:.0f} |"
    for row in rows
  ]
  return "\n".join(lines) + "\n"
