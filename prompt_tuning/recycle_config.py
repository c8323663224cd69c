"""A recycling experiment: many prompts, models and methods, and where each result lies.

root_dir/
  <method>/learned-recyclers/<source>_to_<target>            and .json, what it learned from
  <method>/<dataset>/<init>/<run>/recycled-prompt/recycled_from_<source>_at_<step>_to_<target>
  <method>/<dataset>/<init>/<run>/eval/recycled_from_...     for the evaluation of each
  cli_args-<dataset>.txt   recycling-<dataset>.tsv   training-<dataset>.tsv
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from prompt_tuning import checks, files, recycle_fields, word_pairs
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.methods.recycling import Recycler
from prompt_tuning.recycle_fields import FROM_STRING, WAYWARD
from prompt_tuning.word_pairs import Choice


@dataclasses.dataclass(frozen=True)
class Job:
  """A prompt to recycle.

  Attributes:
    source: Model it was trained for.
    init: How it was started.
    run: Which of several.
    step: Of its training.
    prompt: Where it lies.
  """

  source: str
  init: str
  run: str
  step: int
  prompt: epath.Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """The fields of the file, see `recycle_fields`, but for these.

  Attributes:
    skips: combination_skips.
    words: {"default" or "from_string": tokens that are learned from}.
    table: T5X path of the table that "from_string" reads.
    methods: {name: recycler}.
  """

  root_dir: epath.Path
  dataset: str
  task_name: str
  clobber: bool
  steps: tuple[int, ...] | None
  skips: frozenset[tuple[str, str]]
  words: Mapping[str, Choice]
  table: str
  methods: Mapping[str, Recycler]
  pretrained: Mapping[str, str]
  prompts: Mapping[str, Mapping[str, Mapping[str, str]]]

  def targets(self, source: str) -> Iterator[str]:
    """The models that the prompts of a model are recycled to."""
    for target in self.pretrained:
      if target != source and (source, target) not in self.skips:
        yield target

  def jobs(self) -> list[Job]:
    """The prompts that there are, of the steps that are asked for.

    Raises:
      InputError: Some are not there; all of them are listed.
    """
    found, missing = [], []
    for source, inits in self.prompts.items():
      for init, runs in inits.items():
        for run, folder in runs.items():
          saved = prompt_files.saved(files.path(folder))
          steps = saved if self.steps is None else self.steps
          missing += [f"  {folder}: step {step}" for step in steps if step not in saved]
          there = [step for step in steps if step in saved]
          found += [Job(source, init, run, step, saved[step]) for step in there]
    if missing:
      raise checks.InputError(
        "prompts of the experiment are not there, expected all of its steps; correct "
        "prompts or steps\n" + "\n".join(missing)
      )
    return found

  def recycler(self, method: str, source: str, target: str, words: str) -> epath.Path:
    """Where what a method learned from some words is saved."""
    name = f"{source}_to_{target}" + (f"-{WAYWARD}" if words == FROM_STRING else "")
    return self.root_dir / method / "learned-recyclers" / spaceless(name)

  def run(self, method: str, init: str, run: str) -> epath.Path:
    """Where the recycled prompts of a run lie, and their evaluations."""
    return self.root_dir.joinpath(method, *map(spaceless, (self.dataset, init, run)))

  def output(self, method: str, job: Job, target: str) -> epath.Path:
    """The recycled prompt."""
    name = recycled(job.source, job.step, target)
    return self.run(method, job.init, job.run) / "recycled-prompt" / name

  def evaluation(self, method: str, job: Job, target: str) -> epath.Path:
    """The folder of its evaluation."""
    name = recycled(job.source, job.step, target)
    return self.run(method, job.init, job.run) / "eval" / name


def recycled(source: str, step: int | str, target: str) -> str:
  """The name of a recycled prompt."""
  return spaceless(f"recycled_from_{source}_at_{step}_to_{target}")


def spaceless(name: str) -> str:
  """A name as the original writes it into a path."""
  return name.replace(" ", "_")


def read(path: str) -> Experiment:
  """Reads an experiment.

  Raises:
    InputError: The file cannot be read, or says something wrong; all of it is listed.
  """
  try:
    fields = json.loads(files.path(path).read_text())
  except (OSError, ValueError) as error:
    raise checks.InputError(
      f"--config {path} cannot be read ({str(error)[:120]}), expected a JSON file; "
      "correct it"
    ) from error
  if not isinstance(fields, dict):
    raise checks.InputError(f"--config {path} is no JSON object, expected one; correct it")
  problems = recycle_fields.problems(fields)
  if problems:
    raise checks.InputError(
      f"--config {path} cannot be used, expected the fields that docs/recycling.md shows; "
      "correct it\n" + "\n".join(f"  {problem}" for problem in problems)
    )
  return _experiment({**recycle_fields.OPTIONAL, **fields})


def _experiment(fields: dict[str, Any]) -> Experiment:
  embeddings, skips = fields["load_embeddings"], fields["combination_skips"] or ()
  steps, methods = fields["steps"], fields["recycling_methods"]
  string = embeddings.get(FROM_STRING, {})
  return Experiment(
    root_dir=files.path(fields["root_dir"]),
    dataset=fields["dataset"],
    task_name=fields["task_name"],
    clobber=fields["clobber"],
    steps=None if steps is None else tuple(steps),
    skips=frozenset((source, target) for source, target in skips),
    words={kind: recycle_fields.words(kind, args) for kind, args in embeddings.items()},
    table=string.get("variable_path", word_pairs.TABLE),
    methods={name: recycle_fields.method(name, args) for name, args in methods.items()},
    pretrained=fields["pretrained"],
    prompts=fields["prompts"],
  )
