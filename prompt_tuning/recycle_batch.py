"""Recycling all prompts of an experiment; what was learned is saved and used again."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator

from etils import epath

from prompt_tuning import checks, files, formats, recycle, word_pairs
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.methods import recycler_files
from prompt_tuning.methods.recycling import Recycler
from prompt_tuning.recycle import Fit
from prompt_tuning.recycle_config import Experiment, Job
from prompt_tuning.recycle_fields import FROM_STRING, kind_of_words
from prompt_tuning.word_pairs import Embeddings, Pairs


def recycle_all(experiment: Experiment) -> Iterator[str]:
  """Writes every recycled prompt; yields a line for each recycler.

  Raises:
    InputError: Prompts or models are missing, or do not fit each other; nothing is
      learned before all of them were looked at.
  """
  models = _Models(experiment)
  prompts = {job: _checked(job, models) for job in experiment.jobs()}
  for source in experiment.prompts:
    for target in experiment.targets(source):
      for kind in dict.fromkeys(map(kind_of_words, experiment.prompts[source])):
        jobs = [j for j in prompts if j.source == source and kind_of_words(j.init) == kind]
        pair = _Pair(experiment, models, source, target, kind)
        for method in experiment.methods:
          fit = pair.fit(method)
          for job in jobs:
            array = recycle.mapped(fit.mapping, prompts[job].prompt)
            place = experiment.output(method, job, target)
            with files.writing(place):
              prompt_files.save_prompt(str(place), array)
          yield f"{source} to {target} by {method}: {len(jobs)} prompts, {fit.report}"


def write_arguments(experiment: Experiment) -> epath.Path:
  """Writes `cli_args-<dataset>.txt`: per prompt the flags of `prompt-tuning eval`."""
  lines = []
  for job in experiment.jobs():
    for target in experiment.targets(job.source):
      for method in experiment.methods:
        macros = {
          "CHECKPOINT_PATH": experiment.pretrained[target],
          "PROMPT_FILE": experiment.output(method, job, target),
          "EVAL_OUTPUT_DIR": experiment.evaluation(method, job, target),
          "MIXTURE_OR_TASK_NAME": experiment.task_name,
        }
        lines.append(" ".join(f"\"--gin.{n}='{v}'\"" for n, v in macros.items()))
  path = experiment.root_dir / f"cli_args-{experiment.dataset}.txt"
  with files.writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
  return path


class _Models:
  """The tables of an experiment's models, read when they are asked for, and once."""

  def __init__(self, experiment: Experiment):
    self._experiment = experiment
    self._checkpoints = {n: formats.load(p) for n, p in experiment.pretrained.items()}
    shapes = {n: c.leaf(word_pairs.TABLE).shape for n, c in self._checkpoints.items()}
    word_pairs.check_rows({name: shape[0] for name, shape in shapes.items()})
    self.widths = {name: shape[1] for name, shape in shapes.items()}
    self._rows = next(iter(shapes.values()))[0]
    self.embeddings = functools.lru_cache(maxsize=2)(self._embeddings)
    self.pairs = functools.cache(lambda kind: experiment.words[kind].pairs(self._rows))

  def _embeddings(self, name: str, table: str) -> Embeddings:
    return Embeddings.load(self._experiment.pretrained[name], table)


def _checked(job: Job, models: _Models) -> PromptFile:
  prompt = formats.read_prompt(str(job.prompt))
  recycle.check_width(prompt, models.widths[job.source])
  recycle.check_silent(prompt)
  return prompt


@dataclasses.dataclass(frozen=True)
class _Pair:
  """Two models, seen by some words."""

  experiment: Experiment
  models: _Models
  source: str
  target: str
  kind: str

  def fit(self, method: str) -> Fit:
    """Learns, or takes what was saved."""
    experiment = self.experiment
    table = experiment.table if self.kind == FROM_STRING else word_pairs.TABLE
    source = self.models.embeddings(self.source, table)
    target = self.models.embeddings(self.target, table)
    pairs = self.models.pairs(self.kind)
    place = experiment.recycler(method, self.source, self.target, self.kind)
    recycler = experiment.methods[method]
    learned_from = _learned_from(recycler, source, target, pairs)
    if place.exists() and not experiment.clobber:
      _check_learned_from(place, learned_from)
      widths = source.table.shape[1], target.table.shape[1]
      return recycle.judged(recycler_files.load(place, *widths), source, target, pairs)
    fit = recycle.fit(recycler, source, target, pairs)
    with files.writing(place):
      recycler_files.save(place, fit.mapping)
      if place.exists():  # lin-comb has nothing to save
        files.write_atomically(_beside(place), learned_from.encode())
    return fit


def _learned_from(
  recycler: Recycler, source: Embeddings, target: Embeddings, pairs: Pairs
) -> str:
  """What a fit depends on, as JSON."""
  vectors = [model.of(pairs.learned) for model in (source, target)]
  digest = hashlib.sha256(b"".join(array.tobytes() for array in vectors))
  facts = {"recycler": repr(recycler), "vectors": digest.hexdigest()}
  return json.dumps(facts, indent=2) + "\n"


def _check_learned_from(place: epath.Path, expected: str) -> None:
  """Raises `InputError` where a saved recycler is known to have learned otherwise."""
  beside = _beside(place)
  if beside.exists() and beside.read_text() != expected:
    raise checks.InputError(
      f"the recycler {place} learned from other words, models or settings than the "
      "experiment has, expected the same; set clobber, or choose another root_dir"
    )


def _beside(place: epath.Path) -> epath.Path:
  return place.parent / f"{place.name}.json"
