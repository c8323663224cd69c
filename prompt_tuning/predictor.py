"""One frozen model that answers for many prompts at once.

  predictor = pt.Predictor(model, prompts={"sst2": "runs/sst2", "boolq": array},
                           labels={"sst2": ["negative", "positive"]})
  predictor.predict(["a fine film", "is it? ..."], prompt=["sst2", "boolq"])
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from prompt_tuning.data import vocabularies
from prompt_tuning.models.t5 import T5
from prompt_tuning.queries import Answer, Prepared, Query
from prompt_tuning.types import ArrayLike

Names = str | None | Sequence[str | None]  # one prompt for all texts, or one for each


class Predictor:
  """Answers texts with prompts of different tasks, mixed in one batch.

  All methods may be called from several threads.

  Args:
    model: The frozen model.
    prompts: {name: prompt}, see `add`.
    labels: {name: words that the prompt chooses from}; wins over what a file says.
    vocabulary: Of the model; None takes the one that its table has the size of.
    capacity: Most prompts at a time; up to it, adding one compiles nothing.
    max_prompt_len: Length of the longest prompt that can be added; None takes that of the
      longest given (100 where none is given).
    max_input_len: Longest text in tokens, EOS included.
    max_output_len: Longest decoded answer in tokens, EOS included.
    batch_size: Most rows of one pass.

  Raises:
    InputError: A prompt cannot be used.
  """

  def add(
    self, name: str, prompt: str | ArrayLike, labels: Sequence[str] | None = None
  ) -> None:
    """Adds a prompt to the bank, or replaces it.

    Args:
      name: What queries call it.
      prompt: Path of a prompt file of any format or of a run, or [prompt_len, d_model].
      labels: What it chooses from; None takes what its file says, if it says so.

    Raises:
      InputError: It is of another model, too long, or the bank is full.
    """
    raise NotImplementedError

  def remove(self, name: str) -> None:
    """Takes a prompt out of the bank.

    Raises:
      InputError: There is no such prompt.
    """
    raise NotImplementedError

  def prompts(self) -> dict[str, dict[str, Any]]:
    """{name: {"length": tokens, "labels": [...] or None, "metadata": {...}}}, in order."""
    raise NotImplementedError

  def labels(self, name: str | None) -> tuple[str, ...] | None:
    """What a prompt chooses from; None where it decodes.

    Raises:
      InputError: There is no such prompt.
    """
    raise NotImplementedError

  def predict(self, texts: Sequence[str], prompt: Names = None) -> list[Answer]:
    """An answer to each text: the best label of a prompt that has labels, else decoded.

    Raises:
      InputError: A text or a prompt cannot be used; the message says which.
    """
    raise NotImplementedError

  def rank(
    self,
    texts: Sequence[str],
    labels: Sequence[str] | Sequence[Sequence[str]],
    prompt: Names = None,
    length_normalized: bool = False,
  ) -> list[Answer]:
    """The best of `labels`, the same for all texts or a list for each."""
    raise NotImplementedError

  def score(
    self,
    texts: Sequence[str],
    targets: Sequence[str],
    prompt: Names = None,
    length_normalized: bool = False,
  ) -> list[Answer]:
    """The log-likelihood of each target."""
    raise NotImplementedError

  def prepare(self, query: Query) -> Prepared:
    """A query as tokens, which `answer` takes.

    Raises:
      InputError: The text is empty or too long, the prompt unknown, or a candidate is
        empty, doubled or too long.
    """
    raise NotImplementedError

  def answer(self, prepared: Sequence[Prepared]) -> list[Answer | Exception]:
    """Answers in the order asked, any mixture of prompts and kinds, in as few passes as
    shapes allow; an `InputError` for a row whose prompt was removed meanwhile."""
    raise NotImplementedError

  def warm_up(self) -> None:
    """Compiles every shape that `answer` may need, so that no query waits for it."""
    raise NotImplementedError
