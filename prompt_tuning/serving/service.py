"""One model that is loaded, asked and stopped, apart from HTTP."""

import dataclasses
import enum
import logging
import pathlib
import threading
from collections.abc import Callable, Sequence

from prompt_tuning.predictor import Predictor
from prompt_tuning.queries import Prepared, Query
from prompt_tuning.serving import refusals, uploads
from prompt_tuning.serving.batcher import Batcher
from prompt_tuning.serving.limits import Limits
from prompt_tuning.serving.metrics import Metrics

_LOG = logging.getLogger("prompt_tuning.serving")


class State(enum.Enum):
  """How far the service is."""

  LOADING = "loading"
  READY = "ready"
  STOPPING = "stopping"
  FAILED = "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
  """What a request asks, before anything is known of its texts.

  Attributes:
    texts: The texts.
    prompts: The prompt of each.
    candidates: The labels of each; None takes those of its prompt.
    length_normalized: Whether scores are per token.
  """

  texts: Sequence[str]
  prompts: Sequence[str | None]
  candidates: Sequence[tuple[str, ...]] | None = None
  length_normalized: bool = False


class Service:
  """The predictor, its queue and its one thread.

  Args:
    load: Gives the predictor; called in the thread.
    batch_size: Most rows of one pass.
    limits: Of requests.
    prompt_dir: Folder from which prompts may be added.
  """

  def __init__(
    self,
    load: Callable[[], Predictor],
    batch_size: int,
    limits: Limits,
    prompt_dir: pathlib.Path | None = None,
  ):
    self.limits, self.metrics, self.prompt_dir = limits, Metrics(), prompt_dir
    self.batcher = Batcher(limits, batch_size, self.metrics)
    self.state = State.LOADING
    self.failure: BaseException | None = None
    self._load = load
    self._predictor: Predictor | None = None
    # A daemon: a process that must go does not wait for a compiler.
    self.thread = threading.Thread(target=self._run, name="model", daemon=True)
    self.metrics.watch("queue_rows", "Texts that wait.", lambda: self.batcher.waiting)
    self.metrics.watch("prompts", "Prompts in the bank.", self._count_prompts)

  def start(self) -> None:
    """Begins to load, then to answer."""
    self.thread.start()

  def stop(self) -> None:
    """Takes no more work; what waits is still answered. Safe in a signal handler."""
    if self.state is not State.FAILED:
      self.state = State.STOPPING

  @property
  def predictor(self) -> Predictor:
    """The model.

    Raises:
      Refusal: It is not loaded, or no longer to be asked.
    """
    if self.state is State.READY and self._predictor is not None:
      return self._predictor
    raise refusals.loading() if self.state is State.LOADING else refusals.stopping()

  def prepare(self, question: Question) -> list[Prepared]:
    """All texts of a question as tokens.

    Raises:
      Refusal: One of them cannot be used, or there is no room for them.
    """
    predictor, rows = self.predictor, []
    self.batcher.check_room(len(question.texts))
    for index in range(len(question.texts)):
      try:
        rows.append(predictor.prepare(_query(question, index)))
      except ValueError as error:
        raise refusals.invalid(f"texts.{index}: {error}") from None
    return rows

  def add(self, name: str, content: bytes, labels: Sequence[str] | None) -> None:
    """Adds a prompt, or replaces it.

    Raises:
      InputError: It cannot be used.
    """
    uploads.add(self.predictor, name, content, labels, self.limits.labels)

  def remove(self, name: str) -> None:
    """Takes a prompt out.

    Raises:
      InputError: There is no such prompt.
    """
    self.predictor.remove(name)

  def _run(self) -> None:
    try:
      self._predictor = predictor = self._load()
      predictor.warm_up()
    except BaseException as error:  # whoever started the service raises it there
      self.failure = error
      self.state = State.FAILED
      return
    if self.state is State.LOADING:
      self.state = State.READY
    self.batcher.work(predictor)

  def _count_prompts(self) -> float:
    return 0 if self._predictor is None else len(self._predictor.prompts())


def _query(question: Question, index: int) -> Query:
  """One text of a question."""
  candidates = question.candidates
  return Query(
    text=question.texts[index],
    prompt=question.prompts[index],
    candidates=None if candidates is None else candidates[index],
    own_labels=candidates is None,
    length_normalized=question.length_normalized,
  )
