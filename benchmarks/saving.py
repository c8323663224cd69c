"""What saving a prompt's run costs against saving its model, as T5X did, in turns.

  python benchmarks/saving.py

The state of a run (prompt, optimizer, step, key) written to disk, and T5 1.1 small in
float32 as a T5X checkpoint of the parameters alone.
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
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states


def prompt_saved(model: T5, folder: pathlib.Path) -> Callable[[], worker.Answer]:
  """Saves the state of a run with a prompt of 100."""
  bank = PromptBank(jnp.zeros((100, ours.CONFIG.d_model)))
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


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=5)
  given = parser.parse_args()
  model = ours.model()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    contestants = {
      "prompt": prompt_saved(model, folder / "run"),
      "model": model_saved(model, folder / "model"),
    }
    found = worker.in_turns(contestants, given.rounds)
  seconds, sizes = (
    {name: [x[what] for x in answers] for name, answers in found.items()}
    for what in ("seconds", "bytes")
  )

  def ratio(what: str, of: dict[str, list[float]], bar: float) -> results.Row:
    times = results.ratios(of["model"], of["prompt"])
    return results.row(f"{what} of saving the model over a prompt's run", times, "x", bar)

  results.write(
    "saving",
    [
      ratio("bytes", sizes, 1000),
      ratio("seconds", seconds, 100),
      results.row("saving a prompt's run", [x * 1e3 for x in seconds["prompt"]], "ms"),
      results.row("saving the model", [x * 1e3 for x in seconds["model"]], "ms"),
      results.row("a prompt's run on disk", [x / 1e3 for x in sizes["prompt"]], "kB"),
      results.row("the model on disk", [x / 1e3 for x in sizes["model"]], "kB"),
    ],
  )


if __name__ == "__main__":
  main()
