"""An ensemble of prompts of one task, evaluated next to its members, in one pass.

EVAL_OUTPUT_DIR/
  config.gin
  results.json              every member, their mean and best, every rule
  <task>-answers.jsonl      what each said, example by example
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning import assembly, checks, distributed, files, summary
from prompt_tuning import prediction as predictions
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.decoding import ensembling
from prompt_tuning.members import Members, Once
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.partitioning import Partitioner

Tasks = Mapping[str, Mapping[str, float]]  # {task: {metric: value}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
  """One evaluation of several prompts.

  Attributes:
    model: Shape of the frozen model.
    vocabulary: Its vocabulary.
    checkpoint: Its weights.
    prompts: Files of the prompts, or runs; lengths may differ.
    dataset: What is evaluated; its batch_size counts examples.
    prediction: How the model answers.
    partitioner: Which devices.
    output_dir: Where results are written.
  """

  model: ModelConfig
  vocabulary: Vocabulary
  checkpoint: RestoreCheckpointConfig
  prompts: Sequence[str]
  dataset: DatasetConfig
  prediction: predictions.Prediction = predictions.Prediction()
  partitioner: Partitioner = Partitioner()
  output_dir: str

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.partitioner.check()
    if isinstance(self.prompts, str) or len(self.prompts) < 2:
      raise checks.InputError(
        f"PROMPT_FILES is {self.prompts!r}, expected a list of two or more; for one use "
        "`prompt-tuning eval`"
      )
    if len(set(self.prompts)) < len(self.prompts):
      raise checks.InputError(
        f"PROMPT_FILES names a prompt twice among {list(self.prompts)}, expected each once "
        "since each has one vote; leave the second out"
      )


def ensemble(config: EnsembleConfig, config_text: str = "") -> dict[str, Any]:
  """Evaluates an ensemble and its members.

  Args:
    config: The evaluation.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    {"dataset", "split", "examples": {task: n}, "members": {file: tasks}, "mean": tasks,
    "spread": tasks, "best": tasks, "rules": {rule: tasks}} with tasks =
    {task: {metric: value}}; the spread is the standard deviation over members.

  Raises:
    InputError: Something given cannot be used.
  """
  config.check()
  folder = files.output_folder(config.output_dir, "EVAL_OUTPUT_DIR")
  layout = config.partitioner.layout(config.dataset.batch_size)
  base = assembly.load_base(config.model, config.checkpoint, layout=layout)
  model = assembly.with_prompts(base, config.prompts, config.vocabulary)
  members = Members(model, config.prediction, config.vocabulary, layout)
  quiet.import_seqio()
  from prompt_tuning.data import converters, evaluation, registry

  provider = registry.find(config.dataset, config.vocabulary)
  if converters.brings_candidates(provider):
    raise checks.InputError(
      f"the examples of {provider.name} bring candidates, expected one target each, for an "
      "ensemble chooses from LABELS; take its _generation task with LABELS = 'task'"
    )
  for line in registry.cut(config.dataset):
    distributed.tell(line)
  run = evaluation.Evaluation(config.dataset, provider, None)
  if not run.task_names:
    raise checks.InputError(
      f"{provider.name} has no metric for the split {config.dataset.split}, expected one "
      "to compare prompts with; choose another task or split"
    )
  config.prediction.check(run.datasets(), config.vocabulary)
  if distributed.is_first():
    (folder / "config.gin").write_text(config_text)
  answers, scores = Once(members.answers), Once(members.scores)
  contestants = [*config.prompts, *ensembling.RULES]
  found = [
    run.run(answers.of(place), scores.of(place), base.step)
    for place in range(len(contestants))
  ]
  metrics = [each for each, _ in found]
  results = {
    "dataset": provider.name,
    "split": config.dataset.split,
    "examples": {task: len(run.examples(task)) for task in run.task_names},
    **compared(config.prompts, metrics),
  }
  if not distributed.is_first():
    return results
  text = json.dumps(results, indent=2) + "\n"
  files.write_atomically(folder / "results.json", text.encode())
  for task in run.task_names:
    lines = _lines(contestants, [texts[task] for _, texts in found], run.targets(task))
    path = folder / f"{task}-answers.jsonl"
    files.write_atomically(path, "".join(lines).encode())
  return results


def compared(prompts: Sequence[str], metrics: Sequence[Tasks]) -> dict[str, Any]:
  """Members, their mean and best, and rules, from the metrics of all contestants."""
  members, rules = metrics[: len(prompts)], metrics[len(prompts) :]

  def over_members(reduce: Any) -> dict[str, dict[str, float]]:
    return {
      task: {name: reduce([each[task][name] for each in members]) for name in values}
      for task, values in members[0].items()
    }

  return {
    "members": dict(zip(prompts, members, strict=True)),
    "mean": over_members(statistics.fmean),
    "spread": over_members(statistics.stdev),
    "best": over_members(max),
    "rules": dict(zip(ensembling.RULES, rules, strict=True)),
  }


def _lines(
  contestants: Sequence[str], texts: Sequence[Sequence[str]], targets: Sequence[str]
) -> list[str]:
  return [
    json.dumps(
      {"target": target, "answers": dict(zip(contestants, said, strict=True))},
      ensure_ascii=False,
    )
    + "\n"
    for target, *said in zip(targets, *texts, strict=True)
  ]


def report(results: Mapping[str, Any]) -> str:
  """The results as a person reads them."""
  members = results["members"]
  best = (f"best of {len(members)}", results["best"])
  rows = [*members.items(), best, *results["rules"].items()]
  blocks = []
  for task, count in results["examples"].items():
    means = ", ".join(
      f"{name} {value:.1f} ± {results['spread'][task][name]:.1f}"
      for name, value in results["mean"][task].items()
    )
    blocks.append(
      f"{task}, {results['split']} split, {count} examples\n"
      + summary.table([(name, tasks[task]) for name, tasks in rows], count)
      + f"\nmean of {len(members)} prompts: {means}"
    )
  return "\n\n".join(blocks)
