"""A table as a seqio Task, and how much of it is cut."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import (
  features,
  label_words,
  row_order,
  table_examples,
  table_metrics,
  vocabularies,
)
from prompt_tuning.data.table import Table
from prompt_tuning.data.table_examples import Example

_FEATURES = ("inputs", "targets")


@dataclasses.dataclass(frozen=True)
class _Registered:
  """A table whose task is in seqio's registry.

  Attributes:
    table: It.
    made_of: Tables that agree in it are the same task.
    examples: Of every split.
    counted: {(split, vocabulary): {feature: tokens of every example}}.
  """

  table: Table
  made_of: tuple[str, ...]
  examples: Mapping[str, Sequence[Example]]
  counted: dict[tuple[str, vocabularies.Vocabulary], dict[str, list[int]]] = (
    dataclasses.field(default_factory=dict)
  )


_registered: dict[str, _Registered] = {}


def register(table: Table) -> None:
  """Adds the task of a table to seqio's registry, in place of another table's.

  Raises:
    InputError: The table cannot be used, or its name is that of a task that is no table.
  """
  table.check()
  made_of = (table.identity(), *table.metrics)
  taken = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
  before = _registered.get(table.name)
  if table.name in taken and before is None:
    raise checks.InputError(
      f"the table's name {table.name!r} is that of another task, expected a new one; "
      "choose another"
    )
  if table.name in taken and before is not None and before.made_of == made_of:
    return
  metric_fns, examples = table_metrics.functions(table), table_examples.read(table)
  seqio.TaskRegistry.remove(table.name)
  seqio.TaskRegistry.add(
    table.name,
    source=seqio.FunctionDataSource(
      functools.partial(_dataset, examples),
      splits=tuple(examples),
      num_input_examples={split: len(rows) for split, rows in examples.items()},
    ),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim],
    postprocess_fn=table_metrics.postprocessor(table),
    metric_fns=metric_fns,
    output_features=features.text_to_text(vocabularies.T5),
  )
  _renew_mixtures(table.name)
  words = table.words() or ()
  if words or label_words.of(table.name):  # the table before may have had some
    label_words.declare(table.name, words)
  _registered[table.name] = _Registered(table, made_of, examples)


def _renew_mixtures(name: str) -> None:
  """Lets the mixtures that hold an earlier task of this name have the new one."""
  for mixture in [seqio.MixtureRegistry.get(n) for n in seqio.MixtureRegistry.names()]:
    members = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    if name in members:
      seqio.MixtureRegistry.remove(mixture.name)
      seqio.MixtureRegistry.add(mixture.name, list(members.items()))


def registered(name: str) -> Table | None:
  """The table whose task has this name, or None where the task is no table's."""
  found = _registered.get(name)
  return None if found is None else found.table


def _dataset(
  examples: Mapping[str, Sequence[Example]],
  split: str,
  shuffle_files: bool = False,
  seed: int | None = None,
) -> tf.data.Dataset:
  rows = row_order.shuffled(examples[split], seed) if shuffle_files else examples[split]
  columns = {name: [getattr(row, name) for row in rows] for name in _FEATURES}
  if rows[0].answers:
    columns["answers"] = tf.ragged.constant([row.answers for row in rows])
  return tf.data.Dataset.from_tensor_slices(columns)


def truncated(table: Table, split: str, lengths: Mapping[str, int]) -> dict[str, int]:
  """How many inputs and targets of a registered table are longer than `lengths`.

  Args:
    table: One that is registered.
    split: One that it has.
    lengths: Tokens per feature, the one that ends a text included.

  Returns:
    {"inputs": count, "targets": count} in the run's vocabulary.
  """
  counted = _counted(table.name, split)
  return {name: sum(n > lengths[name] for n in counted[name]) for name in _FEATURES}


def report(table: Table, split: str, lengths: Mapping[str, int] | None) -> str | None:
  """A line that says what `truncated` counts, or None where nothing is cut."""
  if lengths is None:
    return None
  counted, parts = _counted(table.name, split), []
  for name, count in truncated(table, split, lengths).items():
    if count:
      be = "is" if count == 1 else "are"
      parts.append(
        f"{count:,} of {len(counted[name]):,} {name} {be} longer than {lengths[name]:,} "
        f"tokens and {be} cut (the longest has {max(counted[name]):,})"
      )
  return f"{table.name} {split}: {'; '.join(parts)}" if parts else None


def _counted(name: str, split: str) -> dict[str, list[int]]:
  """Tokens of every example, EOS included, counted once per vocabulary."""
  record, vocabulary = _registered[name], vocabularies.current(vocabularies.T5)
  if (split, vocabulary) not in record.counted:
    loads = {"inputs": vocabularies.inputs, "targets": vocabularies.targets}
    rows = record.examples[split]
    record.counted[split, vocabulary] = {
      feature: [len(load(vocabulary).encode(getattr(row, feature))) + 1 for row in rows]
      for feature, load in loads.items()
    }
  return record.counted[split, vocabulary]
