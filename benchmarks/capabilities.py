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
from prompt_tuning.checkpoints import prompt_files, run_state
from prompt_tuning.data.packing import Packer
from prompt_tuning.learned import ModelTuning
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.sequences import shift_right
from prompt_tuning.sweep_config import SweepConfig
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps

DOCS = pathlib.Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- capabilities -->", "<!-- /capabilities -->"
LENGTHS = {"inputs": 24, "targets": 6}
ROWS = 4
(DEMO,) = contest.PAPER["prompt"]
PARTS = ("models/t5_1_1_reviews_prompt.gin", "runs/prompt_finetune.gin")  # of the demo
SOURCE_SHAPE = (20, 256)  # of the demo's prompt
OF_USER = ["MODEL_DIR", "MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS", "TRAIN_STEPS"]


@dataclasses.dataclass(frozen=True)
class Subject:
  """A method with variables that it might have learned.

  Attributes:
    gin: Its files and bindings.
    run: Its settings.
    base: The model it steers.
    model: That, steered.
    params: Its variables, not as they start.
  """

  gin: contest.Files
  run: TrainConfig
  base: assembly.Base
  model: PromptedT5
  params: dict[str, Any]

  @classmethod
  def of(cls, gin: contest.Files, run: TrainConfig | None = None) -> "Subject":
    """The method of gin files, or of a run that they are changed to."""
    if run is None:
      run, _ = config.load("train.train", gin[0], [*gin[1], "MODEL_DIR = ''"])
    layout = run.partitioner.layout(ROWS, jax.devices()[:1])
    base = run.learned.load(run.model, run.checkpoint, layout)
    model = run.learned.model(base, run.vocabulary, jax.random.key(0))
    draw = np.random.default_rng(0)
    params = {
      path: x + 0.05 * np.sqrt(np.mean(np.square(x)) + 1e-2) * draw.normal(size=x.shape)
      for path, x in sorted(trees.values(states.Split.of(model).tunable).items())
    }
    arrays = {path: jnp.asarray(x, jnp.float32) for path, x in params.items()}
    return cls(gin, run, base, model, arrays)

  def changed(self, model: PromptedT5 | None = None) -> PromptedT5:
    """The steered model (or another of its structure) with the variables."""
    split = states.Split.of(model or self.model)
    return split.merge(self.params, split.frozen)

  def saved(self, folder: str) -> str:
    """The file of its best state in a folder."""
    story = {"base_fingerprint": self.base.fingerprint, "step": 1}
    self.run.learned.save_best(files.path(folder), self.params, story)
    return str(self.run.learned.best(files.path(folder)))


def rows(subject: Subject) -> dict[str, np.ndarray]:
  """Examples of different lengths, one a row, behind sentinels where these choose."""
  draw = np.random.default_rng(1)
  found = {name: np.zeros((ROWS, length), np.int32) for name, length in LENGTHS.items()}
  for row, (inputs, targets) in enumerate([(20, 3), (9, 2), (4, 5), (14, 1)]):
    found["inputs"][row, :inputs] = [*draw.integers(5, 4000, inputs - 1), 1]
    found["targets"][row, :targets] = [*draw.integers(5, 4000, targets - 1), 1]
  if subject.model.steering.sentinel is not None:
    last = subject.run.vocabulary.load().vocab_size - 1
    found["inputs"][:, 0] = last - np.arange(ROWS)
  return found


def batch(subject: Subject) -> dict[str, Any]:
  """T5X's features of `rows`."""
  found = {name: jnp.asarray(x) for name, x in rows(subject).items()}
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
  step = jax.jit(steps.update(split, optimizer, run.loss))
  after, _ = step(state, split.frozen, batch(subject))
  for path, value in after.params.items():
    assert not np.array_equal(value, subject.params[path]), path


def resumes(subject: Subject) -> None:
  """Saved after a step and restored, a run goes on as one that was not interrupted."""
  split, run = states.Split.of(subject.changed()), subject.run
  transformation = run.optimizer.transformation(run.learning_rate_fn)
  optimizer = run.learned.optimizer(transformation)
  step = jax.jit(steps.update(split, optimizer, run.loss))
  given = batch(subject)
  first, _ = step(states.create(split, optimizer, jax.random.key(1)), split.frozen, given)
  expected, _ = step(first, split.frozen, given)
  with tempfile.TemporaryDirectory() as folder:
    place = files.path(folder)
    with run_state.Saver(place) as saver:
      saver.save(1, first, {})
    restored = run_state.load(place, 1).onto(first)
  found, _ = step(restored, split.frozen, given)
  jax.tree.map(
    lambda one, other: np.testing.assert_array_equal(one, other, strict=True),
    (found.params, found.opt_state, found.step),
    (expected.params, expected.opt_state, expected.step),
  )


def loads(subject: Subject) -> None:
  """Its file says the same in front of the run's and behind it."""
  gin_files, bindings = subject.gin
  if not gin_files[-1].startswith("methods/"):
    return  # it is a run itself
  (model, run), own = PARTS, gin_files[-1]
  rest = [*bindings, *(f"{name} = None" for name in OF_USER)]
  behind, _ = config.load("train.train", [model, run, own], rest)
  before, _ = config.load("train.train", [model, own, run], rest)
  assert before == behind, own


def packs(subject: Subject) -> None:
  """Packed rows have the loss of rows of one example."""
  example = iter([rows(subject)])
  packed = next(iter(Packer(example, LENGTHS, ROWS, subject.run.packing)))
  model = subject.changed()
  given = {name: jnp.asarray(x) for name, x in packed.items()}
  np.testing.assert_allclose(
    loss(subject, model, given), loss(subject, model, batch(subject)), rtol=1e-5
  )


def shards(subject: Subject) -> None:
  """Two devices, each with half of the weights, find the loss of one."""
  layout = Partitioner(num_partitions=2).layout(ROWS, jax.devices()[:2])
  base = subject.run.learned.load(subject.run.model, subject.run.checkpoint, layout)
  model = subject.run.learned.model(base, subject.run.vocabulary, jax.random.key(0))
  split = states.Split.of(model)
  frozen = layout.place(split.frozen)
  placed = partitioning.shard_batch(
    {name: np.asarray(x) for name, x in batch(subject).items()}, layout.mesh
  )

  @jax.jit
  def found(params: Any, frozen: Any, given: Any) -> Any:
    model = split.merge(params, frozen)
    return steps.loss_and_sums(model, given, subject.run.loss, None)[0]

  expected = loss(subject, subject.changed(), batch(subject))
  params = partitioning.replicate(subject.params, layout.mesh)
  np.testing.assert_allclose(found(params, frozen, placed), expected, rtol=1e-5)


def frozen_in_int8(subject: Subject) -> None:
  """The frozen model may be kept in int8."""
  run = subject.run
  source = dataclasses.replace(run.checkpoint, dtype="int8")
  base = run.learned.load(run.model, source, run.partitioner.layout(1, jax.devices()[:1]))
  model = run.learned.model(base, run.vocabulary, jax.random.key(0))
  found = loss(subject, subject.changed(model), batch(subject))
  expected = loss(subject, subject.changed(), batch(subject))
  np.testing.assert_allclose(found, expected, rtol=0.1)


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
  given = batch(subject)
  inputs, targets = given["encoder_input_tokens"], given["decoder_target_tokens"]
  np.testing.assert_allclose(
    read.score(inputs, targets),
    subject.changed().score(inputs, targets),
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
  both = Subject.of(subject.gin, run)
  ids = jnp.arange(ROWS, dtype=jnp.int32) % 2
  loss(both, both.changed(), {**batch(subject), "prompt_ids": ids})


PROBES: dict[str, Callable[[Subject], None]] = {
  "learns": learns,
  "save, resume": resumes,
  "gin": loads,
  "packing": packs,
  "bank": banks,
  "sharding": shards,
  "int8 model": frozen_in_int8,
  "eval, infer": answers,
  "serve": serves,
  "sweep": sweeps,
}


def subjects(folder: str) -> dict[str, contest.Files]:
  """Every method, {name: its files and bindings}.

  Args:
    folder: For the trained prompt that one needs.
  """
  source = f"{folder}/source.npy"
  prompt_files.save_prompt(source, np.random.default_rng(0).normal(size=SOURCE_SHAPE))
  return {
    **contest.contestants(),
    "attempt": ([DEMO, "methods/attempt.gin"], [f"SOURCE_PROMPTS = [{source!r}]"]),
    "multi_task": ([DEMO, "methods/multi_task.gin"], []),
  }


def probed(gin: contest.Files) -> dict[str, str | None]:
  """What a method can do: None where it can, a sentence where it refuses."""
  subject = Subject.of(gin)
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
  with tempfile.TemporaryDirectory() as folder:
    for name, gin in subjects(folder).items():
      found[name] = probed(gin)
      shown = {what: "yes" if no is None else no for what, no in found[name].items()}
      print(name, shown, flush=True)
  (DOCS / "capabilities.json").write_text(json.dumps(found, indent=2) + "\n")
  text = (DOCS / "methods.md").read_text()
  head, rest = text.split(BEGIN)
  tail = rest.split(END)[1]
  (DOCS / "methods.md").write_text(f"{head}{BEGIN}\n{table(found)}\n{END}{tail}")


if __name__ == "__main__":
  main()
