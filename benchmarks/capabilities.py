"""What each method can do, found out by doing it: capabilities.json, methods.md of docs/.

  JAX_NUM_CPU_DEVICES=2 python benchmarks/capabilities.py

Every probe runs a method of `configs/methods/` on the embedded model, with changed
variables, and compares. A method that refuses gets its sentence; one that is wrong ends
the program.
"""

import dataclasses
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import (
  Predictor,
  assembly,
  checks,
  config,
  contest,
  files,
  formats,
  partitioning,
  trees,
)
from prompt_tuning.data.packing import Packer
from prompt_tuning.learned import ModelTuning
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts.prompted import PromptedT5, shift_right
from prompt_tuning.sweep_config import SweepConfig
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps

DOCS = pathlib.Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- capabilities -->", "<!-- /capabilities -->"
LENGTHS = {"inputs": 24, "targets": 6}
ROWS = 4


@dataclasses.dataclass(frozen=True)
class Subject:
  """A method with variables that it might have learned.

  Attributes:
    run: Its settings.
    base: The model it steers.
    model: That, steered.
    params: Its variables, not as they start.
  """

  run: TrainConfig
  base: assembly.Base
  model: PromptedT5
  params: dict[str, Any]

  @classmethod
  def of(cls, run: TrainConfig) -> "Subject":
    """The method of a run."""
    layout = run.partitioner.layout(ROWS, jax.devices()[:1])
    base = run.learned.load(run.model, run.checkpoint, layout)
    model = run.learned.model(base, run.vocabulary, jax.random.key(0))
    draw = np.random.default_rng(0)
    params = {
      path: x + 0.05 * np.sqrt(np.mean(np.square(x)) + 1e-2) * draw.normal(size=x.shape)
      for path, x in sorted(trees.values(states.Split.of(model).tunable).items())
    }
    return cls(
      run, base, model, {k: jnp.asarray(x, jnp.float32) for k, x in params.items()}
    )

  def changed(self, model: PromptedT5 | None = None) -> PromptedT5:
    """The steered model (or another of its structure) with the variables."""
    split = states.Split.of(model or self.model)
    return split.merge(self.params, split.frozen)

  def saved(self, folder: str) -> str:
    """The file of its best state in a folder."""
    story = {"base_fingerprint": self.base.fingerprint, "step": 1}
    self.run.learned.save_best(files.path(folder), self.params, story)
    return str(self.run.learned.best(files.path(folder)))


def rows() -> dict[str, np.ndarray]:
  """Examples of different lengths, one a row."""
  draw = np.random.default_rng(1)
  found = {name: np.zeros((ROWS, length), np.int32) for name, length in LENGTHS.items()}
  for row, (inputs, targets) in enumerate([(20, 3), (9, 2), (4, 5), (14, 1)]):
    found["inputs"][row, :inputs] = [*draw.integers(5, 4000, inputs - 1), 1]
    found["targets"][row, :targets] = [*draw.integers(5, 4000, targets - 1), 1]
  return found


def batch() -> dict[str, Any]:
  """T5X's features of `rows`."""
  found = {name: jnp.asarray(x) for name, x in rows().items()}
  return {
    "encoder_input_tokens": found["inputs"],
    "decoder_target_tokens": found["targets"],
    "decoder_input_tokens": shift_right(found["targets"]),
    "decoder_loss_weights": (found["targets"] > 0).astype(jnp.int32),
  }


def loss(subject: Subject, model: PromptedT5, given: Mapping[str, Any]) -> float:
  """The summed loss of a batch."""
  return float(steps.loss_and_sums(model, given, subject.run.loss, None)[0])


def learns(subject: Subject) -> None:
  """One step changes every variable of the method and nothing else."""
  split = states.Split.of(subject.changed())
  run = subject.run
  transformation = run.optimizer.transformation(run.learning_rate_fn)
  optimizer = run.learned.optimizer(transformation)
  state = states.create(split, optimizer, jax.random.key(1))
  after, _ = jax.jit(steps.update(split, optimizer, run.loss))(state, split.frozen, batch())
  for path, value in after.params.items():
    assert not np.array_equal(value, subject.params[path]), path


def packs(subject: Subject) -> None:
  """Packed rows have the loss of rows of one example."""
  example = iter([rows()])
  packed = next(iter(Packer(example, LENGTHS, ROWS, subject.run.packing)))
  model = subject.changed()
  given = {name: jnp.asarray(x) for name, x in packed.items()}
  np.testing.assert_allclose(
    loss(subject, model, given), loss(subject, model, batch()), rtol=1e-5
  )


def shards(subject: Subject) -> None:
  """Two devices, each with half of the weights, find the loss of one."""
  layout = Partitioner(num_partitions=2).layout(ROWS, jax.devices()[:2])
  base = subject.run.learned.load(subject.run.model, subject.run.checkpoint, layout)
  model = subject.run.learned.model(base, subject.run.vocabulary, jax.random.key(0))
  split = states.Split.of(model)
  frozen = layout.place(split.frozen)
  placed = partitioning.shard_batch(
    {name: np.asarray(x) for name, x in batch().items()}, layout.mesh
  )

  @jax.jit
  def found(params: Any, frozen: Any, given: Any) -> Any:
    model = split.merge(params, frozen)
    return steps.loss_and_sums(model, given, subject.run.loss, None)[0]

  expected = loss(subject, subject.changed(), batch())
  params = partitioning.replicate(subject.params, layout.mesh)
  np.testing.assert_allclose(found(params, frozen, placed), expected, rtol=1e-5)


def frozen_in_int8(subject: Subject) -> None:
  """The frozen model may be kept in int8."""
  run = subject.run
  source = dataclasses.replace(run.checkpoint, dtype="int8")
  base = run.learned.load(run.model, source, run.partitioner.layout(1, jax.devices()[:1]))
  model = run.learned.model(base, run.vocabulary, jax.random.key(0))
  found = loss(subject, subject.changed(model), batch())
  np.testing.assert_allclose(found, loss(subject, subject.changed(), batch()), rtol=0.1)


def answers(subject: Subject) -> None:
  """Saved and read again by `eval` and `infer`, it scores as before."""
  if isinstance(subject.run.learned, ModelTuning):
    return  # a checkpoint like any other
  with tempfile.TemporaryDirectory() as folder:
    path = subject.saved(folder)
    file, vocabulary = formats.find_method(path), subject.run.vocabulary
    if file is None:
      read = assembly.with_prompts(subject.base, [path], vocabulary)
    else:
      read = assembly.answering(subject.base, file, vocabulary)
  targets = batch()["decoder_target_tokens"]
  np.testing.assert_allclose(
    read.score(batch()["encoder_input_tokens"], targets),
    subject.changed().score(batch()["encoder_input_tokens"], targets),
    rtol=1e-4,
    atol=1e-4,
  )


def serves(subject: Subject) -> None:
  """A predictor answers with it beside prompts."""
  with tempfile.TemporaryDirectory() as folder:
    path = subject.saved(folder)
    if isinstance(subject.run.learned, ModelTuning):
      formats.load(path)  # it is the model that is served
      return
    Predictor(subject.base, prompts={"it": path}, vocabulary=subject.run.vocabulary)


def sweeps(subject: Subject) -> None:
  """Several at once in one frozen pass."""
  SweepConfig(run=subject.run, seeds=[0, 1]).check()


def banks(subject: Subject) -> None:
  """Several in one bank, each example with its own."""
  learned = subject.run.learned
  if learned.prompt is None:
    raise checks.InputError("it has no prompts, and one set of variables for all examples")
  two = dataclasses.replace(learned.prompt, num_prompts=2)
  run = subject.run
  if hasattr(learned, "method"):
    method = dataclasses.replace(learned.method, prompt=two)
    run = dataclasses.replace(run, learned=dataclasses.replace(learned, method=method))
  else:
    run = dataclasses.replace(run, learned=dataclasses.replace(learned, prompt=two))
  both = Subject.of(run)
  ids = jnp.arange(ROWS, dtype=jnp.int32) % 2
  loss(both, both.changed(), {**batch(), "prompt_ids": ids})


PROBES: dict[str, Callable[[Subject], None]] = {
  "learns": learns,
  "packing": packs,
  "bank": banks,
  "sharding": shards,
  "int8 model": frozen_in_int8,
  "eval, infer": answers,
  "serve": serves,
  "sweep": sweeps,
}


def probed(run: TrainConfig) -> dict[str, str | None]:
  """What a method can do: None where it can, a sentence where it refuses."""
  subject = Subject.of(run)
  found: dict[str, str | None] = {}
  for name, probe in PROBES.items():
    try:
      probe(subject)
      found[name] = None
    except checks.InputError as refusal:
      found[name] = re.sub(r"\S*/(?=\w+\.safetensors)", "", str(refusal))
  return found


def table(found: Mapping[str, Mapping[str, str | None]]) -> str:
  """Methods by capability, and below it what the refusals say."""
  lines = [
    f"| method | {' | '.join(PROBES)} |",
    f"|---|{'---|' * len(PROBES)}",
  ]
  sentences: list[str] = []
  for method, row in found.items():
    cells = []
    for sentence in row.values():
      if sentence is None:
        cells.append("yes")
        continue
      sentence = sentence.replace(method, "...")
      if sentence not in sentences:
        sentences.append(sentence)
      cells.append(f"no ({sentences.index(sentence) + 1})")
    lines.append(f"| {method.replace('_', ' ')} | {' | '.join(cells)} |")
  notes = [f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)]
  return "\n".join([*lines, "", *notes])


def main() -> None:
  """Probes every method and writes."""
  found = {}
  for name, (gin_files, bindings) in contest.contestants().items():
    run, _ = config.load("train.train", gin_files, [*bindings, "MODEL_DIR = ''"])
    found[name] = probed(run)
    print(name, {k: "yes" if v is None else v for k, v in found[name].items()}, flush=True)
  (DOCS / "capabilities.json").write_text(json.dumps(found, indent=2) + "\n")
  text = (DOCS / "methods.md").read_text()
  head, rest = text.split(BEGIN)
  tail = rest.split(END)[1]
  (DOCS / "methods.md").write_text(f"{head}{BEGIN}\n{table(found)}\n{END}{tail}")


if __name__ == "__main__":
  main()
