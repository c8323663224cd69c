"""Running a task's own metrics over a split, through seqio's Evaluator.

Tasks without a metric (the diagnostic sets of the benchmarks) are answered too, for those
who hand the answers in.
"""

import itertools
import numbers
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import seqio

from prompt_tuning import checks
from prompt_tuning.data import batches, candidates, converters, tfds_store
from prompt_tuning.data.board import Board
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.packing import Packer, Packing
from prompt_tuning.progress import Progress

Predict = Callable[[batches.Batch, str], np.ndarray]  # (batch, task) -> [batch, length]
Score = Callable[[batches.Batch, str], np.ndarray]  # -> log-likelihoods [batch]
Metrics = dict[str, dict[str, float]]  # {task: {metric: value}}


class Evaluation:
  """A split, cached, with the metrics of its tasks.

  Args:
    config: What to read.
    provider: The seqio Task or Mixture.
    log_dir: Folder for `<task>-metrics.jsonl`, `<task>-<step>.jsonl` and TensorBoard's
      `<task>/`, or None.

  Raises:
    InputError: The split has no example.
  """

  def __init__(self, config: DatasetConfig, provider: Any, log_dir: str | None):
    self._config, self._provider = config, provider
    if log_dir:
      pathlib.Path(log_dir).mkdir(parents=True, exist_ok=True)
    try:
      self._evaluator = seqio.Evaluator(
        provider.name,
        converters.of(provider),
        eval_split=config.split,
        num_examples=config.num_examples,
        use_cached=config.use_cached,
        seed=config.seed,
        sequence_length=config.task_feature_lengths,
        logger_cls=[seqio.JSONLogger, Board] if log_dir else [],
        log_dir=log_dir,
        async_compute_metrics=False,
      )
    except ValueError as error:  # a preprocessor that needs to know the lengths
      raise checks.InputError(
        f"{provider.name} cannot be evaluated ({error}); set task_feature_lengths, e.g. "
        '--gin.infer_eval/utils.DatasetConfig.task_feature_lengths="%TASK_FEATURE_LENGTHS"'
      ) from error
    self._tasks = self._evaluator.eval_tasks
    datasets = self._tasks and self._evaluator.cached_task_datasets
    for task in self._tasks:
      if int(datasets[task.name].cardinality()) == 0:
        raise batches.empty(config)

  def run(self, predict: Predict, score: Score, step: int) -> tuple[Metrics, dict]:
    """Metrics of every task, and {task: decoded predictions in order}."""
    if not self._tasks:
      return {}, {}
    metrics, outputs = self._evaluator.evaluate(
      compute_metrics=True,
      step=step,
      predict_fn=lambda dataset: self._over(
        dataset, lambda batch: predict(batch, self._task_of(dataset))
      ),
      score_fn=lambda dataset: self._over(
        dataset, lambda batch: score(batch, self._task_of(dataset))
      ),
    )
    values = {task: _scalars(found) for task, found in (metrics.result() or {}).items()}
    kind = seqio.metrics.ModelOutputType.PREDICTION
    texts = {
      task.name: _decoded(task, outputs[task.name].get(kind, [])) for task in self._tasks
    }
    return values, texts

  def unmeasured(self, predict: Predict) -> dict[str, tuple[list[dict], list[str]]]:
    """Examples and decoded predictions of the tasks that have the split and no metric."""
    measured, found = set(self.task_names), {}
    for task in seqio.get_subtasks(self._provider):
      if task.name in measured or self._config.split not in task.splits:
        continue
      examples, dataset = batches.inference_examples(self._config, task)
      rows = self._over(dataset, lambda batch, name=task.name: predict(batch, name))
      found[task.name] = (examples, _decoded(task, [tokens for _, tokens in rows]))
    return found

  def datasets(self) -> dict[str, str | None]:
    """What each task, measured or not, reads from TFDS: "glue/cola:2.0.0"."""
    tasks = seqio.get_subtasks(self._provider)
    return {task.name: tfds_store.dataset_name(task) for task in tasks}

  def examples(self, task: str) -> list[dict[str, Any]]:
    """The examples of a task, in the order of its predictions; of candidates the right."""
    rows = self._evaluator.cached_task_datasets[task].as_numpy_iterator()
    if converters.brings_candidates(self._provider):
      return [candidates.right_pair(row) for row in rows]
    return list(rows)

  @property
  def task_names(self) -> list[str]:
    """The tasks that have metrics."""
    return [task.name for task in self._tasks]

  def targets(self, task: str) -> list[str]:
    """The targets of a task as the vocabulary spells them, as predictions are."""
    found = next(t for t in self._tasks if t.name == task)
    return _decoded(found, [row["targets"] for row in self.examples(task)])

  def majority(self, task: str) -> tuple[str, float]:
    """The most frequent target text of a task and its share in percent."""
    values, counts = np.unique(np.asarray(self.targets(task)), return_counts=True)
    best = int(np.argmax(counts))
    return str(values[best]), 100.0 * int(counts[best]) / int(counts.sum())

  def teacher_forced(
    self, count: int, packing: Packing | None = None
  ) -> list[batches.Batch]:
    """The first `count` batches with targets; rows beyond the end have weight 0.

    Args:
      count: Of batches before they are packed, over all tasks.
      packing: How the same examples are packed into fewer batches where the config says
        `pack`; None leaves them.
    """
    found: list[batches.Batch] = []
    if not self._tasks:
      return found
    size, left = self._config.batch_size, count
    for dataset in self._evaluator.cached_model_datasets.values():
      taken = list(itertools.islice(batches.padded_batches(dataset, size), left))
      left -= len(taken)
      if packing is not None and self._config.pack:
        found += _packed(taken, size, packing)
      else:
        found += [_weighted(*one) for one in taken]
    return found

  def _task_of(self, dataset: Any) -> str:
    """The task that seqio asks about; it hands over the dataset only."""
    known = self._evaluator.cached_model_datasets.items()
    return next(name for name, its_dataset in known if its_dataset is dataset)

  def _over(self, dataset: Any, function: Callable) -> list[tuple[int, Any]]:
    results: list[tuple[int, Any]] = []
    size = self._config.batch_size
    bar = Progress("evaluate", -(-max(0, int(dataset.cardinality())) // size), rows=size)
    for batch, indices in batches.batches_by_length(dataset, size):
      output = np.asarray(function(batch))
      results += [(int(i), row) for i, row in zip(indices, output, strict=False)]
      bar.update(-(-len(results) // size))
    bar.close()
    return sorted(results, key=operator.itemgetter(0))


def _weighted(batch: batches.Batch, indices: np.ndarray) -> batches.Batch:
  """A batch whose rows beyond the end have no weight."""
  weights = batch["decoder_loss_weights"].copy()
  weights[len(indices) :] = 0
  return {**batch, "decoder_loss_weights": weights}


def _packed(
  taken: Sequence[tuple[batches.Batch, np.ndarray]], size: int, packing: Packing
) -> list[batches.Batch]:
  """The real rows of batches of one shape, packed."""
  if not taken:
    return []
  names = {"inputs": "encoder_input_tokens", "targets": "decoder_target_tokens"}
  lengths = {name: taken[0][0][feature].shape[1] for name, feature in names.items()}
  chunks = (
    {name: batch[feature][: len(indices)] for name, feature in names.items()}
    for batch, indices in taken
  )
  return list(Packer(chunks, lengths, size, packing))


def _decoded(task: seqio.Task, rows: Any) -> list[str]:
  decode = task.output_features["targets"].vocabulary.decode
  return [decode([int(token) for token in tokens]) for tokens in rows]


def _scalars(found: dict[str, Any]) -> dict[str, float]:
  values = {name: getattr(value, "value", value) for name, value in found.items()}
  return {name: float(v) for name, v in values.items() if isinstance(v, numbers.Real)}
