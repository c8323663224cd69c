"""How the prompts of a run start: what `configs/prompts/*.gin` choose from.

Each class is a choice as data; `initializer` turns it into an initializer once the
embedding table and the vocabulary of the run are at hand. They are given as functions,
so that neither is read unless the choice needs it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax

from prompt_tuning import checks, files
from prompt_tuning.prompts import initializers, masks
from prompt_tuning.types import Array, ArrayLike, Initializer

MAX_LENGTH = 4096  # of a prompt; longer is a mistake

Table = Callable[[], ArrayLike]
LoadVocabulary = Callable[[], initializers.Vocabulary]
Load = Callable[[str], ArrayLike]


@runtime_checkable
class Start(Protocol):
  """A way to start a prompt."""

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """The initializer, given the model's embedding table and vocabulary."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomUniform:
  """Uniform on [0, scale)."""

  scale: float = 0.5

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """See `Start`."""
    return initializers.random_uniform(self.scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledVocab:
  """Embeddings of random tokens among the `population_size` most frequent ones."""

  population_size: int | None = 5000
  embedding_file: str | None = None

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """See `Start`."""
    embeddings = _table(table, self.embedding_file)
    population = self.population_size and min(self.population_size, embeddings.shape[0])
    return initializers.from_sample_of_embeddings(embeddings, population)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassLabels:
  """One label word per position, the rest as `fallback` starts."""

  labels: Sequence[str]
  fallback: Start = SampledVocab()
  embedding_file: str | None = None

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """See `Start`."""
    return initializers.from_embedded_list(
      _table(table, self.embedding_file),
      vocabulary(),
      self.labels,
      self.fallback.initializer(table, vocabulary),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """One piece of a text per position, the rest as `fallback` starts."""

  text: str
  fallback: Start = SampledVocab()
  embedding_file: str | None = None

  def __post_init__(self):
    checks.text("PROMPT_TEXT or TASK_STRING", self.text, "write it in quotes")

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """See `Start`."""
    return initializers.from_embedded_string(
      _table(table, self.embedding_file),
      vocabulary(),
      self.text,
      self.fallback.initializer(table, vocabulary),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromFile:
  """A trained prompt, read by `load` (bound to `load_prompt` by the run)."""

  path: str
  load: Load = dataclasses.field(repr=False)  # a function shows where it lies in memory

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """See `Start`."""
    return initializers.from_array(self.load(self.path))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromFiles:
  """The weighted average of trained prompts of one shape, see `methods.spot`.

  Attributes:
    paths: Their files.
    load: Reads one (bound to `load_prompt` by the run).
    weights: One for each, as multiples of each other; None: all equal.
  """

  paths: Sequence[str]
  load: Load = dataclasses.field(repr=False)  # a function shows where it lies in memory
  weights: Sequence[float] | None = None

  def __post_init__(self):
    remedy = "name the files of trained prompts, ['runs/a', 'runs/b']"
    checks.texts("SOURCE_PROMPTS", self.paths, remedy)

  def initializer(self, table: Table, vocabulary: LoadVocabulary) -> Initializer:
    """See `Start`."""
    prompts = [self.load(path) for path in self.paths]
    return initializers.from_array(initializers.average(prompts, self.weights))


def files_of(start: object) -> Sequence[str]:
  """The trained prompts that a start is made of, by file; most have none."""
  if isinstance(start, FromFile):
    return [start.path]
  return start.paths if isinstance(start, FromFiles) else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """The prompts of a run.

  Attributes:
    length: Virtual tokens per prompt, 1 to `MAX_LENGTH`.
    start: How they start.
    num_prompts: Prompts in the bank.
    visibility: Who sees whom, kinds of `masks.KINDS`; without "prompt->input" the prompt
      is encoded once for all examples. None is what the file says that the prompt comes
      from, or else everything.
  """

  length: int = 100
  start: Start = SampledVocab()
  num_prompts: int = 1
  visibility: Sequence[str] | None = None
  places = None  # see `TaskPrompts`

  def __post_init__(self):
    if not isinstance(self.length, int) or not 1 <= self.length <= MAX_LENGTH:
      raise checks.InputError(
        f"PROMPT_LENGTH is {self.length!r}, expected 1 to {MAX_LENGTH} tokens; the paper "
        "uses 5 to 150"
      )
    masks.check_visibility(self.visibility or ())

  def initialize(
    self, key: Array, d_model: int, table: Table, vocabulary: LoadVocabulary
  ) -> Array:
    """The bank before training: [num_prompts, length, d_model] float32."""
    start = self.start.initializer(table, vocabulary)
    keys = jax.random.split(key, self.num_prompts)
    return jax.numpy.stack([start(each, (self.length, d_model)) for each in keys])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskPrompts:
  """A trained prompt for each task of a mixture, of any lengths.

  Attributes:
    paths: {task: file}.
  """

  paths: Mapping[str, str]

  @property
  def places(self) -> dict[str, int]:
    """The prompt_id of each task, {task: place in the bank}."""
    return {task: place for place, task in enumerate(self.paths)}

  def check(self, tasks: Sequence[str]) -> None:
    """Raises `InputError` unless there is a prompt for each task and for no other."""
    if set(tasks) != self.paths.keys():
      raise checks.InputError(
        f"PROMPT_FILES has prompts for {sorted(self.paths)}, expected one for each of "
        f"{sorted(tasks)} and no other; give these"
      )


def _table(table: Table, embedding_file: str | None) -> ArrayLike:
  if embedding_file is None:
    return table()
  return files.read_numpy(embedding_file, "EMBEDDING_FILE")
