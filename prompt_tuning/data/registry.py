"""Finding a task by name, and saying what is wrong when it cannot be used."""

import importlib
from collections.abc import Sequence
from typing import Any

import seqio

from prompt_tuning import checks
from prompt_tuning.data import converters, table_task, tfds_store, vocabularies
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.table import SPLITS, Table

BUILT_IN = "prompt_tuning.data.tasks"
MOVED = {  # where the original has its modules
  "prompt_tuning.extended.perceptron.data.tasks": "prompt_tuning.data.perceptron",
  "prompt_tuning.spot.data": "prompt_tuning.data.spot",
  "prompt_tuning.recycling.data": "prompt_tuning.data.recycling",
}


def find(config: DatasetConfig, vocabulary: vocabularies.Vocabulary) -> Any:
  """The seqio Task or Mixture of a dataset config.

  Raises:
    InputError: The module or the name is unknown, the split does not exist, the data are
      not here, or the task speaks another vocabulary than the model.
  """
  vocabularies.use(vocabulary)
  import_modules(config.module)
  if config.table is not None:
    config.table.register()
  name = config.mixture_or_task_name
  provider = named(name)
  if config.split not in provider.splits:
    if config.table is not None and config.split in SPLITS:
      raise checks.InputError(
        f"the table {name} has no rows for the split {config.split!r}, expected some; set "
        f"{config.split.upper()}_FILE"
      )
    raise checks.unknown(f"split of {name}", config.split, list(provider.splits))
  check_vocabulary(name, provider, vocabulary)
  converters.check(name, provider)
  lengths = config.task_feature_lengths
  lacking = provider.output_features.keys() - (lengths or provider.output_features).keys()
  if lacking:
    raise checks.InputError(
      f"TASK_FEATURE_LENGTHS is {dict(lengths or {})}, expected a length for every feature "
      f"of {name}; add {', '.join(sorted(lacking))}"
    )
  if lengths is not None:
    converters.check_read(name, provider, lengths)
  if not config.use_cached:
    for task in tasks_with_split(provider, config.split):
      tfds_store.ensure(task)
  return provider


def tasks_with_split(provider: Any, split: str) -> list[Any]:
  """The task itself, or the members of a mixture, that have a split."""
  return [task for task in seqio.get_subtasks(provider) if split in task.splits]


def identity(config: DatasetConfig | None) -> dict[str, str]:
  """What must not change of the rows of tables while a run is interrupted."""
  if config is None:
    return {}
  return {
    f"{config.split} rows of table {table.name}": table.identity([config.split])
    for table in _tables(config)
  }


def cut(config: DatasetConfig) -> list[str]:
  """Lines that say how much of each table is longer than the run reads, if any is."""
  lines = (
    table_task.report(table, config.split, config.task_feature_lengths)
    for table in _tables(config)
  )
  return [line for line in lines if line is not None]


def _tables(config: DatasetConfig) -> list[Table]:
  """The tables that a run reads."""
  tasks = tasks_with_split(named(config.mixture_or_task_name), config.split)
  found = (table_task.registered(task.name) for task in tasks)
  return [table for table in found if table is not None]


def named(name: str) -> Any:
  """The registered seqio Task or Mixture.

  Raises:
    InputError: There is none of that name; the nearest are named.
  """
  if name not in names():
    importlib.import_module(BUILT_IN)
  return seqio.get_mixture_or_task(checks.choice("task or mixture", name, names()))


def rates(provider: Any) -> dict[str, float] | None:
  """{member: rate} of a mixture, None for a task."""
  if not isinstance(provider, seqio.Mixture):
    return None
  return {task.name: provider.get_rate(task) for task in seqio.get_subtasks(provider)}


def names() -> list[str]:
  """All that is registered, tasks and mixtures."""
  return [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]


def import_modules(module: str | Sequence[str] | None) -> None:
  """Imports the task modules that a run names; built-in tasks are found without.

  Raises:
    InputError: One is not there, or something that it imports is not.
  """
  for name in _modules(module):
    try:
      importlib.import_module(name)
    except ModuleNotFoundError as error:
      raise _missing(name, error.name or "") from error


def _missing(module: str, lacking: str) -> checks.InputError:
  """The error for a task module that is not there, or whose own import is not."""
  if module == lacking or module.startswith(f"{lacking}."):
    return checks.InputError(
      f"there is no module {module!r}, expected the module that registers the task; "
      "correct MIXTURE_OR_TASK_MODULE or add its folder to PYTHONPATH"
    )
  return checks.InputError(
    f"the module {module!r} imports {lacking!r}, which is not installed; install it"
  )


def _modules(module: str | Sequence[str] | None) -> list[str]:
  given = [module] if isinstance(module, str) else list(module or [])
  return [_home(name) for name in given]


def _home(module: str) -> str:
  """Where a module of the original is now."""
  for theirs, ours in MOVED.items():
    if module == theirs or module.startswith(f"{theirs}."):
      return ours
  return module


def check_vocabulary(name: str, provider: Any, vocabulary: vocabularies.Vocabulary) -> None:
  """Raises `InputError` unless a task's features use the model's vocabulary."""
  inputs, targets = vocabularies.inputs(vocabulary), vocabularies.targets(vocabulary)
  for feature, details in provider.output_features.items():
    model = inputs if feature == "inputs" else targets
    if not isinstance(details.vocabulary, seqio.PassThroughVocabulary) and (
      details.vocabulary != model
    ):
      raise checks.InputError(
        f"the feature {feature!r} of {name} uses {details.vocabulary}, expected the "
        f"model's {model}; register the task with the model's vocabulary or set "
        "VOCABULARY"
      )
