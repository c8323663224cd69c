"""A sweep as data: one run, and what varies between its members."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

from prompt_tuning import assembly, checks
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.learned import PromptTuning
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.train_config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Member:
  """One prompt of a sweep.

  Attributes:
    name: Short and readable; of its folder too.
    facts: What may vary: {"learning rate", "seed", "start", "task"} and their values.
    run: The run that trains this prompt alone, but for its folder.
  """

  name: str
  facts: dict[str, Any]
  run: TrainConfig

  @property
  def task(self) -> str:
    """What it learns."""
    return self.run.train_dataset.mixture_or_task_name

  @property
  def folder(self) -> str:
    """Where its results lie in MODEL_DIR."""
    return f"members/{self.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
  """Prompts that are trained in one pass; the members are all combinations.

  Attributes:
    run: What they share. Where a list below is None, its value is the member's.
    learning_rates: Base learning rates.
    seeds: Random seeds: of the start, of dropout and of the order of examples.
    prompts: How prompts start; of one length.
    tasks: Names of tasks or mixtures.
    at_once: Members that go through the model at once, at most; None is one on a CPU
      and all on an accelerator. It changes memory and speed, not what is learned.
  """

  run: TrainConfig
  learning_rates: Sequence[float] | None = None
  seeds: Sequence[int] | None = None
  prompts: Sequence[Prompt] | None = None
  tasks: Sequence[str] | None = None
  at_once: int | None = None

  @property
  def model(self) -> ModelConfig:
    """Shape of the model."""
    return self.run.model

  @property
  def checkpoint(self) -> RestoreCheckpointConfig:
    """Its pretrained weights."""
    return self.run.checkpoint

  @property
  def prompt(self) -> Prompt:
    """The whole bank."""
    prompt = self._prompts()[0]
    return dataclasses.replace(prompt, num_prompts=len(self.members()))

  def check(self) -> None:
    """Raises `InputError` for settings that make no sweep."""
    for macro, values in (
      ("SWEEP_LEARNING_RATES", self.learning_rates),
      ("SWEEP_SEEDS", self.seeds),
      ("SWEEP_PROMPTS", self.prompts),
      ("SWEEP_TASKS", self.tasks),
    ):
      _check_list(macro, values)
    for rate in self.learning_rates or ():
      checks.number("a rate of SWEEP_LEARNING_RATES", rate, 0.0, "write [0.1, 0.3]")
    for seed in self.seeds or ():
      checks.whole("a seed of SWEEP_SEEDS", seed, 0, "write [0, 1, 2]")
    if self.at_once is not None:
      checks.whole("SWEEP_AT_ONCE", self.at_once, 1, "leave it out for a number that suits")
    self.run.check()
    _check_prompts(self._prompts())
    self.members()

  def _prompts(self) -> Sequence[Prompt]:
    if not isinstance(self.run.learned, PromptTuning):
      raise checks.InputError(
        f"LEARNED is {self.run.learned.name}, expected prompts, since a sweep has one "
        "frozen model for all members; leave LEARNED out"
      )
    return [self.run.learned.prompt] if self.prompts is None else self.prompts

  def members(self) -> list[Member]:
    """All combinations; those that differ in the seed only stand together.

    Raises:
      InputError: Two would be the same.
    """
    run, prompts = self.run, self._prompts()
    starts = _distinct([_snake(type(prompt.start).__name__) for prompt in prompts])
    found = [
      self._member(task, start, rate, seed)
      for task, start, rate, seed in itertools.product(
        self.tasks or [run.train_dataset.mixture_or_task_name],
        zip(starts, prompts, strict=True),
        self.learning_rates or [run.learning_rate_fn.base_learning_rate],
        [run.trainer.random_seed] if self.seeds is None else self.seeds,
      )
    ]
    names = [member.name for member in found]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
      raise checks.InputError(
        f"the members {', '.join(doubled)} are there more than once, expected each once; "
        "remove what stands twice in a SWEEP_ list"
      )
    return found

  def _member(self, task: str, start: tuple[str, Prompt], rate: float, seed: int) -> Member:
    run, (start_name, prompt) = self.run, start
    parts = {
      "learning rate": f"lr{rate:g}",
      "seed": f"seed{seed}",
      "start": start_name,
      "task": re.sub(r"[^\w.-]", "_", task),
    }
    name = "-".join(parts[fact] for fact in self.varied()) or "run"
    dataset = dataclasses.replace(run.train_dataset, mixture_or_task_name=task)
    trainer, judged = run.trainer, run.eval_dataset
    if self.seeds is not None:
      trainer = dataclasses.replace(trainer, random_seed=seed)
      dataset = dataclasses.replace(dataset, seed=seed)
    if judged is not None:
      judged = dataclasses.replace(judged, mixture_or_task_name=task)
    alone = dataclasses.replace(
      run,
      learned=PromptTuning(prompt=prompt),
      learning_rate_fn=dataclasses.replace(run.learning_rate_fn, base_learning_rate=rate),
      trainer=trainer,
      train_dataset=dataset,
      eval_dataset=judged,
    )
    facts = {"learning rate": rate, "seed": seed, "start": start_name, "task": task}
    return Member(name, facts, alone)

  def varied(self) -> list[str]:
    """The facts of which there is more than one value."""
    lists = {
      "learning rate": self.learning_rates,
      "seed": self.seeds,
      "start": self.prompts,
      "task": self.tasks,
    }
    return [fact for fact, values in lists.items() if values and len(values) > 1]


def _check_list(macro: str, values: Any) -> None:
  if values is not None and (not isinstance(values, list | tuple) or not values):
    raise checks.InputError(
      f"{macro} is {values!r}, expected a list of one or more, or None for the run's own "
      "value; write it in brackets"
    )


def _check_prompts(prompts: Sequence[Prompt]) -> None:
  lengths = sorted({prompt.length for prompt in prompts})
  if len(lengths) > 1:
    raise checks.InputError(
      f"the prompts of the sweep have {checks.one_of(lengths)} tokens, expected one length "
      "for all, since they lie in one bank; give each length a sweep of its own"
    )
  kinds = {assembly.visibility(prompt) for prompt in prompts} if len(prompts) > 1 else {0}
  if len(kinds) > 1:
    raise checks.InputError(
      "the prompts of the sweep have different visibilities, expected one for all, since "
      "they are trained by one step; give each PROMPT_VISIBILITY a sweep of its own"
    )
  for prompt in prompts:
    if prompts.count(prompt) > 1:
      raise checks.InputError(
        f"SWEEP_PROMPTS has {prompt} more than once, expected each once; remove one"
      )
    if prompt.num_prompts != 1:
      raise checks.InputError(
        f"a member has {prompt.num_prompts} prompts, expected one each; leave "
        "prompts.Prompt.num_prompts out"
      )


def _snake(name: str) -> str:
  """class_labels for ClassLabels."""
  return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _distinct(names: Sequence[str]) -> list[str]:
  """Names, numbered from 1 where one stands there more than once."""
  seen: dict[str, int] = {}
  found = []
  for name in names:
    seen[name] = seen.get(name, 0) + 1
    found.append(f"{name}_{seen[name]}" if names.count(name) > 1 else name)
  return found
