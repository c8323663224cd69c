"""A vocabulary that is looked up when it is used, not when a task is registered.

Tasks are registered when their module is imported, which may be before a run says where
its vocabulary lies, or between two runs of one process.
"""

from collections.abc import Callable, Sequence
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning.data import vocabularies


class RunVocabulary(seqio.Vocabulary):
  """The vocabulary of the run, or a default where no run has set one.

  Args:
    default: Which one that is.
    load: How it is read, `vocabularies.inputs` or `vocabularies.targets`.
  """

  def __init__(
    self,
    default: vocabularies.Vocabulary,
    load: Callable[[vocabularies.Vocabulary], Any] = vocabularies.targets,
  ):
    self._default, self._load = default, load

  def loaded(self) -> Any:
    """The seqio vocabulary that this one stands for now.

    Raises:
      InputError: Its file is absent or damaged.
    """
    return self._load(vocabularies.current(self._default))

  @property
  def extra_ids(self) -> int:
    """Sentinels above the pieces."""
    return self.loaded().extra_ids

  @property
  def vocab_size(self) -> int:
    """Ids in all, sentinels among them."""
    return self.loaded().vocab_size

  @property
  def _base_vocab_size(self) -> int:
    return self.loaded()._base_vocab_size

  @property
  def bos_id(self) -> int | None:
    """Id of the beginning of a text, if there is one."""
    return self.loaded().bos_id

  @property
  def eos_id(self) -> int | None:
    """Id of the end of a text."""
    return self.loaded().eos_id

  @property
  def unk_id(self) -> int | None:
    """Id of what the vocabulary lacks."""
    return self.loaded().unk_id

  def _encode(self, s: str) -> Sequence[int]:
    return self.loaded().encode(s)

  def _decode(self, ids: Sequence[int]) -> str:
    return self.loaded().decode(ids)

  @tf.autograph.experimental.do_not_convert  # loading is plain Python
  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    return self.loaded().encode_tf(s)

  @tf.autograph.experimental.do_not_convert
  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    return self.loaded().decode_tf(ids)

  def __eq__(self, other: object) -> bool:
    if isinstance(other, RunVocabulary):
      ours, theirs = ((v._load, vocabularies.current(v._default)) for v in (self, other))
      return ours == theirs or self.loaded() == other.loaded()
    return bool(self.loaded() == other)

  def __str__(self) -> str:
    return f"the vocabulary {vocabularies.current(self._default).name}"
