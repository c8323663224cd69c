"""Recycling a prompt: from the model that it was trained for to another one."""

import dataclasses
from typing import Any

import numpy as np

from prompt_tuning import __version__, assembly, checks, files, formats, word_pairs
from prompt_tuning.checkpoints import prompt_files, safetensors_files
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.methods import recycling
from prompt_tuning.methods.recycling import Mapping, Recycler
from prompt_tuning.methods.recycling_network import Network
from prompt_tuning.word_pairs import Choice, Embeddings, Pairs, Words

# What stays true of a prompt on another model.
_KEPT = ("task", "labels", "visibility", "family", "step", "tokenizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecycleConfig:
  """One prompt to recycle.

  Attributes:
    source_model: Checkpoint of the model that the prompt was trained for, any format.
    target_model: Checkpoint of the model that it shall work for.
    prompt_path: The prompt, any format.
    output_path: A new file: .safetensors has the prompt's story, any other name is numpy.
    recycler: How.
    words: Which tokens it learns from.
  """

  source_model: str
  target_model: str
  prompt_path: str
  output_path: str
  recycler: Recycler = Network()
  words: Choice = Words()


@dataclasses.dataclass(frozen=True)
class Fit:
  """A recycler that has learned.

  Attributes:
    mapping: What it does.
    words: How many tokens it learned from.
    tested: How many others it was tried on.
    error: Its relative error on those, see `recycling.relative_error`; None without any.
  """

  mapping: Mapping
  words: int
  tested: int
  error: float | None

  @property
  def report(self) -> str:
    """The same in words."""
    if self.error is None:
      return f"learned from {self.words} tokens, none left to test it on"
    return (
      f"learned from {self.words} tokens, relative error {self.error:.3f} on "
      f"{self.tested} others (0 is exact, 1 as good as their mean)"
    )


def recycle(config: RecycleConfig) -> Fit:
  """Writes the recycled prompt.

  Args:
    config: What is recycled.

  Raises:
    InputError: Models, prompt and words do not fit each other, or the output is taken.
  """
  place = files.path(config.output_path)
  if place.exists():
    raise files.taken(place)
  prompt = formats.read_prompt(config.prompt_path)
  tells = place.suffix == safetensors_files.SUFFIX
  if not tells:
    check_silent(prompt)
  source = Embeddings.load(config.source_model)
  target = Embeddings.load(config.target_model)
  check_width(prompt, source.table.shape[1])
  pairs = _pairs(config, source, target)
  _check_story(prompt, source, pairs)
  found = fit(config.recycler, source, target, pairs)
  story = _story(config, prompt, target, pairs) if tells else None
  with files.writing(place):
    prompt_files.save_prompt(str(place), mapped(found.mapping, prompt.prompt), story)
  return found


def fit(recycler: Recycler, source: Embeddings, target: Embeddings, pairs: Pairs) -> Fit:
  """Lets a recycler learn from tokens, and tries it on others."""
  vectors = source.of(pairs.learned), target.of(pairs.learned)
  return judged(recycler.fit(*vectors), source, target, pairs)


def judged(mapping: Mapping, source: Embeddings, target: Embeddings, pairs: Pairs) -> Fit:
  """A mapping and how it does on tokens that it did not learn from."""
  words, tested, error = len(pairs.learned), len(pairs.tested), None
  if tested:
    mean = target.of(pairs.learned).mean(axis=0, keepdims=True)
    predicted = mapping(source.of(pairs.tested))
    error = recycling.relative_error(predicted, target.of(pairs.tested), mean)
  return Fit(mapping, words, tested, error)


def mapped(mapping: Mapping, prompt: np.ndarray) -> np.ndarray:
  """A prompt [prompt_len, d_model], or several with num_prompts in front, on the target."""
  flat = mapping(prompt.reshape(-1, prompt.shape[-1]))
  return flat.reshape(*prompt.shape[:-1], flat.shape[-1])


def check_silent(prompt: PromptFile) -> None:
  """Raises `InputError` where a prompt means something that numpy cannot say."""
  usual = assembly.usual_of(prompt)
  visibility = assembly.visibility_of(prompt) or usual
  if visibility != usual:
    raise checks.InputError(
      f"the prompt {prompt.path} was trained with {sorted(visibility)}, expected "
      f"{sorted(usual)} for a numpy file, which cannot say so; write .safetensors"
    )


def check_width(prompt: PromptFile, width: int) -> None:
  """Raises `InputError` where a prompt is not as wide as its model."""
  checks.shape(
    f"the prompt {prompt.path}",
    prompt.prompt.shape,
    (*prompt.prompt.shape[:-1], width),
    "choose the model it was trained for as source",
  )


def _pairs(config: RecycleConfig, source: Embeddings, target: Embeddings) -> Pairs:
  named = (config.source_model, source), (config.target_model, target)
  word_pairs.check_rows({name: len(model.table) for name, model in named})
  return config.words.pairs(len(source.table))


def _check_story(prompt: PromptFile, source: Embeddings, pairs: Pairs) -> None:
  """Raises `InputError` where a prompt says that it is of another model or vocabulary."""
  known = {
    "vocabulary": lambda: pairs.vocabulary,
    "base_fingerprint": source.fingerprint,
  }
  for name, here in known.items():
    said = prompt.metadata.get(name)
    found = None if said is None else here()
    if found not in (None, said):
      raise checks.InputError(
        f"the prompt {prompt.path} was trained with {name} {said}, the source model has "
        f"{found}; choose the model and vocabulary it was trained with"
      )


def _story(
  config: RecycleConfig, prompt: PromptFile, target: Embeddings, pairs: Pairs
) -> dict[str, Any]:
  """What the new file says of itself; scores were the source model's."""
  known = {
    **{name: prompt.metadata.get(name) for name in _KEPT},
    "vocabulary": pairs.vocabulary or prompt.metadata.get("vocabulary"),
    "base_fingerprint": target.fingerprint(),
    "recycled_from": prompt.metadata.get("base_fingerprint"),
    "recycler": repr(config.recycler),
    "library_version": __version__,
  }
  return {name: value for name, value in known.items() if value is not None}
