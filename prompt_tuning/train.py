"""Training: a prompt for a frozen model or the model itself, evaluated and resumable.

MODEL_DIR/
  config.gin  model-info.txt             what ran
  metrics.jsonl  train/                  numbers of the run, and for TensorBoard
  inference_eval/<task>-metrics.jsonl    seqio's metrics, with predictions beside them
  inference_eval/<task>/                 the metrics for TensorBoard
  run_state/                             to continue after an interruption
  numpy_checkpoints/                     the prompt at every save
  prompt.safetensors  (or best/)         the best prompt (or model)
  summary.json                           how good it is
"""

import dataclasses
import json
import sys
from typing import Any

import jax
import numpy as np

from prompt_tuning import (
  assembly,
  checks,
  distributed,
  files,
  judge,
  loop,
  method_tuning,
  metrics_log,
  partitioning,
  progress,
  step_shapes,
  trees,
)
from prompt_tuning.ahead import Ahead
from prompt_tuning.best import Best, overall
from prompt_tuning.checkpoints import run_state
from prompt_tuning.feed import Feed
from prompt_tuning.partitioning import Layout
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps


@dataclasses.dataclass
class Memory:
  """What the loop remembers between steps; it travels with the run state.

  Attributes:
    identity: See `TrainConfig.identity`.
    first_step: Where the run began.
    best: Of its evaluations.
    sums: Of the steps since the last row of metrics.
  """

  identity: dict[str, str]
  first_step: int
  best: Best = dataclasses.field(default_factory=Best)
  sums: list[steps.Sums] = dataclasses.field(default_factory=list)

  @classmethod
  def of(cls, saved: dict[str, Any]) -> "Memory":
    """From JSON."""
    return cls(**{**saved, "best": Best(**saved["best"])})


def train(config: TrainConfig, config_text: str = "") -> dict[str, Any]:
  """Runs to the end, from wherever an earlier process was interrupted.

  Args:
    config: The run.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    The summary, as written to `summary.json`.

  Raises:
    InputError: Something given cannot be used, or the loss became NaN.
    Preempted: The process was told to stop (SIGTERM) and has saved.
  """
  config.check()
  folder = files.output_folder(config.model_dir, "MODEL_DIR")
  distributed.share(folder, "MODEL_DIR")
  layout = config.partitioner.layout(config.train_dataset.batch_size)
  base = config.learned.load(config.model, config.checkpoint, layout)
  with loop.session(folder, keep=config.trainer.keep) as session:
    run = _Run(config, base, layout, session)
    if distributed.is_first():
      (folder / "config.gin").write_text(config_text)
      (folder / "summary.json").unlink(missing_ok=True)  # it may be of fewer steps
    run.train()
    return run.finish()


class _Run:
  """The objects of a run, and what its loop asks of them (`loop.Work`)."""

  def __init__(
    self,
    config: TrainConfig,
    base: assembly.Base,
    layout: Layout,
    session: loop.Session,
  ):
    self.config, self.base, self.session = config, base, session
    self.examples = 0  # see `loop.Work`
    self.layout, self.mesh, self.folder = layout, layout.mesh, session.folder
    trainer, dataset = config.trainer, config.train_dataset
    key_learned, key_train = jax.random.split(jax.random.key(trainer.random_seed))
    model = config.learned.model(base, config.vocabulary, key_learned)
    self.first, self.last = trainer.steps(base.step)
    self.split, self.sentinel = states.Split.of(model), model.steering.sentinel
    self.frozen = layout.place(self.split.frozen)
    optimizer = config.learned.optimizer(
      config.optimizer.transformation(config.learning_rate_fn, self.first)
    )
    state = states.create(self.split, optimizer, key_train, self.first)
    shardings = layout.like(state, trees.flat_variables(self.split.tunable))
    step = steps.train_step(
      self.split,
      optimizer,
      config.loss,
      trainer.num_microbatches,
      layout.constrain,
      shardings,
    )
    shapes = jax.tree.map(step_shapes.lying, state, shardings)
    self.step_fn = Ahead(  # while TensorFlow is imported
      step, shapes, self.frozen, step_shapes.placed_batch(config, layout)
    )
    self.feed = Feed(dataset, config.vocabulary, self.mesh, config.packing)
    identity = {
      **config.identity(base),
      **method_tuning.identity(self.split),
      **self.feed.identity,
      **judge.identity(config.eval_dataset),
    }
    self.memory = Memory(identity, self.first)
    self.state = partitioning.put(self._resumed(state), shardings)
    if distributed.is_first():
      text = trees.describe(model, config.learned.t5x_path)
      (self.folder / "model-info.txt").write_text(text + "\n")
    self.judge = judge.Judge(config, base, self.split, self.frozen, layout)
    self.evaluation = None
    if config.eval_dataset is not None:
      log_dir = self.folder / "inference_eval" if distributed.is_first() else None
      self.evaluation = self.judge.evaluation(config.eval_dataset, log_dir)
    if config.test_dataset is not None:
      self.judge.find(config.test_dataset)  # fails here, not at the end

  def _resumed(self, state: states.TrainState) -> states.TrainState:
    """The state an interrupted process left, or `state` where there is none."""
    found = self.session.resumed(self.memory.identity)
    if found is None:
      return state
    self.memory = Memory.of(found.memory)
    return found.onto(state)

  def train(self) -> None:
    """Runs the loop from where it stands."""
    periods = loop.Periods.of(self.config.trainer, self.first, self.last)
    self.session.run(self, periods, int(self.state.step))
    self.feed.tell()

  @property
  def stopped(self) -> bool:
    """See `loop.Work`."""
    return self.memory.best.stopped

  def log(self, done: int) -> metrics_log.MetricsLog:
    """See `loop.Work`; opens the data too."""
    if distributed.is_first():
      for path in (self.folder / "inference_eval").glob("*-metrics.jsonl"):
        metrics_log.trim(path, done)
    self.feed.open(done - self.first, run_state.data_folder(self.folder, done))
    return metrics_log.MetricsLog(self.folder, done)

  def step(self, done: int) -> steps.Sums:
    """See `loop.Work`."""
    size = self.config.train_dataset.batch_size
    rows = next(self.feed)
    self.examples += self.feed.held
    if self.sentinel is not None:
      self.sentinel.check(rows["encoder_input_tokens"])
    batch = partitioning.from_rows(rows, size, self.mesh)
    self.state, sums = self.step_fn(self.state, self.frozen, batch)
    self.memory.sums.append(sums)
    return sums

  def stats(self, done: int) -> loop.Values:
    """See `loop.Work`."""
    values = steps.metrics(self.config.loss, jax.device_get(self.memory.sums))
    self.memory.sums = []
    if not np.isfinite(values["loss"]):
      raise self._not_finite(done)
    rate = float(self.config.learning_rate_fn(done - 1))
    return {**values, "learning_rate": rate}

  def shown(self, values: loop.Values) -> loop.Values:
    """See `loop.Work`."""
    return {name: values[name] for name in ("loss", "accuracy")}

  def _check_finite(self, done: int) -> None:
    if not states.is_finite(self.state):
      raise self._not_finite(done)

  def _not_finite(self, done: int) -> checks.InputError:
    self.session.saver.wait()
    saved = run_state.steps(self.folder)
    kept = f"the state of step {saved[-1]}" if saved else "nothing yet"
    return checks.InputError(
      f"the loss or a learned value is not a number by step {done}, expected finite ones; "
      f"choose another MODEL_DIR with a lower learning rate or ACTIVATION_DTYPE='float32' "
      f"({kept} is kept)"
    )

  def evaluate(self, done: int) -> loop.Values:
    """See `loop.Work`."""
    self._check_finite(done)
    params, remembered = self.state.params, self.memory.best
    if self.evaluation is None:
      remembered.keep(done, 0.0, {})
      self._save_best()
      return {}
    trainer = self.config.trainer
    found = self.judge.metrics(self.evaluation, params, done)
    score = overall(found, trainer.metric)
    if remembered.sees(done, score, found, trainer.patience):
      self._save_best()
    progress.say(f"step {done}: {json.dumps(found)} best {remembered.score:.2f}")
    return {
      **judge.flat(found),
      **self.judge.teacher_forced(self.evaluation, params),
    }

  def _save_best(self) -> None:
    story = self.config.story(self.base, self.memory.best)
    self.config.learned.save_best(self.folder, self.state.params, story)

  def save(self, done: int) -> None:
    """See `loop.Work`."""
    self._check_finite(done)
    self.config.learned.save_step(self.folder, done, self.state.params)
    self.memory.sums = [
      {name: float(value) for name, value in sums.items()}
      for sums in jax.device_get(self.memory.sums)
    ]
    self.feed.save(run_state.data_folder(self.folder, done))
    self.session.saver.save(done, self.state, dataclasses.asdict(self.memory))

  def finish(self) -> dict[str, Any]:
    """Writes and returns what the best state achieved."""
    learned, remembered = self.config.learned, self.memory.best
    summary: dict[str, Any] = {
      "first_step": self.first,
      "best_step": remembered.step,
      "score": remembered.score,
      "metrics": remembered.metrics,
      "learned": learned.name,
      learned.name: str(learned.best(self.folder)),
    }
    if self.config.test_dataset is not None:
      summary["split"] = self.config.test_dataset.split
      summary["tasks"] = self.judge.compare(
        self.judge.evaluation(self.config.test_dataset),
        {learned.name: self._best()},
        remembered.step or 0,
      )
    if distributed.is_first():
      text = json.dumps(summary, indent=2) + "\n"
      files.write_atomically(self.folder / "summary.json", text.encode())
    return summary

  def _best(self) -> dict[str, jax.Array]:
    """The best state, read by every process after the first has written it."""
    distributed.meet("the best state is written")
    found = self.config.learned.load_best(self.folder)
    shardings = {path: x.sharding for path, x in self.state.params.items()}
    return partitioning.put(found, shardings)


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["train", *sys.argv[1:]]))
