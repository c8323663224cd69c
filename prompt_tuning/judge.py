"""How good what a run learns is: on its tasks while it trains, and at the end."""

from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from flax import nnx

from prompt_tuning import assembly, comparison, partitioning, progress, trees
from prompt_tuning import prediction as predictions
from prompt_tuning.best import Metrics
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.partitioning import Layout
from prompt_tuning.prompts.families import prompted
from prompt_tuning.train_config import TrainConfig
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.types import Array

Params = dict[str, Array]


class Judge:
  """Evaluates tunable values of one model, whatever they are: nothing is compiled twice.

  Args:
    config: The run.
    base: Its pretrained model.
    split: The model's structure.
    frozen: Its frozen weights, on their devices.
    layout: The devices.
  """

  def __init__(
    self,
    config: TrainConfig,
    base: assembly.Base,
    split: states.Split,
    frozen: nnx.State,
    layout: Layout,
  ):
    self._config, self.base, self._layout = config, base, layout
    self._frozen = frozen
    self._answers = self._answers_of(split, frozen)
    self._step = steps.eval_step(split, config.loss)

  def _answers_of(self, split: states.Split, frozen: nnx.State) -> predictions.Answers:
    how, vocabulary = self._config.prediction, self._config.vocabulary
    return predictions.answers(split, frozen, how, vocabulary, self._layout.mesh)

  def find(self, dataset: DatasetConfig) -> Any:
    """The seqio Task or Mixture.

    Raises:
      InputError: It cannot be used.
    """
    quiet.import_seqio()
    from prompt_tuning.data import registry

    return registry.find(dataset, self._config.vocabulary)

  def evaluation(self, dataset: DatasetConfig, log_dir: epath.Path | None = None) -> Any:
    """A split, read and checked: a `data.evaluation.Evaluation`.

    Raises:
      InputError: It cannot be used.
    """
    provider = self.find(dataset)
    from prompt_tuning.data import converters, evaluation, registry

    if self._config.trainer.eval_steps:
      converters.check_read(provider.name, provider, self._config.loss.features)

    for line in registry.cut(dataset):
      progress.say(line)
    found = evaluation.Evaluation(dataset, provider, str(log_dir) if log_dir else None)
    self._config.prediction.check(found.task_names, self._config.vocabulary)
    return found

  def metrics(self, evaluation: Any, params: Params, done: int) -> Metrics:
    """The tasks' own metrics, {task: {metric: value}}."""
    found, _ = evaluation.run(
      lambda batch, task: self._answers.predict(params, batch, task),
      lambda batch, task: self._answers.score(params, batch, task),
      done,
    )
    return found

  def teacher_forced(self, evaluation: Any, params: Params) -> dict[str, float]:
    """The loss's metrics of the first batches, "training_eval/<name>"; none of none."""
    mesh = self._layout.mesh
    sums = [
      self._step(params, self._frozen, partitioning.shard_batch(batch, mesh))
      for batch in evaluation.teacher_forced(
        self._config.trainer.eval_steps, self._config.packing
      )
    ]
    values = steps.metrics(self._config.loss, jax.device_get(sums)) if sums else {}
    return {f"training_eval/{name}": value for name, value in values.items()}

  def compare(
    self, evaluation: Any, contestants: Mapping[str, Params], step: int
  ) -> dict[str, dict[str, Any]]:
    """`comparison.compare` of the untuned model, under that name, and contestants."""
    tuned = {name: (self._answers, params) for name, params in contestants.items()}
    return comparison.compare(evaluation, {"untuned": self._untuned(), **tuned}, step)

  def _untuned(self) -> tuple[predictions.Answers, Params]:
    """Answers of the pretrained model without a prompt, and what it takes for them."""
    split = states.Split.of(prompted(self.base.model))
    found = self._answers_of(split, self._layout.place(split.frozen))
    return found, trees.values(split.tunable)


def flat(found: Metrics) -> dict[str, float]:
  """Metrics by "eval/<task>/<metric>"."""
  return {f"eval/{t}/{m}": v for t, row in found.items() for m, v in row.items()}


def identity(dataset: DatasetConfig | None) -> dict[str, str]:
  """What must not change of the data that decide, while a run is interrupted."""
  from prompt_tuning.data import registry

  return registry.identity(dataset)
