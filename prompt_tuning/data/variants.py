"""One description of a task, registered under all the names that the original gives it.

  glue_cola_v200                  "cola sentence: S"
  taskless_glue_cola_v200         "sentence: S"
  task_index_glue_cola_v200       "<sentinel 0> sentence: S"

Each also ends in _examples, which shows some examples beside the metrics, and begins with
mt5_ or byt5_, which is the vocabulary where a run sets none.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio

from prompt_tuning.data import (
  example_metrics,
  features,
  label_words,
  postprocessors,
  preprocessors,
  vocabularies,
)
from prompt_tuning.data.metrics import Metric

PREFIXES: dict[
  str, vocabularies.Vocabulary
] = {  # what a name begins with -> the vocabulary without a run
  "": vocabularies.T5,
  "mt5_": vocabularies.MT5,
  "byt5_": vocabularies.BYT5,
}
BASE, TASKLESS, TASK_INDEX = "", "taskless_", "task_index_"
FORMS = (BASE, TASKLESS, TASK_INDEX)
PLAIN, EXAMPLES = "", "_examples"
SUFFIXES = (PLAIN, EXAMPLES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """What all variants of a task share.

  Attributes:
    source: The records.
    preprocessors: From records to texts "inputs" and "targets".
    postprocess: From text to what the metrics compare; None leaves the text.
    metrics: Of predictions.
    labels: Label words in class order, where the answer is one of them.
    index: Number of the task among those of its benchmark.
    shown: How an example is shown, see `example_metrics.text_examples`.
    find_negative: Whether wrong answers are shown by themselves.
  """

  source: seqio.DataSource
  preprocessors: Sequence[Callable]
  postprocess: Callable[..., Any] | None = None
  metrics: Sequence[Metric] = ()
  labels: tuple[str, ...] | None = None
  index: int = 0
  shown: Callable[..., str] | None = None
  find_negative: bool = True


def tfds(name: str, splits: Sequence[str] | Mapping[str, str]) -> seqio.DataSource:
  """A TFDS dataset; the splits are said here so that names are known without data."""
  return seqio.TfdsDataSource(tfds_name=name, splits=splits)


def with_splits(
  task: Description, splits: Sequence[str] | Mapping[str, str]
) -> Description:
  """The same task with other splits of its data."""
  return dataclasses.replace(task, source=tfds(task.source.tfds_dataset.name, splits))


def held_out(examples: int) -> dict[str, str]:
  """The training split in two, the end of it as "validation"."""
  return {"train": f"train[:-{examples}]", "validation": f"train[-{examples}:]"}


def labelled(labels: tuple[str, ...]) -> Callable[..., int]:
  """The postprocessor of a classification task."""
  return functools.partial(postprocessors.string_label_to_class_id, label_classes=labels)


def add(name: str, task: Description, forms: Sequence[str] = FORMS) -> None:
  """Registers a task in its variants."""
  for prefix, form, suffix in itertools.product(PREFIXES, forms, SUFFIXES):
    full = f"{prefix}{form}{name}{suffix}"
    register(full, task, form, suffix, PREFIXES[prefix])


def register(
  full: str,
  task: Description,
  form: str = BASE,
  suffix: str = PLAIN,
  vocabulary: vocabularies.Vocabulary = vocabularies.T5,
) -> None:
  """Registers one variant under a name, unless the name exists.

  Args:
    full: The name.
    task: What it is.
    form: Of `FORMS`.
    suffix: Of `SUFFIXES`.
    vocabulary: Which one, where a run sets none.
  """
  if full in seqio.TaskRegistry.names():
    return
  if task.labels is not None:
    label_words.declare(full, task.labels)
  seqio.TaskRegistry.add(
    full,
    source=task.source,
    preprocessors=list(_steps(task, form)),
    postprocess_fn=_postprocess(task, suffix),
    metric_fns=list(_metrics(task, full, suffix)),
    output_features=features.text_to_text(vocabulary),
  )


def add_mixture(
  name: str,
  rates: Mapping[str, float],
  forms: Sequence[str] = FORMS,
  tail: str = "",
) -> None:
  """Registers a mixture in its variants, each of the members' own variants.

  Args:
    name: Without prefix, form and suffix.
    rates: {name of a member, as `add` knows it: examples drawn relative to the others}.
    forms: Which forms there are.
    tail: What the mixture's name has behind the suffix.
  """
  for prefix, form, suffix in itertools.product(PREFIXES, forms, SUFFIXES):
    full = f"{prefix}{form}{name}{suffix}{tail}"
    members = {f"{prefix}{form}{m}{suffix}": float(rate) for m, rate in rates.items()}
    register_mixture(full, members)


def register_mixture(full: str, rates: Mapping[str, float]) -> None:
  """Registers a mixture of {task: rate} under a name, unless the name exists."""
  if full not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add(full, list(rates.items()))


def _steps(task: Description, form: str) -> Iterator[Callable]:
  yield from task.preprocessors
  if form != BASE:
    yield preprocessors.remove_first_text_token
  yield seqio.preprocessors.tokenize
  if form == TASK_INDEX:
    yield functools.partial(preprocessors.add_sentinel_to_beginning, offset=task.index)
  yield seqio.CacheDatasetPlaceholder()
  yield seqio.preprocessors.append_eos_after_trim


def _postprocess(task: Description, suffix: str) -> Callable[..., Any] | None:
  if suffix == PLAIN or not task.metrics:
    return task.postprocess
  return functools.partial(postprocessors.with_examples, postprocess=task.postprocess)


def _metrics(task: Description, name: str, suffix: str) -> Iterator[Callable]:
  if suffix == PLAIN:
    yield from task.metrics
    return
  for metric in task.metrics:
    yield functools.partial(example_metrics.unwrapped, metric=metric)
  if task.metrics:
    yield functools.partial(
      example_metrics.text_examples,
      task=name,
      shown=task.shown,
      find_negative=task.find_negative,
    )
