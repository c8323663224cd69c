"""An `Objective` as a seqio Task, and the packed rows that it yields."""

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import seqio

from prompt_tuning import checks
from prompt_tuning.data import (
  documents,
  features,
  objectives,
  registry,
  text_files,
  vocabularies,
)
from prompt_tuning.data.objective_config import Objective
from prompt_tuning.data.token_arrays import FEATURES, Row


def task(objective: Objective, vocabulary: vocabularies.Vocabulary) -> Any:
  """The seqio Task (or, for a registered name, Mixture) of an objective.

  Raises:
    InputError: Its text, its name or the vocabulary cannot be used.
  """
  vocabulary.load()  # fails here where it is absent or damaged
  vocabularies.use(vocabulary)
  name, text = objective.name, objective.text
  if objective.kind is None:
    registry.import_modules(objective.module)
    found = registry.named(name)
    registry.check_vocabulary(name, found, vocabulary)
    return found
  if text is None:
    raise checks.InputError(
      f"the objective {name!r} has no text, expected files or 'tfds:NAME'; set TEXT"
    )
  labelled = objective.kind == "labelled"
  steps = objectives.from_text(_preprocessor(objective))
  return seqio.Task(
    name,
    source=documents.source(text, labelled=labelled),
    preprocessors=steps[1:] if labelled else steps,  # it has "inputs" of its own
    output_features=features.text_to_text(vocabularies.T5),
  )


def _preprocessor(objective: Objective) -> Callable:
  function = getattr(objectives, str(objective.kind))
  if objective.kind == "prefix_lm":
    return function
  if objective.kind == "labelled":
    return functools.partial(function, window=objective.window)
  return functools.partial(function, noise=objective.noise)


def rows(
  objective: Objective,
  vocabulary: vocabularies.Vocabulary,
  split: str,
  seed: int,
) -> Iterator[Row]:
  """Packed rows of one split, in an order that depends on the seed only.

  Returns:
    {feature: [length] int32} for each of `token_arrays.FEATURES`; nothing where the
    task has no such split.

  Raises:
    InputError: See `task`.
  """
  provider = task(objective, vocabulary)
  if split not in provider.splits:
    if split == "train":
      raise checks.InputError(
        f"{objective.name} has no split 'train' on this machine, expected data to write; "
        "set --tfds_data_dir to where it lies"
      )
    return iter(())
  dataset = seqio.get_dataset(
    provider,
    objective.lengths,
    seqio.EncDecFeatureConverter(pack=True),
    dataset_split=split,
    shuffle=split == "train",
    num_epochs=objective.epochs if split == "train" else 1,
    seed=seed,
    verbose=False,
  )
  examples = itertools.islice(dataset.as_numpy_iterator(), objective.max_rows)
  return ({name: example[name] for name in FEATURES} for example in examples)


def described(objective: Objective) -> dict[str, Any]:
  """What a manifest says of an objective's text: files, bytes, hashes, bad lines."""
  text = objective.text
  if objective.kind is None or not text or text.startswith(documents.TFDS):
    return {"name": text or objective.name}
  paths = text_files.find(
    text,
    documents.LABELLED_SUFFIX if objective.kind == "labelled" else documents.TEXT_SUFFIX,
  )
  invalid = text_files.invalid_lines(paths)
  if invalid:
    print(
      f"{text}: {invalid} lines are not UTF-8; their bad bytes become U+FFFD",
      file=sys.stderr,
    )
  return {
    "invalid_utf8_lines": invalid,
    "sha256": text_files.hashes(paths),
  }
