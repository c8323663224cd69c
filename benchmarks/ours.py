"""Our training step in a process of its own; see `worker`.

A case is a prompt, how a batch is laid out, and examples:

  padded 100   prompt of 100, 16 examples padded to 512, as the original does
  packed 100   the same in rows of 612 places that several examples share
  padded 20    prompt of 20
  packed 20    prompt of 20
  blind 100    prompt of 100 that does not see the inputs, which is then encoded once
  equal        prompt of 100, 8 examples of 128 random tokens

An answer: {"seconds", of which "waiting" for the batch, "examples", "places" of tokens and
prompts in the encoder, padding included}.
"""

import argparse
import functools
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator, Set

import worker

if __name__ == "__main__":
  worker.on_two_cores()

import jax
import jax.numpy as jnp
import mixture
import numpy as np
import optax

from prompt_tuning import throughput
from prompt_tuning.data.packing import Packer, Packing
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule
from prompt_tuning.types import Initializer, Shape

CONFIG = T5Config.of_size("t5_1_1", "small", dtype="float32", dropout_rate=0.0)
BLIND = masks.FULL - {masks.PROMPT_TO_INPUT}
SKIPPED = 20  # batches
Batch = dict[str, np.ndarray]


def optimizer() -> optax.GradientTransformation:
  """Adafactor as prompts are trained with it."""
  schedule = Schedule(factors="constant", base_learning_rate=0.3)
  one = Adafactor(multiply_by_parameter_scale=False)
  return states.over_bank(one.transformation(schedule))


def padded(examples: Iterator[mixture.Example], rows: int, targets: int) -> Iterator[Batch]:
  """Batches of rows that hold one example each."""
  for chunk in chunks(examples, rows, targets):
    decoder = chunk["targets"]
    yield {
      "encoder_input_tokens": chunk["inputs"],
      "decoder_target_tokens": decoder,
      "decoder_input_tokens": np.pad(decoder, ((0, 0), (1, 0)))[:, :-1],
      "decoder_loss_weights": (decoder > 0).astype(np.int32),
    }


def packed(
  examples: Iterator[mixture.Example], rows: int, targets: int, prompt_len: int
) -> Iterator[Batch]:
  """Batches of rows that hold several, from when as long ones go into rows as come.

  The first rows are filled from what is pending, and longer ones stay behind.
  """
  lengths = {"inputs": mixture.LONGEST, "targets": targets}
  packing = Packing(prompt_len=prompt_len)
  batches = Packer(chunks(examples, 32, targets), lengths, rows, packing)
  return itertools.islice(batches, SKIPPED, None)


def chunks(examples: Iterator[mixture.Example], rows: int, targets: int) -> Iterator[Batch]:
  """Examples as arrays, zeros at their ends."""
  while some := list(itertools.islice(examples, rows)):
    found = {
      "inputs": np.zeros((len(some), mixture.LONGEST), np.int32),
      "targets": np.zeros((len(some), targets), np.int32),
    }
    for i, example in enumerate(some):
      found["inputs"][i, : len(example.inputs)] = example.inputs
      found["targets"][i, : len(example.targets)] = example.targets
    yield found


def random_examples() -> Iterator[mixture.Example]:
  """128 tokens each, and targets of 16."""
  draw = np.random.default_rng(0)
  while True:
    targets = [*draw.integers(3, 32000, 15).tolist(), mixture.EOS]
    yield mixture.Example(draw.integers(3, 32000, 128).tolist(), targets)


def equal() -> Iterator[Batch]:
  """8 random examples a batch, without padding."""
  for batch in padded(random_examples(), 8, 16):
    yield {**batch, "encoder_input_tokens": batch["encoder_input_tokens"][:, :128]}


class Contestant:
  """A prompt that learns from batches.

  Args:
    model: The frozen model.
    prompt_len: Length of its prompt.
    batches: What it learns from.
    visibility: See `masks`.
  """

  def __init__(
    self,
    model: T5,
    prompt_len: int,
    batches: Iterator[Batch],
    visibility: Set[str] = masks.FULL,
  ):
    prompt = jax.random.normal(jax.random.key(1), (prompt_len, CONFIG.d_model))
    split = states.Split.of(PromptedT5(model, PromptBank(prompt), visibility=visibility))
    self._state = states.create(split, optimizer(), jax.random.key(2))
    self._step = steps.train_step(split, optimizer(), Loss())
    self._frozen, self._batches = split.frozen, batches
    # Rows of one example, and those whose examples share a prompt, have no slots in them.
    self._prompt_len = prompt_len

  def __call__(self) -> worker.Answer:
    """One step."""
    began = time.perf_counter()
    batch = next(self._batches)
    waiting = time.perf_counter() - began
    self._state, sums = self._step(self._state, self._frozen, batch)
    jax.block_until_ready((self._state.params, sums))
    tokens, is_packed = batch["encoder_input_tokens"], "encoder_segment_ids" in batch
    return {
      "seconds": time.perf_counter() - began,
      "waiting": waiting,
      "examples": int((batch["decoder_target_tokens"] == mixture.EOS).sum()),
      "places": tokens.size + (0 if is_packed else len(tokens) * self._prompt_len),
    }


@functools.cache
def model(config: T5Config = CONFIG) -> T5:
  """T5 1.1 small or another, with weights as if from a file: no compiler draws them."""
  draw = np.random.default_rng(0)

  def source(path: str, shape: Shape, init: Initializer) -> jax.Array:
    del path, init
    if len(shape) == 1:  # of a norm
      return jnp.ones(shape)
    return jnp.asarray(draw.normal(0, 0.04, shape).astype(np.float32))

  return T5(config, Parameters.here(source))


def contestant(case: str, vocabulary: str) -> Contestant:
  """That of a case."""
  if case == "equal":
    return Contestant(model(), 100, equal())
  examples = mixture.stream(mixture.examples(vocabulary))
  if case == "padded 100":
    return Contestant(model(), 100, padded(examples, 16, 16))
  if case == "padded 20":
    return Contestant(model(), 20, padded(examples, 16, 16))
  if case == "packed 100":
    return Contestant(model(), 100, packed(examples, 6, 16, 100))
  if case == "packed 20":
    return Contestant(model(), 20, packed(examples, 5, 32, 20))
  if case == "blind 100":
    return Contestant(model(), 100, packed(examples, 5, 32, 0), BLIND)
  raise SystemExit(f"no case {case!r}")


def peak() -> worker.Answer:
  """Operations per second of a matrix product."""
  return {"flops_per_second": throughput.matmul_peak("float32")}


def main() -> None:
  """Answers."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--vocabulary", default="")
  parser.add_argument("--cache", type=pathlib.Path, help="of compiled steps")
  parser.add_argument("cases", nargs="+")
  given = parser.parse_args()
  if given.cache:
    jax.config.update("jax_compilation_cache_dir", str(given.cache))
  deeds: dict[str, Callable[[], worker.Answer]] = {
    case: contestant(case, given.vocabulary) for case in given.cases
  }
  worker.answer(deeds | {"peak": peak, "memory": worker.memory})


if __name__ == "__main__":
  main()
