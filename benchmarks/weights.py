"""What frozen weights in float32, bfloat16 and int8 cost and lose.

  pip install -e '.[demo]'
  python benchmarks/weights.py /tmp/weights --out docs/weights.json

Trains the demo's prompt with each of them and several seeds (runs that are there are not
repeated), lets every prompt answer the test split on every kind of weights, and compares
logits with those of float32 weights and activations: of the embedded model with the prompt
of the first seed on the test split, and of a T5 1.1 small with weights drawn in float32 on
random tokens. The embedded checkpoint is stored in bfloat16.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath

import prompt_tuning as pt
from prompt_tuning import assembly, trees
from prompt_tuning.checkpoints import t5x
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import movie_reviews, vocabularies
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.sequences import shift_right

MODEL = "package://assets/t5_1_1_reviews"
LABELS = list(movie_reviews.LABELS)
WEIGHTS = ("float32", "bfloat16", "int8")
ACTIVATIONS = ("float32", "bfloat16")
MAX_INPUT_LEN = 64
Inputs = tuple[np.ndarray, np.ndarray]  # encoder inputs, targets: [rows, length] int32


def train(folder: pathlib.Path, weights: str, seed: int) -> pathlib.Path:
  """The folder of a finished run of the demo."""
  run = folder / weights / f"seed_{seed}"
  if not (run / "summary.json").exists():
    bindings = {"MODEL_DIR": str(run), "WEIGHT_DTYPE": weights, "RANDOM_SEED": seed}
    subprocess.run(
      [sys.executable, "-m", "prompt_tuning", "train"]
      + ["--gin_file=experiments/movie_reviews.gin"]
      + [f"--gin.{name}={value!r}" for name, value in bindings.items()],
      check=True,
    )
  return run


def accuracy(run: pathlib.Path) -> float:
  """Percent of the test split, of the best prompt of a run."""
  (task,) = json.loads((run / "summary.json").read_text())["tasks"].values()
  return task["prompt"]["accuracy"]


def spread(values: list[float]) -> dict:
  """Mean, standard deviation over seeds, and all."""
  found = {"mean": statistics.fmean(values), "values": values}
  return {**found, "spread": statistics.stdev(values) if len(values) > 1 else 0.0}


def load(path: str, config: pt.T5Config, weights: str, dtype: str) -> assembly.Base:
  """A model with weights and activations of some dtype."""
  config = dataclasses.replace(config, dtype=dtype)
  return assembly.load_base(config, RestoreCheckpointConfig(path=path, dtype=weights))


def answered(base: assembly.Base, runs: Mapping[str, list[pathlib.Path]]) -> dict:
  """Accuracy of all prompts on one model: {weights they were trained on: spread}."""
  names = {
    f"{kind} {i}": str(x) for kind, paths in runs.items() for i, x in enumerate(paths)
  }
  predictor = pt.Predictor(base, names, max_input_len=128, max_output_len=4)
  texts, labels = zip(*movie_reviews.splits()["test"], strict=True)
  expected = [LABELS[label] for label in labels]

  def correct(name: str) -> float:
    answers = predictor.rank(list(texts), [LABELS] * len(texts), name)
    pairs = zip(answers, expected, strict=True)
    return 100 * float(np.mean([answer.text == label for answer, label in pairs]))

  return {
    kind: spread([correct(f"{kind} {i}") for i in range(len(paths))])
    for kind, paths in runs.items()
  }


def reviews() -> Inputs:
  """The test split with both labels as targets, one row each."""
  vocabulary = vocabularies.EMBEDDED.load()

  def rows(texts: list[str], length: int) -> np.ndarray:
    tokens = [[*vocabulary.encode(text), 1][:length] for text in texts]
    return np.array([row + [0] * (length - len(row)) for row in tokens], np.int32)

  texts = [text for text, _ in movie_reviews.splits()["test"] for _ in LABELS]
  return rows(texts, MAX_INPUT_LEN), rows(LABELS * (len(texts) // len(LABELS)), 4)


def logits(model: PromptedT5, rows: Inputs, size: int = 50) -> np.ndarray:
  """[target tokens of all rows, vocab]."""

  @jax.jit
  def run(model: PromptedT5, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    return model.logits(inputs, shift_right(targets), targets)

  found = []
  for first in range(0, len(rows[0]), size):
    inputs, targets = (x[first : first + size] for x in rows)
    found.append(np.asarray(run(model, inputs, targets))[targets > 0])
  return np.concatenate(found)


def compared(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
  """How far logits are from those of float32; divergences in nats per target token."""
  off = np.abs(found - reference)
  p, q = (np.asarray(jax.nn.log_softmax(x), np.float64) for x in (reference, found))
  divergence = np.sum(np.exp(p) * (p - q), axis=-1)
  return {
    "largest difference": float(off.max()),
    "mean difference": float(off.mean()),
    "standard deviation of the logits": float(reference.std()),
    "mean KL divergence": float(divergence.mean()),
    "largest KL divergence": float(divergence.max()),
    "same best token": float(np.mean(found.argmax(-1) == reference.argmax(-1))),
  }


def measured(
  path: str, config: pt.T5Config, bank: pt.PromptBank | None, rows: Inputs
) -> dict:
  """Bytes and differences of logits of one model."""
  sizes, found = {}, {}
  for weights in WEIGHTS:
    for activations in ACTIVATIONS:
      base = load(path, config, weights, activations)
      sizes[weights] = sum(x.nbytes for x in trees.values(base.model).values())
      name = f"{weights} weights, {activations} activations"
      found[name] = logits(PromptedT5(base.model, bank), rows)
      print(name, file=sys.stderr, flush=True)
  reference = found.pop("float32 weights, float32 activations")
  return {
    "bytes": sizes,
    "of float32": {name: size / sizes["float32"] for name, size in sizes.items()},
    "logits": {name: compared(x, reference) for name, x in found.items()},
  }


def drawn(folder: pathlib.Path) -> dict:
  """`measured` of a T5 1.1 small whose weights are drawn."""
  config = pt.T5Config.of_size("t5_1_1", "small")
  path = folder / "t5_1_1_small"
  if not path.exists():
    params = trees.values(pt.T5.random(config, jax.random.key(0)))
    t5x.save(epath.Path(path), params, 0, "float32")
  draw = np.random.default_rng(0)
  rows = [draw.integers(3, config.vocab_size, (64, n)).astype(np.int32) for n in (64, 8)]
  return measured(str(path), config, None, (rows[0], rows[1]))


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("folder", type=pathlib.Path, help="where runs and models go")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--seeds", type=int, default=3)
  given = parser.parse_args()
  given.folder.mkdir(parents=True, exist_ok=True)
  runs: dict[str, list[pathlib.Path]] = {weights: [] for weights in WEIGHTS}
  for seed in range(given.seeds):
    for weights in WEIGHTS:
      runs[weights].append(train(given.folder, weights, seed))
  trained = {name: spread([accuracy(run) for run in each]) for name, each in runs.items()}
  config = pt.T5Config.from_gin("models/t5_1_1_reviews.gin")
  bank = pt.PromptBank(np.asarray(pt.load_prompt(str(runs["float32"][0]))))
  results = {
    "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
    "versions": {name: importlib.metadata.version(name) for name in ("jax", "flax")},
    "test accuracy": trained,
    "lost against float32": {
      name: trained["float32"]["mean"] - found["mean"] for name, found in trained.items()
    },
    "test accuracy on other weights": {
      f"{weights} weights, {activations} activations": answered(
        load(MODEL, config, weights, activations), runs
      )
      for weights in WEIGHTS
      for activations in ACTIVATIONS
    },
    "embedded model": measured(MODEL, config, bank, reviews()),
    "T5 1.1 small, weights drawn": drawn(given.folder),
  }
  given.out.write_text(json.dumps(results, indent=2) + "\n")
  print(json.dumps(results, indent=2))


if __name__ == "__main__":
  main()
