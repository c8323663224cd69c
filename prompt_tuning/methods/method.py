"""What every method is to a run: settings, from which a steered model is made.

A method says which variables there are and where they enter a frozen model (the parts of
`prompts.steering`). What learns is what is `Tunable` in the model that it returns; for the
run everything else is alike: optimizer, evaluation, run state, files.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import (
  LoadVocabulary,
  Prompt,
  RandomUniform,
  Start,
  Table,
  files_of,
)
from prompt_tuning.types import Array, ArrayLike

# name -> module:class; the name is what files of the method say
METHODS = {
  "per_layer": "prompt_tuning.methods.per_layer:PerLayer",
  "ia3": "prompt_tuning.methods.ia3:IA3",
  "residual": "prompt_tuning.methods.residual:Residual",
  "low_rank": "prompt_tuning.methods.low_rank:LowRank",
  "multi_task": "prompt_tuning.methods.multi_task:MultiTask",
  "wayward": "prompt_tuning.methods.wayward:Wayward",
  "prefix": "prompt_tuning.methods.prefix:PrefixTuning",
  "late": "prompt_tuning.methods.late:LatePrompt",
  "decomposed": "prompt_tuning.methods.decomposed:DecomposedPrompt",
  "lora": "prompt_tuning.methods.lora:LoRA",
  "smop": "prompt_tuning.methods.smop:MixtureOfPrompts",
  "attempt": "prompt_tuning.methods.attempt:Attempt",
}


@dataclasses.dataclass(frozen=True)
class Given:
  """What a method starts from.

  Attributes:
    model: The frozen model, which stays as it is.
    key: PRNG key.
    table: Its token table, for starts that read it.
    vocabulary: Its vocabulary, likewise.
    visibility: Who sees whom with the prompt in front, see `masks.encoder_mask`.
  """

  model: T5
  key: Array
  table: Table
  vocabulary: LoadVocabulary
  visibility: Set[str] = masks.FULL

  def prompts(self, prompt: Prompt) -> Array:
    """[num_prompts, prompt_len, d_model] float32, as the prompt's settings say."""
    d_model = self.model.config.d_model
    return prompt.initialize(self.key, d_model, self.table, self.vocabulary)


class Method(Protocol):
  """Settings of a method."""

  @property
  def name(self) -> str:
    """A key of `METHODS`."""

  @property
  def prompt(self) -> Prompt | None:
    """The prompt that goes in front of the tokens, None for a method without one."""

  def steered(self, given: Given) -> PromptedT5:
    """The model as it is before the first step.

    Raises:
      InputError: The settings do not fit the model.
    """

  @property
  def leaves_prompts(self) -> bool:
    """Whether nothing but prompts is left once it is `folded`."""

  def folded(self, trained: Mapping[str, ArrayLike]) -> "Folded":
    """What is left for whoever only uses it.

    Args:
      trained: The variables that learned, by path.
    """

  def t5x_path(self, path: str) -> str:
    """The T5X name of a variable of the steered model."""


Change = Callable[[np.ndarray], np.ndarray]  # of a weight, float32


@runtime_checkable
class Mergeable(Protocol):
  """A method after which nothing need be left but other weights."""

  def merged(self, trained: Mapping[str, ArrayLike]) -> Mapping[str, Change]:
    """What makes the weights of a plain model that answers like the steered one.

    Args:
      trained: The variables that learned, by path.

    Returns:
      {T5X path of a weight that becomes another: how}.
    """


@runtime_checkable
class Reading(Protocol):
  """A method that reads trained prompts beside those from which its own start."""

  def files(self) -> Sequence[str]:
    """Their files."""


def files(method: Method) -> list[str]:
  """The trained prompts that a method is made of, by file: all that it starts from."""
  values = _fields(method).values()
  starts = [value.start if isinstance(value, Prompt) else value for value in values]
  others = method.files() if isinstance(method, Reading) else []
  return [*(path for start in starts for path in files_of(start)), *others]


@dataclasses.dataclass(frozen=True)
class Folded:
  """A trained method in plain tensors.

  Attributes:
    tensors: The variables of the model that answers like the trained one.
    method: Which makes such a model; None where it is a bank of prompts, "bank/prompts".
  """

  tensors: Mapping[str, ArrayLike]
  method: Method | None


@dataclasses.dataclass(frozen=True)
class _Ids:
  """A vocabulary of which nothing but its size is known."""

  vocab_size: int

  @property
  def extra_ids(self) -> int:
    """As many as are asked for."""
    return self.vocab_size

  @property
  def unk_id(self) -> int:
    """T5's, which is not asked for."""
    return 2

  def encode(self, text: str) -> list[int]:
    """Not asked for."""
    raise AssertionError(f"shapes of a model asked for the pieces of {text!r}")


def shapes(method: Method, model: T5, visibility: Set[str] = masks.FULL) -> PromptedT5:
  """The steered model without arrays, of a model without arrays."""
  method = _drawn(method)
  graph, weights = nnx.split(model)
  ids = _Ids(model.config.vocab_size)  # as many as the table has rows, for want of better

  def state(weights: nnx.State, key: Array) -> nnx.State:
    model = nnx.merge(graph, weights)
    steered = method.steered(Given(model, key, _unread, lambda: ids, visibility))
    graphs.append(nnx.graphdef(steered))
    return nnx.state(steered)

  graphs: list[Any] = []
  found = jax.eval_shape(state, weights, jax.eval_shape(lambda: jax.random.key(0)))
  return nnx.merge(graphs[0], found)


def _drawn(method: Method) -> Method:
  """The same method with starts that are drawn: of the same shape, and read nowhere."""
  drawn: dict[str, Any] = {}
  for name, value in _fields(method).items():
    if isinstance(value, Prompt):
      drawn[name] = dataclasses.replace(value, start=RandomUniform())
    elif isinstance(value, Start):
      drawn[name] = RandomUniform()
  return dataclasses.replace(method, **drawn)  # type: ignore[type-var]


def _fields(method: Method) -> dict[str, Any]:
  names = [field.name for field in dataclasses.fields(method)]  # type: ignore[arg-type]
  return {name: getattr(method, name) for name in names}


def _unread() -> Any:
  raise AssertionError("a start that reads the table was asked for shapes")


def settings(method: Method) -> dict[str, Any]:
  """Everything of a method that shapes its variables, as JSON."""
  plain = (bool, int, float, str, list, tuple, type(None))
  found = {name: x for name, x in _fields(method).items() if isinstance(x, plain)}
  prompt = method.prompt
  return found if prompt is None else found | {"prompt_length": prompt.length}


def kind(name: str) -> Any:
  """The class of a method.

  Raises:
    InputError: There is no such method.
  """
  checks.choice("method", name, list(METHODS))
  module, _, found = METHODS[name].partition(":")
  return getattr(importlib.import_module(module), found)


def of_settings(name: str, settings: Mapping[str, Any]) -> Method:
  """The method that `settings` describe.

  Raises:
    InputError: There is no such method, or its settings are others.
  """
  known = dict(settings)
  if "prompt_length" in known:
    known["prompt"] = Prompt(length=known.pop("prompt_length"), start=RandomUniform())
  try:
    return kind(name)(**known)
  except TypeError as error:
    raise checks.InputError(
      f"the method {name} has the settings {dict(settings)}, expected others ({error}); "
      "was the file written by a newer version?"
    ) from error
