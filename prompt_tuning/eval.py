"""Evaluation of trained prompts with the tasks' own metrics.

EVAL_OUTPUT_DIR/
  config.gin
  inference_eval/<task>-metrics.jsonl and, beside it, every prediction
  submission/<step>/BoolQ.jsonl ...     answers as the benchmarks take them
  results.json  results.svg
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from prompt_tuning import (
  assembly,
  checks,
  distributed,
  files,
  formats,
  handing_in,
  scorecard,
  trees,
)
from prompt_tuning import prediction as predictions
from prompt_tuning.analysis import pictures
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.partitioning import Layout, Partitioner
from prompt_tuning.prompts.families import Prompted
from prompt_tuning.prompts.start import FromFile, Prompt, TaskPrompts
from prompt_tuning.training import state as states

PROMPTS = ("best", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """One evaluation.

  Attributes:
    model: Shape of the frozen model.
    vocabulary: Its vocabulary.
    checkpoint: Its weights.
    prompt: The prompt, started from its file, or one for each task.
    dataset: What is evaluated.
    prediction: How the model answers.
    partitioner: Which devices.
    prompts: "best", or "all" for the prompts of every step of a run, whose folder the
      prompt's file then is.
    output_dir: Where results are written.
  """

  model: ModelConfig
  vocabulary: Vocabulary
  checkpoint: RestoreCheckpointConfig
  prompt: Prompt | TaskPrompts
  dataset: DatasetConfig
  prediction: predictions.Prediction = predictions.Prediction()
  partitioner: Partitioner = Partitioner()
  prompts: str = "best"
  output_dir: str

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.partitioner.check()
    checks.choice("value of PROMPTS", self.prompts, PROMPTS)


@dataclasses.dataclass(frozen=True)
class Ready:
  """A prompted model on its devices, ready to answer.

  Attributes:
    layout: The devices.
    base: The frozen model.
    params: Its prompts.
    answers: See `prediction.Answers`.
  """

  layout: Layout
  base: assembly.Base
  params: dict[str, Any]
  answers: predictions.Answers


def prepare(config: Any) -> Ready:
  """Loads model and prompt of an `EvalConfig` or `InferConfig`.

  Raises:
    InputError: Checkpoint or prompt cannot be used.
  """
  config.check()
  layout = config.partitioner.layout(config.dataset.batch_size)
  base = assembly.load_base(config.model, config.checkpoint, layout=layout)
  model = _prompted(base, config.prompt, config.vocabulary)
  split = states.Split.of(model)
  frozen = layout.place(split.frozen)
  answers = predictions.answers(
    split, frozen, config.prediction, config.vocabulary, layout.mesh, config.prompt.places
  )
  params = trees.values(layout.place(split.tunable))
  return Ready(layout, base, params, answers)


def _prompted(
  base: assembly.Base, prompt: Prompt | TaskPrompts, vocabulary: Vocabulary
) -> Prompted:
  if isinstance(prompt, TaskPrompts):
    return assembly.with_prompts(base, list(prompt.paths.values()), vocabulary)
  if isinstance(prompt.start, FromFile):
    found = formats.find_method(prompt.start.path)
    if found is not None:
      return assembly.answering(base, found, vocabulary)
  key = jax.random.key(0)  # a prompt from a file draws nothing
  return assembly.with_prompt(base, prompt, vocabulary, key)


def evaluate(config: EvalConfig, config_text: str = "") -> dict[str, Any]:
  """Evaluates a prompt, or every prompt of a run.

  Args:
    config: The evaluation.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    What is in `results.json`, see `scorecard`.

  Raises:
    InputError: Something given cannot be used.
  """
  folder = files.output_folder(config.output_dir, "EVAL_OUTPUT_DIR")
  writes = distributed.is_first()
  ready = prepare(config)
  quiet.import_seqio()
  from prompt_tuning.data import evaluation, registry

  provider = registry.find(config.dataset, config.vocabulary)
  for line in registry.cut(config.dataset):
    distributed.tell(line)
  log_dir = str(folder / "inference_eval") if writes else None
  run = evaluation.Evaluation(config.dataset, provider, log_dir)
  config.prediction.check(run.datasets(), config.vocabulary)
  if isinstance(config.prompt, TaskPrompts):
    config.prompt.check(list(run.datasets()))
  if writes:
    (folder / "config.gin").write_text(config_text)
  cards = [
    _scored(run, ready, one, folder / "submission" / str(one.step))
    for one in _prompts(config, ready)
  ]
  results = {
    "dataset": provider.name,
    "split": config.dataset.split,
    "prompts": cards,
  }
  if writes:
    text = json.dumps(results, indent=2) + "\n"
    files.write_atomically(folder / "results.json", text.encode())
    pictures.where_possible(pictures.scorecards, results, folder / "results.svg")
  return results


@dataclasses.dataclass(frozen=True)
class _Trained:
  """A prompt that is evaluated: its file, its step, its arrays."""

  path: str
  step: int
  params: dict[str, Any]


def _prompts(config: EvalConfig, ready: Ready) -> Iterator[_Trained]:
  if isinstance(config.prompt, TaskPrompts):
    yield _Trained(", ".join(config.prompt.paths.values()), ready.base.step, ready.params)
    return
  start = config.prompt.start
  if not isinstance(start, FromFile):
    yield _Trained("untrained", ready.base.step, ready.params)
  elif config.prompts == "best":
    file = formats.find_method(start.path) or formats.read_prompt(start.path)
    step = file.metadata.get("step", ready.base.step)
    yield _Trained(str(file.path), int(step), ready.params)
  elif (found := formats.find_method(start.path)) is not None:
    raise checks.InputError(
      f"PROMPTS is 'all' and {start.path} holds what the method {found.method} learned, "
      "expected prompts by step; set PROMPTS='best'"
    )
  else:
    for step, path in prompt_files.saved(files.path(start.path)).items():
      yield _Trained(str(path), step, _params(ready, str(path), config.vocabulary))


def _params(ready: Ready, path: str, vocabulary: Vocabulary) -> dict[str, Any]:
  """The arrays of another prompt for the same model."""
  model = assembly.with_prompts(ready.base, [path], vocabulary)
  return trees.values(ready.layout.place(states.Split.of(model).tunable))


def _scored(
  run: Any, ready: Ready, one: _Trained, submission: epath.Path
) -> dict[str, Any]:
  def predict(batch: predictions.Batch, task: str) -> Any:
    return ready.answers.predict(one.params, batch, task)

  found, texts = run.run(
    predict,
    lambda batch, task: ready.answers.score(one.params, batch, task),
    one.step,
  )
  answered = {task: (run.examples(task), texts[task]) for task in texts}
  answered |= run.unmeasured(predict)
  written: list[str] = []
  if distributed.is_first():
    written = handing_in.write(answered, run.datasets(), submission)
  return scorecard.card(one.path, one.step, found, run.datasets(), written)


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["eval", *sys.argv[1:]]))
