"""A training run as data: what is trained, on what, for how long, and where to."""

import dataclasses
import json
from typing import Any

from prompt_tuning import __version__, checks
from prompt_tuning.assembly import Base
from prompt_tuning.best import Best
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.packing import Packing
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.learned import Learned
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prediction import Prediction
from prompt_tuning.training import steps
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.criterion import Criterion
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule
from prompt_tuning.training.trainer import Trainer

_LENGTHS = {"inputs": 512, "targets": 8, "is_correct": 2}  # an example


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """One training run.

  Attributes:
    model: Shape of the model.
    vocabulary: Its vocabulary.
    checkpoint: Its pretrained weights.
    learned: A prompt, or the model itself.
    optimizer: Adafactor.
    learning_rate_fn: Learning rate by step.
    loss: What is minimized.
    trainer: How long, how often.
    partitioner: Which devices.
    prediction: How the model answers in evaluations.
    train_dataset: What is learned from.
    eval_dataset: What decides which prompt is best; None to keep the last.
    test_split: Split of `eval_dataset` that the final summary reports, all of it; None
      for what evaluations read.
    model_dir: Where everything is written.
  """

  model: ModelConfig
  vocabulary: Vocabulary
  checkpoint: RestoreCheckpointConfig
  learned: Learned
  optimizer: Adafactor
  learning_rate_fn: Schedule
  loss: Criterion = Loss()
  trainer: Trainer
  partitioner: Partitioner = Partitioner()
  prediction: Prediction = Prediction()
  train_dataset: DatasetConfig
  eval_dataset: DatasetConfig | None = None
  test_split: str | None = None
  model_dir: str

  @property
  def test_dataset(self) -> DatasetConfig | None:
    """What the final summary reports, None where nothing is evaluated."""
    if self.eval_dataset is None:
      return None
    if self.test_split is None:
      return self.eval_dataset
    return dataclasses.replace(self.eval_dataset, split=self.test_split, num_examples=None)

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.partitioner.check()
    self._check_features()
    self._check_num_examples()
    steps.check_microbatches(self.train_dataset.batch_size, self.trainer.num_microbatches)

  def _check_num_examples(self) -> None:
    """Raises `InputError` where a part of the data is to be trained on."""
    if self.train_dataset.num_examples is not None:
      raise checks.InputError(
        f"train/utils.DatasetConfig.num_examples is {self.train_dataset.num_examples}, "
        "expected None, since training reads all examples again and again; set "
        "EVAL_EXAMPLES for evaluations, or a split of so many"
      )

  def _check_features(self) -> None:
    """Raises `InputError` unless the loss can be taken of what is read."""
    lengths, needed = self.train_dataset.task_feature_lengths or {}, self.loss.features
    if not lengths.keys() >= set(needed):
      example = {name: _LENGTHS[name] for name in needed}
      raise checks.InputError(
        f"TASK_FEATURE_LENGTHS is {dict(lengths)}, expected lengths for "
        f"{', '.join(needed)}; set e.g. {example}"
      )
    if not lengths.keys() & {"is_correct"} <= set(needed):
      raise checks.InputError(
        f"TASK_FEATURE_LENGTHS has is_correct and LOSS is {type(self.loss).__name__}, "
        "expected a loss of candidates; set LOSS = @losses.Hinge() or leave is_correct out"
      )
    datasets = [self.train_dataset, *filter(None, [self.eval_dataset])]
    if "is_correct" in needed and any(dataset.pack for dataset in datasets):
      raise checks.InputError(
        f"PACK is True and LOSS is {type(self.loss).__name__}, expected unpacked rows, for "
        "the candidates of an example stand side by side; set PACK = False"
      )

  @property
  def packing(self) -> Packing:
    """How rows are packed, where they are."""
    return Packing(prompt_len=self.learned.prompt_slots)

  def identity(self, base: Base) -> dict[str, str]:
    """What must not change between an interruption and a resume."""
    dataset = self.train_dataset
    return {
      "base checkpoint": base.fingerprint,
      "task": dataset.mixture_or_task_name,
      "task feature lengths": json.dumps(dict(dataset.task_feature_lengths or {})),
      "split": dataset.split,
      "batch size": str(dataset.batch_size),
      "data seed": str(dataset.seed),
      "shuffled": str(dataset.shuffle),
      "packed": str(dataset.pack),
      "read from seqio's cache": str(dataset.use_cached),
      "what is learned": repr(self.learned),
      "optimizer": repr(self.optimizer),
      "learning rate": repr(self.learning_rate_fn),
      "loss": repr(self.loss),
      "microbatches": str(self.trainer.num_microbatches or 1),
      "random seed": str(self.trainer.random_seed),
      "dropout rate": str(self.model.dropout_rate),
      "activation dtype": self.model.dtype,
      "weight dtype": base.weight_dtype,
    }

  def story(self, base: Base, best: Best) -> dict[str, Any]:
    """What is written beside the best state: where it comes from, how good it is."""
    task = self.train_dataset.mixture_or_task_name
    return {
      "family": self.model.family,
      "base_fingerprint": base.fingerprint,
      "weight_dtype": base.weight_dtype,
      "task": task,
      "labels": self.prediction.words(task),
      "step": best.step,
      "score": best.score,
      "metrics": best.metrics,
      "vocabulary": self.vocabulary.fingerprint(),
      "tokenizer": self.vocabulary.name,
      "library_version": __version__,
    }
