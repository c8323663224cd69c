"""Pretraining: all weights of a T5, from token arrays, without TensorFlow.

MODEL_DIR/
  config.gin  metrics.jsonl  train/   what ran, its numbers, and for TensorBoard
  run_state/                          to continue after an interruption
  checkpoint_<step>/                  the weights, in T5X's format
  pretraining.json                    tokens seen, held-out losses, speed, hashes

What a step sees depends on seed and step only, so a run that is killed continues with the
same batches.
"""

import dataclasses
import itertools
import json
import pathlib
import platform
import statistics
import sys
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

from prompt_tuning import (
  __version__,
  assembly,
  checks,
  distributed,
  files,
  loop,
  metrics_log,
  partitioning,
  throughput,
  trees,
)
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data import token_arrays
from prompt_tuning.data.token_arrays import TokenArrays
from prompt_tuning.models import parameters
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.t5 import T5
from prompt_tuning.pretrain_config import PretrainConfig
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss
from prompt_tuning.types import Tunable


@dataclasses.dataclass
class Memory:
  """What the loop remembers between steps; it travels with the run state.

  Attributes:
    identity: See `PretrainConfig.identity`.
    meter: Work done so far, over all processes.
    peaks: Matrix-product speed of the machine, measured at each evaluation.
    held_out: Latest numbers of the held-out rows.
    sums: By objective, of the steps since the last row of metrics.
  """

  identity: dict[str, str]
  meter: dict[str, Any]
  peaks: list[float]
  held_out: dict[str, float]
  sums: dict[str, list] = dataclasses.field(default_factory=dict)


def pretrain(config: PretrainConfig, config_text: str = "") -> dict[str, Any]:
  """Runs to the end, from wherever an earlier process was interrupted.

  Args:
    config: The run.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    The summary, as written to `pretraining.json`.

  Raises:
    InputError: The tokens or the checkpoint cannot be used, or a weight became NaN.
    Preempted: The process was told to stop (SIGTERM) and has saved.
  """
  folder = files.output_folder(config.model_dir, "MODEL_DIR")
  distributed.share(folder, "MODEL_DIR")
  with loop.session(folder) as session:
    run = _Run(config, session)
    if run.writes:
      (folder / "config.gin").write_text(config_text)
    run.train()
    return run.finish()


class _Run:
  """The objects of a run, and what its loop asks of them (`loop.Work`)."""

  stopped = False  # there is no patience
  examples = 0  # pieces of texts, which say little

  def __init__(self, config: PretrainConfig, session: loop.Session):
    self.config, self.session, self.folder = config, session, session.folder
    place = pathlib.Path(config.tokens).expanduser()
    manifest = token_arrays.manifest(place)
    config.check_vocabulary(manifest["vocabulary"])
    self.arrays = {
      split: [_rows(place, manifest, o.name, split) for o in config.objectives]
      for split in token_arrays.SPLITS
    }
    self.layout = config.partitioner.layout(
      int(np.gcd.reduce([o.batch_size for o in config.objectives]))
    )
    self.mesh, self.writes = self.layout.mesh, distributed.is_first()
    key_init, key_train = jax.random.split(jax.random.key(config.random_seed))
    model, base, self.first = self._start(key_init)
    self.manifest_hash = files.sha256(place / token_arrays.MANIFEST)
    self.memory = Memory(config.identity(self.manifest_hash, base), {}, [], {})
    self.split = states.Split.of(PromptedT5(model))
    self.frozen = self.layout.place(self.split.frozen)
    transformation = config.optimizer.transformation(config.learning_rate_fn)
    state = states.create(self.split, transformation, key_train, self.first)
    shardings = self.layout.like(state, trees.flat_variables(self.split.tunable))
    self.state = partitioning.put(self._resumed(state), shardings)
    self.meter = throughput.Meter(**self.memory.meter)
    self.began: float | None = None  # of the steps that are being measured
    self.step_fn = steps.train_step(
      self.split, transformation, config.loss, shardings=shardings
    )
    self.eval_fn = steps.eval_step(self.split, Loss(z_loss=0.0))  # nats per token
    self.drawn, self.counted = token_arrays.draws(
      [o.rate for o in config.objectives], config.total_steps, config.random_seed
    )

  def _start(self, key: jax.Array) -> tuple[T5, str, int]:
    """The model to train, the fingerprint of what it starts from, and its step."""
    if self.config.checkpoint is None:
      return self._random(key), "none", 0
    base = assembly.load_base(
      self.config.model, self.config.checkpoint, Tunable, self.layout
    )
    assert isinstance(base.model, T5)
    return base.model, base.fingerprint, base.step

  def _random(self, key: jax.Array) -> T5:
    """A fresh model, each of its weights drawn where it lies."""
    self.layout.check(trees.flat_variables(T5.abstract(self.config.model)))
    source = parameters.random_from(key)
    constrain = self.layout.constrain
    model = T5(self.config.model, Parameters(source, Tunable, constrain=constrain))
    graph, weights = nnx.split(model)
    return nnx.merge(graph, self.layout.place(weights))

  def _resumed(self, state: states.TrainState) -> states.TrainState:
    found = self.session.resumed(self.memory.identity)
    if found is None:
      return state
    self.memory = Memory(**found.memory)
    return found.onto(state)

  def train(self) -> None:
    """Runs the loop from where it stands."""
    config, done = self.config, int(self.state.step)
    last = self.first + config.total_steps
    if done > last:
      raise checks.InputError(
        f"{self.folder} is at step {done} already, TRAIN_STEPS ends at {last}, expected a "
        "later step; raise TRAIN_STEPS or choose another MODEL_DIR"
      )
    periods = loop.Periods(
      first=self.first,
      last=last,
      stats=config.stats_period,
      evaluate=config.eval_period,
      save=config.save_period,
    )
    self.session.run(self, periods, done, "pretrain")

  def log(self, done: int) -> metrics_log.MetricsLog:
    """See `loop.Work`."""
    return metrics_log.MetricsLog(self.folder, done)

  def stats(self, done: int) -> loop.Values:
    """See `loop.Work`."""
    values, self.memory.sums = _row(self.memory.sums, "loss"), {}
    self._pause()
    return values

  def shown(self, values: loop.Values) -> loop.Values:
    """See `loop.Work`."""
    return values

  def evaluate(self, done: int) -> loop.Values:
    """See `loop.Work`."""
    self._pause()
    self.memory.held_out = self._held_out()
    peak = throughput.matmul_peak(self.config.model.dtype) * self.mesh.size
    self.memory.peaks.append(peak)
    return self.memory.held_out

  def _pause(self) -> None:
    """Ends the time that counts as training; the next step begins it anew."""
    if self.began is not None:
      jax.block_until_ready(self.state)
      self.meter.seconds += time.perf_counter() - self.began
      self.began = None

  def step(self, done: int) -> steps.Sums:
    """See `loop.Work`."""
    if self.began is None:
      self.began = time.perf_counter()
    index = done - self.first
    which = int(self.drawn[index])
    objective = self.config.objectives[which]
    batch = self.arrays["train"][which].batch(
      int(self.counted[index]), objective.batch_size, self.config.random_seed
    )
    self._count(batch)
    self.state, found = self.step_fn(
      self.state, self.frozen, partitioning.shard_batch(batch, self.mesh)
    )
    self.memory.sums.setdefault(objective.name, []).append(found)
    return found

  def _count(self, batch: token_arrays.Batch) -> None:
    inputs, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
    self.meter.steps += 1
    self.meter.positions += inputs.size + targets.size
    self.meter.tokens += int(np.count_nonzero(inputs) + np.count_nonzero(targets))
    self.meter.flops += throughput.training_flops(
      self.config.model, len(inputs), inputs.shape[1], targets.shape[1]
    )

  def _held_out(self) -> dict[str, float]:
    """Loss per target token and accuracy of rows that are never trained on, if any."""
    found = {}
    for objective, arrays in zip(
      self.config.objectives, self.arrays["validation"], strict=True
    ):
      batches = arrays.in_order(objective.batch_size)
      found[objective.name] = [
        self.eval_fn(self.state.params, self.frozen, partitioning.shard_batch(b, self.mesh))
        for b in itertools.islice(batches, self.config.eval_steps)
      ]
    found = {name: sums for name, sums in found.items() if sums}
    values = _row(found, "loss_per_nonpadding_target_token")
    return {f"held_out/{name}": value for name, value in values.items()}

  def save(self, done: int) -> None:
    """See `loop.Work`."""
    self._pause()
    if not states.is_finite(self.state):
      raise checks.InputError(
        f"the weights are not numbers at step {done}, expected finite ones; choose another "
        "MODEL_DIR with a lower learning rate"
      )
    self.memory.meter = dataclasses.asdict(self.meter)
    self.memory.sums = {
      name: [{key: float(value) for key, value in row.items()} for row in rows]
      for name, rows in jax.device_get(self.memory.sums).items()
    }
    self.session.saver.save(done, self.state, dataclasses.asdict(self.memory))

  def finish(self) -> dict[str, Any]:
    """Writes the checkpoint and returns the summary."""
    params = {
      p.removeprefix("model/"): trees.to_host(v) for p, v in self.state.params.items()
    }
    step = int(self.state.step)
    if self.writes:
      t5x.save(self.folder, params, step, self.config.save_dtype)
    peak = statistics.median(self.memory.peaks)
    summary = {
      "step": step,
      "steps": self.meter.steps,
      "parameters": sum(int(np.prod(value.shape)) for value in params.values()),
      "tokens": self.meter.tokens,
      "positions": self.meter.positions,
      "seconds": self.meter.seconds,
      **self.meter.report(peak),
      "held_out": self.memory.held_out,
      "identity": self.memory.identity,
      "tokens_manifest_sha256": self.manifest_hash,
      "library_version": __version__,
      "jax": jax.__version__,
      "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}, "
      f"{platform.machine()}",
    }
    if self.writes:
      text = json.dumps(summary, indent=2) + "\n"
      files.write_atomically(self.folder / "pretraining.json", text.encode())
    return summary


def _rows(
  folder: pathlib.Path, manifest: dict[str, Any], name: str, split: str
) -> TokenArrays:
  """The token arrays that the manifest tells of, with something to train on."""
  found = TokenArrays.read(folder, name, split)
  expected = manifest["objectives"].get(name, {}).get(split, {}).get("rows")
  if found.rows != expected or (split == "train" and not found.rows):
    raise checks.InputError(
      f"the token arrays of {name!r} in {folder} have {found.rows} {split} rows, expected "
      f"the manifest's {expected}, and one to train on; run `prompt-tuning tokens` again"
    )
  return found


def _row(sums: dict[str, list], loss: str) -> dict[str, float]:
  """One kind of loss, and the accuracy, by objective."""
  found = {kind: Loss.metrics(jax.device_get(rows)) for kind, rows in sums.items()}
  return {
    f"{kind}/{name}": values[key]
    for kind, values in found.items()
    for name, key in (("loss", loss), ("accuracy", "accuracy"))
  }


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["pretrain", *sys.argv[1:]]))
