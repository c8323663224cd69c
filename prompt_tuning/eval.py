"""Evaluation of a trained prompt with a task's own metrics.

EVAL_OUTPUT_DIR/
  config.gin
  inference_eval/<task>-metrics.jsonl and, beside it, every prediction
"""

import dataclasses
import sys
from typing import Any

import jax

from prompt_tuning import assembly, files, partitioning, trees
from prompt_tuning import prediction as predictions
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.models.config import T5Config
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.training import state as states


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """One evaluation.

  Attributes:
    model: Shape of the frozen model.
    vocabulary: Its vocabulary.
    checkpoint: Its weights.
    prompt: The prompt, started from its file.
    dataset: What is evaluated.
    prediction: How the model answers.
    partitioner: Which devices.
    output_dir: Where results are written.
  """

  model: T5Config
  vocabulary: Vocabulary
  checkpoint: RestoreCheckpointConfig
  prompt: Prompt
  dataset: DatasetConfig
  prediction: predictions.Prediction = predictions.Prediction()
  partitioner: Partitioner = Partitioner()
  output_dir: str

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.partitioner.check()


@dataclasses.dataclass(frozen=True)
class Ready:
  """A prompted model on its devices, ready to answer.

  Attributes:
    base: The frozen model.
    params: Its prompts.
    answers: See `prediction.Answers`.
  """

  base: assembly.Base
  params: dict[str, Any]
  answers: predictions.Answers


def prepare(config: Any) -> Ready:
  """Loads model and prompt of an `EvalConfig` or `InferConfig`.

  Raises:
    InputError: Checkpoint or prompt cannot be used.
  """
  config.check()
  mesh = config.partitioner.mesh(config.dataset.batch_size)
  base = assembly.load_base(config.model, config.checkpoint, mesh=mesh)
  key = jax.random.key(0)  # a prompt from a file draws nothing
  model = assembly.with_prompt(base, config.prompt, config.vocabulary, key)
  split = states.Split.of(model)
  frozen = partitioning.replicate(split.frozen, mesh)
  answers = predictions.answers(split, frozen, config.prediction, config.vocabulary, mesh)
  params = partitioning.replicate(trees.values(split.tunable), mesh)
  return Ready(base, params, answers)


def evaluate(config: EvalConfig, config_text: str = "") -> dict[str, dict[str, float]]:
  """Evaluates a prompt.

  Args:
    config: The evaluation.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    {task: {metric: value}}.

  Raises:
    InputError: Something given cannot be used.
  """
  folder = files.output_folder(config.output_dir, "EVAL_OUTPUT_DIR")
  ready = prepare(config)
  quiet.import_seqio()
  from prompt_tuning.data import evaluation, registry

  provider = registry.find(config.dataset, config.vocabulary)
  run = evaluation.Evaluation(config.dataset, provider, str(folder / "inference_eval"))
  (folder / "config.gin").write_text(config_text)
  found, _ = run.run(
    lambda batch: ready.answers.predict(ready.params, batch),
    lambda batch: ready.answers.score(ready.params, batch),
    ready.base.step,
  )
  return found


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["eval", *sys.argv[1:]]))
