"""What saving a prompt's run costs against saving its model, as T5X did, in turns.

  python benchmarks/saving.py

The state of a run (prompt, optimizer, step, key) written to disk, and T5 1.1 small and base
in float32 as T5X checkpoints of the parameters alone.
"""

import argparse
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ours
import results
import worker
from etils import epath

from prompt_tuning import trees
from prompt_tuning.checkpoints import run_state, t5x
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states


def prompt_saved(model: T5, folder: pathlib.Path) -> Callable[[], worker.Answer]:
  """Saves the state of a run with a prompt of 100."""
  bank = PromptBank(jnp.zeros((100, model.config.d_model)))
  split = states.Split.of(PromptedT5(model, bank))
  state = states.create(split, ours.optimizer(), jax.random.key(0))
  saver, counter = run_state.Saver(epath.Path(folder)), itertools.count(1)

  def save() -> worker.Answer:
    began = time.perf_counter()
    size = saver.save(next(counter), state, {})
    saver.wait()
    return {"seconds": time.perf_counter() - began, "bytes": size}

  return save


def model_saved(model: T5, folder: pathlib.Path) -> Callable[[], worker.Answer]:
  """Saves the model."""
  params, counter = trees.values(model), itertools.count(1)

  def save() -> worker.Answer:
    began = time.perf_counter()
    path = t5x.save(epath.Path(folder), params, next(counter))
    seconds = time.perf_counter() - began
    size = sum(p.stat().st_size for p in pathlib.Path(path).rglob("*") if p.is_file())
    path.rmtree()
    return {"seconds": seconds, "bytes": size}

  return save


def measured(size: str, rounds: int) -> list[results.Row]:
  """Both saves of a size in turns."""
  model = ours.model(T5Config.of_size("t5_1_1", size))
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    contestants = {
      "prompt": prompt_saved(model, folder / "run"),
      "model": model_saved(model, folder / "model"),
    }
    found = worker.in_turns(contestants, rounds)
  seconds, sizes = (
    {name: [x[what] for x in answers] for name, answers in found.items()}
    for what in ("seconds", "bytes")
  )

  def ratio(what: str, of: dict[str, list[float]], bar: float) -> results.Row:
    times = results.ratios(of["model"], of["prompt"])
    return results.row(f"{what} of saving {size} over its prompt's run", times, "x", bar)

  return [
    ratio("bytes", sizes, 1000),
    ratio("seconds", seconds, 100),
    *(
      results.row(f"saving {name} of {size}", [x * 1e3 for x in each], "ms")
      for name, each in seconds.items()
    ),
    *(
      results.row(f"{name} of {size} on disk", [x / 1e3 for x in each], "kB")
      for name, each in sizes.items()
    ),
  ]


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=5)
  given = parser.parse_args()
  rows = [row for size in ("small", "base") for row in measured(size, given.rounds)]
  results.write("saving", rows)


if __name__ == "__main__":
  main()
