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
import time
from typing import Any

import jax
import numpy as np
from etils import epath

from prompt_tuning import (
  __version__,
  assembly,
  checks,
  comparison,
  distributed,
  files,
  metrics_log,
  partitioning,
  trees,
)
from prompt_tuning import prediction as predictions
from prompt_tuning.checkpoints import run_state
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.partitioning import Layout
from prompt_tuning.preemption import Preempted, Preemption
from prompt_tuning.progress import Progress
from prompt_tuning.prompts.prompted import PromptedT5, t5x_path
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.watchdog import Watchdog


@dataclasses.dataclass
class Memory:
  """What the loop remembers between steps; it travels with the run state.

  Attributes:
    identity: See `TrainConfig.identity`.
    first_step: Where the run began.
    best_step: Step of the best prompt, or None before the first evaluation.
    best_score: Its score.
    best_metrics: Its metrics by task.
    worse: Evaluations since then.
    stopped: Whether patience ran out.
    sums: Of the steps since the last row of metrics.
  """

  identity: dict[str, str]
  first_step: int
  best_step: int | None = None
  best_score: float = float("-inf")
  best_metrics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
  worse: int = 0
  stopped: bool = False
  sums: list[steps.Sums] = dataclasses.field(default_factory=list)


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
  with (
    run_state.writing(folder),
    run_state.Saver(folder, config.trainer.keep) as saver,
    Preemption() as preemption,
  ):
    run = _Run(config, base, folder, layout, saver)
    if distributed.is_first():
      (folder / "config.gin").write_text(config_text)
      (folder / "summary.json").unlink(missing_ok=True)  # it may be of fewer steps
    run.loop(preemption)
    saver.wait()
    return run.finish()


class _Run:
  """The objects of a run: built by the constructor, moved by `loop`."""

  def __init__(
    self,
    config: TrainConfig,
    base: assembly.Base,
    folder: epath.Path,
    layout: Layout,
    saver: run_state.Saver,
  ):
    self.config, self.base, self.folder = config, base, folder
    self.layout, self.mesh = layout, layout.mesh
    self.writes, self.saver = distributed.is_first(), saver
    self.positions = True  # until a pipeline turns out to have none
    trainer, dataset = config.trainer, config.train_dataset
    key_learned, key_train = jax.random.split(jax.random.key(trainer.random_seed))
    model = config.learned.model(base, config.vocabulary, key_learned)
    registry = _data().registry
    provider = registry.find(dataset, config.vocabulary)  # fails here rather than later
    _say(registry.cut(dataset))
    self.first, self.last = trainer.steps(base.step)
    self.split = states.Split.of(model)
    self.frozen = layout.place(self.split.frozen)
    optimizer = config.learned.optimizer(
      config.optimizer.transformation(config.learning_rate_fn, self.first)
    )
    state = states.create(self.split, optimizer, key_train, self.first)
    identity = {
      **config.identity(base),
      **registry.identity(dataset),
      **registry.identity(config.eval_dataset),
      "data shards": str(_data().shards.number_of_shards(dataset, provider)),
    }
    self.memory = Memory(identity, self.first)
    shardings = layout.like(state, trees.flat_variables(self.split.tunable))
    self.state = partitioning.put(self._resumed(state), shardings)
    self.step_fn = steps.train_step(
      self.split,
      optimizer,
      config.loss,
      trainer.num_microbatches,
      layout.constrain,
      shardings,
    )
    if self.writes:
      (folder / "model-info.txt").write_text(trees.describe(model, t5x_path) + "\n")
    self.evaluation = self._evaluation(config.eval_dataset)
    if config.eval_dataset is not None:
      self.test_dataset = dataclasses.replace(
        config.eval_dataset, split=config.test_split or config.eval_dataset.split
      )
      _data().registry.find(self.test_dataset, config.vocabulary)
    self.answers = predictions.answers(
      self.split, self.frozen, config.prediction, config.vocabulary, self.mesh
    )
    self.eval_step = steps.eval_step(self.split, config.loss)

  def _resumed(self, state: states.TrainState) -> states.TrainState:
    """The state an interrupted process left, or `state` where there is none."""
    newest = run_state.latest(self.folder)
    if newest is None:
      return state
    found = run_state.load(self.folder, newest)
    run_state.check_identity(self.folder, found.memory["identity"], self.memory.identity)
    self.memory = Memory(**found.memory)
    _log(f"continuing {self.folder} at step {newest}")
    return found.onto(state)

  def _evaluation(self, dataset: DatasetConfig | None, log: bool = True) -> Any:
    if dataset is None:
      return None
    data = _data()
    provider = data.registry.find(dataset, self.config.vocabulary)
    _say(data.registry.cut(dataset))
    log_dir = str(self.folder / "inference_eval") if log and self.writes else None
    found = data.evaluation.Evaluation(dataset, provider, log_dir)
    self.config.prediction.check(found.task_names, self.config.vocabulary)
    return found

  def _batches(self, done: int) -> Any:
    data, dataset = _data(), self.config.train_dataset
    provider = data.registry.find(dataset, self.config.vocabulary)
    batches = data.training_batches.TrainingBatches.at(
      dataset,
      provider,
      done - self.first,
      rows=partitioning.rows(dataset.batch_size, self.mesh),
      folder=run_state.data_folder(self.folder, done),
    )
    if done > self.first:
      _log(batches.note)
    return batches

  def loop(self, preemption: Preemption) -> None:
    """Trains until the last step, until patience runs out, or until told to stop."""
    done = int(self.state.step)
    if done >= self.last or self.memory.stopped:
      return
    if self.writes:
      for path in (self.folder / "inference_eval").glob("*-metrics.jsonl"):
        metrics_log.trim(path, done)
    rows = self.config.train_dataset.batch_size
    with (
      metrics_log.MetricsLog(self.folder, done) as log,
      Progress("train", self.last - self.first, done - self.first, rows) as bar,
      Watchdog() as watchdog,
    ):
      self._steps(done, preemption, log, bar, watchdog)

  def _steps(
    self,
    done: int,
    preemption: Preemption,
    log: metrics_log.MetricsLog,
    bar: Progress,
    watchdog: Watchdog,
  ) -> None:
    trainer, batches = self.config.trainer, self._batches(done)
    size = self.config.train_dataset.batch_size
    while done < self.last and not self.memory.stopped:
      watchdog.beat(f"step {done + 1}")
      batch = partitioning.from_rows(next(batches), size, self.mesh)
      self.state, sums = self.step_fn(self.state, self.frozen, batch)
      self.memory.sums.append(sums)
      done += 1
      count, final = done - self.first, done == self.last
      evaluate = count % trainer.eval_period == 0 or final
      values: dict[str, float] = {}
      if count % trainer.stats_period == 0 or final:
        values |= self._stats(done)
        bar.update(count, {k: values[k] for k in ("loss", "accuracy")})
      if evaluate:
        watchdog.beat(f"evaluation at step {done}")
        values |= self._evaluate(done)
      if values:
        log.write(done, values)
      stop = preemption.reached(done)
      if stop or evaluate or count % trainer.save_period == 0:
        self._save(done, batches)
      if stop and done < self.last and not self.memory.stopped:
        self.saver.wait()
        raise Preempted(done)

  def _stats(self, done: int) -> dict[str, float]:
    values = steps.metrics(jax.device_get(self.memory.sums))
    self.memory.sums = []
    if not np.isfinite(values["loss"]):
      raise self._not_finite(done)
    rate = float(self.config.learning_rate_fn(done - 1))
    return {**values, "learning_rate": rate}

  def _check_finite(self, done: int) -> None:
    if not states.is_finite(self.state):
      raise self._not_finite(done)

  def _not_finite(self, done: int) -> checks.InputError:
    self.saver.wait()
    saved = run_state.steps(self.folder)
    kept = f"the state of step {saved[-1]}" if saved else "nothing yet"
    return checks.InputError(
      f"the loss or a learned value is not a number by step {done}, expected finite ones; "
      f"choose another MODEL_DIR with a lower learning rate or ACTIVATION_DTYPE='float32' "
      f"({kept} is kept)"
    )

  def _evaluate(self, done: int) -> dict[str, float]:
    """Evaluates the prompt, keeps it if it is the best, and returns the numbers."""
    self._check_finite(done)
    if self.evaluation is None:
      self._keep_best(done, 0.0, {})
      return {}
    params = self.state.params
    found, _ = self.evaluation.run(
      lambda batch, task: self.answers.predict(params, batch, task),
      lambda batch, task: self.answers.score(params, batch, task),
      done,
    )
    score = overall(found, self.config.trainer.metric)
    if self.memory.best_step is None or score > self.memory.best_score:
      self._keep_best(done, score, found)
    else:
      self.memory.worse += 1
      patience = self.config.trainer.patience
      self.memory.stopped = patience is not None and self.memory.worse >= patience
    _log(f"step {done}: {json.dumps(found)} best {self.memory.best_score:.2f}")
    flat = {f"eval/{t}/{m}": v for t, row in found.items() for m, v in row.items()}
    return {**flat, **self._teacher_forced()}

  def _teacher_forced(self) -> dict[str, float]:
    batches = self.evaluation.teacher_forced(self.config.trainer.eval_steps)
    if not batches:
      return {}
    sums = [
      self.eval_step(self.state.params, self.frozen, partitioning.shard_batch(b, self.mesh))
      for b in batches
    ]
    values = steps.metrics(jax.device_get(sums))
    return {f"training_eval/{name}": value for name, value in values.items()}

  def _keep_best(self, done: int, score: float, found: dict) -> None:
    self.memory.best_step, self.memory.best_score = done, score
    self.memory.best_metrics, self.memory.worse = found, 0
    task = self.config.train_dataset.mixture_or_task_name
    metadata = {
      "base_fingerprint": self.base.fingerprint,
      "weight_dtype": self.base.weight_dtype,
      "task": task,
      "labels": self.config.prediction.words(task),
      "step": done,
      "score": score,
      "metrics": found,
      "vocabulary": self.config.vocabulary.fingerprint(),
      "tokenizer": self.config.vocabulary.name,
      "library_version": __version__,
    }
    self.config.learned.save_best(self.folder, self.state.params, metadata)

  def _save(self, done: int, batches: Any) -> None:
    self._check_finite(done)
    self.config.learned.save_step(self.folder, done, self.state.params)
    self.memory.sums = [
      {name: float(value) for name, value in sums.items()}
      for sums in jax.device_get(self.memory.sums)
    ]
    size = self.config.train_dataset.batch_size
    if self.positions and partitioning.speaks_for_rows(size, self.mesh):
      self.positions = batches.save(run_state.data_folder(self.folder, done))
    self.saver.save(done, self.state, dataclasses.asdict(self.memory))

  def finish(self) -> dict[str, Any]:
    """Writes and returns what the best state achieved."""
    learned = self.config.learned
    summary: dict[str, Any] = {
      "first_step": self.first,
      "best_step": self.memory.best_step,
      "score": self.memory.best_score,
      "metrics": self.memory.best_metrics,
      "learned": learned.name,
      learned.name: str(learned.best(self.folder)),
    }
    if self.evaluation is not None:
      evaluation = self._evaluation(self.test_dataset, log=False)
      summary["split"] = self.test_dataset.split
      summary["tasks"] = comparison.compare(
        evaluation,
        {
          "untuned": self._untuned(),
          learned.name: (self.answers, self._best()),
        },
        self.memory.best_step or 0,
      )
    if self.writes:
      text = json.dumps(summary, indent=2) + "\n"
      files.write_atomically(self.folder / "summary.json", text.encode())
    return summary

  def _best(self) -> dict[str, jax.Array]:
    """The best state, read by every process after the first has written it."""
    distributed.meet("the best state is written")
    found = self.config.learned.load_best(self.folder)
    shardings = {path: x.sharding for path, x in self.state.params.items()}
    return partitioning.put(found, shardings)

  def _untuned(self) -> tuple[predictions.Answers, dict[str, jax.Array]]:
    """Answers of the pretrained model without a prompt, and what it takes for them."""
    split = states.Split.of(PromptedT5(self.base.model))
    frozen = self.layout.place(split.frozen)
    found = predictions.answers(
      split, frozen, self.config.prediction, self.config.vocabulary, self.mesh
    )
    return found, trees.values(split.tunable)


def overall(found: dict[str, dict[str, float]], metric: str | None) -> float:
  """One number for an evaluation: a named metric, or the mean of all.

  Raises:
    InputError: There is no metric of that name.
  """
  values = {f"{t}/{m}": v for t, row in found.items() for m, v in row.items()}
  if metric is not None:
    checks.choice("metric", metric, list(values))
    return values[metric]
  return float(np.mean(list(values.values()))) if values else 0.0


def _data() -> Any:
  """The data room, imported when a run needs it: it brings in TensorFlow."""
  quiet.import_seqio()
  from prompt_tuning.data import evaluation, registry, shards, training_batches

  return _Data(evaluation, registry, shards, training_batches)


@dataclasses.dataclass(frozen=True)
class _Data:
  evaluation: Any
  registry: Any
  shards: Any
  training_batches: Any


def _say(lines: list[str]) -> None:
  for line in lines:
    _log(line)


def _log(text: str) -> None:
  if distributed.is_first():
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["train", *sys.argv[1:]]))
