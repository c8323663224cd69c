"""A bank whose prompts come and go by name while it is in use."""

import threading
from collections.abc import Callable, Sequence

import jax
import numpy as np

from prompt_tuning import checks
from prompt_tuning.models.context import EncodedContext
from prompt_tuning.prompts.bank import in_slots
from prompt_tuning.types import ArrayLike

# prompts [capacity + 1, max_prompt_len, d_model] and lengths [capacity + 1], which
# `PromptBank` takes, and what the model makes of each, or None
Arrays = tuple[ArrayLike, ArrayLike, EncodedContext | None]
Encode = Callable[[ArrayLike, ArrayLike], EncodedContext | None]


class LiveBank:
  """Prompts by name in arrays of a fixed shape, so that nothing is compiled anew.

  Place 0 is a prompt of length 0: the untuned model. Arrays are replaced, never written
  to; a batch that has begun keeps the prompts that it was given.

  Args:
    capacity: Most prompts at a time.
    max_prompt_len: Length of the longest one.
    d_model: Their width.
    sharding: Where the arrays go; None is the default device.
    encode: (prompts [1, max_prompt_len, d_model], lengths [1]) -> what the model makes of
      them on their own, kept beside the prompt; nothing where prompts see the tokens.
  """

  def __init__(
    self,
    capacity: int,
    max_prompt_len: int,
    d_model: int,
    sharding: jax.sharding.Sharding | None = None,
    encode: Encode = lambda prompts, lengths: None,
  ):
    self.capacity, self.max_prompt_len, self.d_model = capacity, max_prompt_len, d_model
    shape = (capacity + 1, max_prompt_len, d_model)
    prompts, lengths = np.zeros(shape, np.float32), np.zeros(shape[0], np.int32)
    self._encode = encode
    one = jax.eval_shape(self._encode, prompts[:1], lengths[:1])
    contexts = jax.tree.map(lambda x: np.zeros((*shape[:1], *x.shape[1:]), x.dtype), one)
    self._arrays: Arrays = jax.device_put((prompts, lengths, contexts), sharding)
    self._places: dict[str | None, int] = {None: 0}
    self._lock = threading.Lock()

  def names(self) -> list[str]:
    """Names of the prompts, in the order in which they came."""
    return [name for name in list(self._places) if name is not None]

  def add(self, name: str, prompt: np.ndarray) -> None:
    """Puts a prompt [prompt_len, d_model] where there is room, or in place of its namesake.

    Raises:
      InputError: The bank is full, or the prompt does not fit into a place.
    """
    if not isinstance(name, str) or not name:
      raise checks.InputError(f"a prompt is named {name!r}, expected some text; name it")
    checks.shape(
      f"the prompt {name!r}",
      prompt.shape,
      (*prompt.shape[:1], self.d_model),
      "choose a prompt [prompt_len, d_model] of this model",
    )
    if prompt.shape[0] > self.max_prompt_len:
      raise checks.InputError(
        f"the prompt {name!r} has {prompt.shape[0]} tokens, expected at most "
        f"{self.max_prompt_len}; start with a larger max_prompt_len"
      )
    with self._lock:
      place = self._places.get(name) or self._free(name)
      slots = in_slots(prompt, self.max_prompt_len)[None]
      length = np.asarray(prompt.shape[:1], np.int32)
      one = (slots, length, self._encode(slots, length))
      self._arrays = _placed(self._arrays, np.int32(place), one)
      self._places[name] = place

  def _free(self, name: str) -> int:
    taken = set(self._places.values())
    if len(taken) > self.capacity:
      raise checks.InputError(
        f"the bank is full with {self.capacity} prompts, expected room for {name!r}; "
        "remove one, or start with a larger capacity"
      )
    return next(place for place in range(self.capacity + 1) if place not in taken)

  def remove(self, name: str) -> None:
    """Takes a prompt out.

    Raises:
      InputError: There is no such prompt.
    """
    with self._lock:
      if name not in self._places or name is None:
        raise checks.unknown("prompt", str(name), self.names())
      del self._places[name]

  def select(self, names: Sequence[str | None]) -> tuple[Arrays, list[int | None]]:
    """The arrays as they are now, and the place of each name, None where there is none.

    Returns:
      The arrays, and the prompt_ids of the names in them.
    """
    with self._lock:
      return self._arrays, [self._places.get(name) for name in names]


@jax.jit
def _placed(arrays: Arrays, place: ArrayLike, one: Arrays) -> Arrays:
  """The arrays with those of `one` prompt at a place."""
  return jax.tree.map(lambda x, new: x.at[place].set(new[0]), arrays, one)
