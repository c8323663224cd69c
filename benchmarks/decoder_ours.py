"""Our training step of SmolLM2 in a process of its own; see `worker` and `decoder_speed`.

padded 10    prompt of 10, examples padded to the longest of a batch, in steps of 8
packed 10    the same in rows of 256 places that several examples share
padded 50    prompt of 50
packed 50    prompt of 50
"""

import argparse
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator

import worker

if __name__ == "__main__":
  worker.on_two_cores()

import jax
import numpy as np
import ours
import review_tokens

from prompt_tuning import assembly, model_configs
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.packing import Packer, Packing
from prompt_tuning.models.llama import Llama
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted_lm import PromptedLM
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

ROWS = 4  # of a packed batch, about as many examples as `review_tokens.BATCH`
PLACES, TARGETS = 256, 24  # of each
_SKIPPED = 10  # batches, until rows are filled from examples of all lengths
_LONGEST = 128
Batch = dict[str, np.ndarray]


def packed(examples: Iterator[review_tokens.Example]) -> Iterator[Batch]:
  """Batches of rows that hold several; all share the prompt, which needs no place."""
  lengths = {"inputs": PLACES, "targets": TARGETS}
  batches = Packer(chunks(examples), lengths, ROWS, Packing(prompt_len=0))
  for _ in range(_SKIPPED):
    next(batches)
  return batches


def chunks(examples: Iterator[review_tokens.Example]) -> Iterator[Batch]:
  """Examples as arrays, zeros at their ends."""
  while True:
    found = {
      "inputs": np.zeros((review_tokens.BATCH, _LONGEST), np.int32),
      "targets": np.zeros((review_tokens.BATCH, 2), np.int32),
    }
    for i, example in enumerate(itertools.islice(examples, review_tokens.BATCH)):
      found["inputs"][i, : len(example.inputs)] = example.inputs
      found["targets"][i, : len(example.targets)] = example.targets
    yield found


class Contestant:
  """A prompt that learns from batches.

  Args:
    model: The frozen model.
    prompt_len: Length of its prompt.
    batches: What it learns from.
  """

  def __init__(self, model: Llama, prompt_len: int, batches: Iterator[Batch]):
    shape = (prompt_len, model.config.d_model)
    prompt = 0.1 * jax.random.normal(jax.random.key(1), shape)
    split = states.Split.of(PromptedLM(model, PromptBank(prompt), masks.CAUSAL))
    self._state = states.create(split, ours.optimizer(), jax.random.key(2))
    self._step = steps.train_step(split, ours.optimizer(), Loss(z_loss=0.0))
    self._frozen, self._batches = split.frozen, batches

  def __call__(self) -> worker.Answer:
    """One step."""
    began = time.perf_counter()
    batch = next(self._batches)
    waiting = time.perf_counter() - began
    self._state, sums = self._step(self._state, self._frozen, batch)
    jax.block_until_ready((self._state.params, sums))
    return {
      "seconds": time.perf_counter() - began,
      "waiting": waiting,
      "examples": int((batch["decoder_target_tokens"] == 1).sum()),
      "loss": float(sums["loss"]),
    }


def main() -> None:
  """Answers."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--texts", type=pathlib.Path, required=True)
  parser.add_argument("--cache", help="of compiled steps")
  parser.add_argument("cases", nargs="+")
  given = parser.parse_args()
  if given.cache:
    jax.config.update("jax_compilation_cache_dir", given.cache)
  source = RestoreCheckpointConfig(path=review_tokens.MODEL)
  config = model_configs.of_checkpoint(review_tokens.MODEL)
  model = assembly.load_base(config, source, layout=Partitioner().layout(ROWS)).model

  def contestant(case: str) -> Contestant:
    batches = packed(review_tokens.read(given.texts, "ours"))
    return Contestant(model, int(case.removeprefix("packed ")), batches)

  deeds: dict[str, Callable[[], worker.Answer]] = {c: contestant(c) for c in given.cases}
  worker.answer(deeds | {"memory": worker.memory})


if __name__ == "__main__":
  main()
