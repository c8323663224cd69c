"""One frozen model that answers for many prompts at once.

predictor = pt.Predictor(model, prompts={"sst2": "runs/sst2", "boolq": array},
                         labels={"sst2": ["negative", "positive"]})
predictor.predict(["a fine film", "is it? ..."], prompt=["sst2", "boolq"])
"""

import collections
import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prompt_tuning import assembly, checks, formats, partitioning, queries
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.data import vocabularies
from prompt_tuning.decoding.step import Algorithm
from prompt_tuning.models.families import Model
from prompt_tuning.passes import Passes, candidates_shape
from prompt_tuning.progress import Progress
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.families import usual_visibility
from prompt_tuning.prompts.live_bank import LiveBank
from prompt_tuning.queries import Answer, Names, Prepared, Query, Tokenizer
from prompt_tuning.types import ArrayLike

_USUAL_PROMPT_LEN = 100


class Predictor:
  """Answers texts with prompts of different tasks, mixed in one batch.

  All methods may be called from several threads.

  Args:
    model: The frozen model, or what `assembly.load_base` returned.
    prompts: {name: prompt}, see `add`.
    labels: {name: words that the prompt chooses from}; wins over what a file says.
    vocabulary: Of the model; None takes the one that its table has the size of.
    capacity: Most prompts at a time; up to it, adding one compiles nothing.
    max_prompt_len: Length of the longest prompt that can be added; None takes that of the
      longest given (100 where none is given).
    max_input_len: Longest text in tokens, EOS included.
    max_output_len: Longest decoded answer in tokens, EOS included.
    batch_size: Most rows of one pass.
    decoding: How answers are decoded; None is greedy. What is drawn depends on the batch.
    mesh: Devices that share the rows of a pass; None is one device.
    visibility: Who sees whom, see `prompts.masks`; None is what the prompt files say.

  Raises:
    InputError: A prompt cannot be used.
  """

  def __init__(
    self,
    model: Model | assembly.Base,
    prompts: Mapping[str, str | os.PathLike | ArrayLike] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    vocabulary: vocabularies.Vocabulary | None = None,
    capacity: int = 16,
    max_prompt_len: int | None = None,
    max_input_len: int = 512,
    max_output_len: int = 32,
    batch_size: int = 32,
    decoding: Algorithm | None = None,
    mesh: jax.sharding.Mesh | None = None,
    visibility: Iterable[str] | None = None,
  ):
    check_limits(
      capacity=capacity,
      max_prompt_len=1 if max_prompt_len is None else max_prompt_len,
      max_input_len=max_input_len,
      max_output_len=max_output_len,
      batch_size=batch_size,
    )
    self.base = model if isinstance(model, assembly.Base) else assembly.Base.of(model)
    config = self.base.model.config
    self.vocabulary = vocabulary or vocabularies.of_size(config.vocab_size)
    assembly.check_vocabulary(self.vocabulary, self.base)
    self.batch_size = batch_size
    self._tokenizer = Tokenizer(self.vocabulary, max_input_len, max_output_len)
    given = {name: self._read(name, prompt) for name, prompt in (prompts or {}).items()}
    for name in labels or {}:
      if name not in given:
        raise checks.unknown("prompt in the labels", name, list(given))
    longest = max(
      (file.prompt.shape[-2] for file in given.values()), default=_USUAL_PROMPT_LEN
    )
    usual = usual_visibility(self.base.model)
    found = assembly.common_visibility(list(given.values()), usual)
    self._visibility = found if visibility is None else masks.ALWAYS | set(visibility)
    self._passes = Passes(
      self.base.model,
      batch_size,
      max_input_len,
      max_output_len,
      decoding,
      mesh,
      self._visibility,
    )
    self._bank = LiveBank(
      max(capacity, len(given)),
      max_prompt_len or longest,
      config.d_model,
      None if mesh is None else partitioning.replicated(mesh),
      self._passes.encoded,
    )
    self._facts: dict[str, dict[str, Any]] = {}
    self._changing = threading.Lock()  # bank and facts change together
    for name, file in given.items():
      self._put(name, file, (labels or {}).get(name))

  def add(
    self,
    name: str,
    prompt: str | os.PathLike | ArrayLike,
    labels: Sequence[str] | None = None,
  ) -> None:
    """Adds a prompt to the bank, or replaces it.

    Args:
      name: What queries call it.
      prompt: Path of a prompt file of any format or of a run, or [prompt_len, d_model].
      labels: What it chooses from; None takes what its file says, if it says so.

    Raises:
      InputError: It is of another model, too long, or the bank is full.
    """
    self._put(name, self._read(name, prompt), labels)

  def _read(
    self, name: str, prompt: str | os.PathLike | ArrayLike
  ) -> prompt_files.PromptFile:
    """A prompt as a file of one, checked against the model."""
    if not isinstance(prompt, str | os.PathLike):
      array = np.asarray(prompt)
      where = f"named {name!r}"
      return prompt_files.PromptFile(prompt_files.checked(array, where), {}, where, "array")
    file = formats.read_prompt(os.fspath(prompt))
    assembly.check_prompt_file(file, self.base, self.vocabulary)
    return file

  def _put(
    self, name: str, file: prompt_files.PromptFile, labels: Sequence[str] | None
  ) -> None:
    prompt = prompt_files.single(file)
    trained_with = assembly.visibility_of(file)
    if trained_with is not None and trained_with != self._visibility:
      raise checks.InputError(
        f"the prompt {name!r} was trained with {sorted(trained_with)}, expected "
        f"{sorted(self._visibility)} here; answer with it in a predictor of its own"
      )
    if not np.isfinite(prompt).all():
      raise checks.InputError(
        f"the prompt {name!r} holds numbers that are not finite, expected finite ones; "
        "export it again"
      )
    words = file.metadata.get("labels") if labels is None else labels
    if words is not None:
      words = tuple(queries.several(words, f"labels of {name!r}"))
      self.check_labels(words)
    facts = {"length": prompt.shape[0], "labels": words, "metadata": file.metadata}
    with self._changing:
      self._bank.add(name, prompt)
      self._facts[name] = facts

  def check_labels(self, labels: Sequence[str]) -> None:
    """Raises `InputError` for words that no prompt can choose from."""
    self._tokenizer.labels(tuple(labels))

  def remove(self, name: str) -> None:
    """Takes a prompt out of the bank.

    Raises:
      InputError: There is no such prompt.
    """
    with self._changing:
      self._bank.remove(name)
      self._facts.pop(name, None)

  def prompts(self) -> dict[str, dict[str, Any]]:
    """{name: {"length": tokens, "labels": words or None, "metadata": {...}}}, in order."""
    return {name: dict(facts) for name, facts in self._facts.copy().items()}

  def labels(self, name: str | None) -> tuple[str, ...] | None:
    """What a prompt chooses from; None where it decodes.

    Raises:
      InputError: There is no such prompt.
    """
    if name is None:
      return None
    facts = self._facts.get(name)
    if facts is None:
      raise checks.unknown("prompt", name, list(self._facts))
    return facts["labels"]

  def predict(self, texts: Sequence[str], prompt: Names = None) -> list[Answer]:
    """An answer to each text: the best label of a prompt that has labels, else decoded.

    Raises:
      InputError: A text or a prompt cannot be used; the message says which.
    """
    names = queries.per_text(prompt, texts, "prompt")
    return self._answered(texts, names, None, False)

  def rank(
    self,
    texts: Sequence[str],
    labels: Sequence[str] | Sequence[Sequence[str]],
    prompt: Names = None,
    length_normalized: bool = False,
  ) -> list[Answer]:
    """The best of `labels`, the same for all texts or a list for each."""
    labels = list(queries.several(labels, "labels"))
    alike = all(isinstance(label, str) for label in labels)
    each: Sequence[Any] = [labels] * len(texts) if alike else labels
    queries.check_count(each, texts, "list of labels")
    words = [tuple(queries.several(one, "labels of a text")) for one in each]
    names = queries.per_text(prompt, texts, "prompt")
    return self._answered(texts, names, words, length_normalized)

  def score(
    self,
    texts: Sequence[str],
    targets: Sequence[str],
    prompt: Names = None,
    length_normalized: bool = False,
  ) -> list[Answer]:
    """The log-likelihood of each target."""
    queries.check_count(targets, texts, "target")
    names = queries.per_text(prompt, texts, "prompt")
    return self._answered(texts, names, [(t,) for t in targets], length_normalized)

  def _answered(
    self,
    texts: Sequence[str],
    names: Sequence[str | None],
    candidates: Sequence[tuple[str, ...]] | None,  # None: the labels of each prompt
    length_normalized: bool,
  ) -> list[Answer]:
    prepared, problems = [], []
    for number, (text, name) in enumerate(zip(texts, names, strict=True)):
      try:
        query = Query(
          text=text,
          prompt=name,
          candidates=None if candidates is None else candidates[number],
          own_labels=candidates is None,
          length_normalized=length_normalized,
        )
        prepared.append(self.prepare(query))
      except checks.InputError as error:
        problems.append(f"  text {number}: {error}")
    if problems:
      raise checks.InputError(
        f"{len(problems)} of {len(texts)} texts cannot be answered, expected all to be "
        "usable; correct them\n" + "\n".join(problems)
      )
    found = self.answer(prepared)
    for answer in found:
      if isinstance(answer, Exception):
        raise answer
    return found  # type: ignore[return-value]

  def prepare(self, query: Query) -> Prepared:
    """A query as tokens, which `answer` takes.

    Raises:
      InputError: The text is empty or too long, the prompt unknown, or a candidate is
        empty, doubled or too long.
    """
    labels = self.labels(query.prompt)
    if query.own_labels:
      query = dataclasses.replace(query, candidates=labels)
    return self._tokenizer.prepare(query)

  def answer(self, prepared: Sequence[Prepared]) -> list[Answer | checks.InputError]:
    """Answers in the order asked, any mixture of prompts and kinds.

    All prompts are those of one moment, with the labels that they have then.

    Returns:
      For each query its answer, or an `InputError` where its prompt was removed meanwhile.
    """
    with self._changing:
      bank, places = self._bank.select([each.query.prompt for each in prepared])
      facts = self._facts.copy()
    prepared = [self._current(each, facts) for each in prepared]
    found: list[Any] = [
      checks.InputError(f"the prompt {each.query.prompt!r} was removed; ask again without")
      for each in prepared
    ]
    present = [row for row, place in enumerate(places) if place is not None]
    for rows in self._groups(prepared, present):
      inputs = [prepared[row].inputs for row in rows]
      ids = [places[row] or 0 for row in rows]
      if prepared[rows[0]].candidates is None:
        outputs = self._passes.decoded(bank, inputs, ids)
        answers = map(self._tokenizer.decoded, inputs, *zip(*outputs, strict=True))
      else:
        words = [prepared[row].candidates for row in rows]
        scores = self._passes.likelihoods(bank, inputs, ids, words)  # type: ignore[arg-type]
        answers = map(queries.best, [prepared[row] for row in rows], scores)
      for row, answer in zip(rows, answers, strict=True):
        found[row] = answer
    return found

  def _current(self, prepared: Prepared, facts: Mapping[Any, Any]) -> Prepared:
    """A query whose prompt may have been replaced by one with other labels."""
    query = prepared.query
    if not query.own_labels or query.prompt not in facts:
      return prepared
    labels = facts[query.prompt]["labels"]
    if labels == query.candidates:
      return prepared
    return self._tokenizer.prepare(dataclasses.replace(query, candidates=labels))

  def _groups(
    self, prepared: Sequence[Prepared], rows: Sequence[int]
  ) -> Iterator[list[int]]:
    """Rows that share a pass: of one kind and candidates' shape, of like lengths."""
    kinds = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: len(prepared[row].inputs)):
      kinds[_kind(prepared[row])].append(row)
    for same in kinds.values():
      most = self._passes.most_rows(_kind(prepared[same[0]]))
      for first in range(0, len(same), most):
        yield same[first : first + most]

  def warm_up(self) -> None:
    """Compiles all shapes that `predict` needs, so that no query waits for it."""
    words = {None, *(facts["labels"] for facts in self._facts.copy().values())}
    shapes = {
      None if each is None else candidates_shape([self._tokenizer.labels(each)])
      for each in words
    }
    bank, _ = self._bank.select([])
    passes = self._passes
    steps = [
      (shape, count, length)
      for shape in shapes
      for count in passes.row_counts
      if count <= passes.most_rows(shape)
      for length in passes.input_lens
    ]
    bar = Progress("compile", len(steps))
    for shape, count, length in steps:
      inputs = [np.ones(length, np.int32)] * count
      if shape is None:
        passes.decoded(bank, inputs, [0] * count)
      else:
        passes.likelihoods(bank, inputs, [0] * count, [np.ones(shape, np.int32)] * count)
      bar.advance()
    bar.close()


def _kind(prepared: Prepared) -> tuple[int, int] | None:
  return None if prepared.candidates is None else candidates_shape([prepared.candidates])


def check_limits(**limits: object) -> None:
  """Raises `InputError` for a limit that is no whole number from 1."""
  for name, value in limits.items():
    checks.whole(name, value, 1, "set it so")
