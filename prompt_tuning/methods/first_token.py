"""Which task an example is of, by a sentinel in front of its inputs.

  inputs   <extra_id_3> a b c    ->    task 3, a b c

The sentinels are the last ids of a vocabulary, the first of them the very last, as the
tasks named task_index_* and a table's input "<extra_id_3> {text}" put them there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.types import Array


class FirstToken(nnx.Module):
  """See `steering.Sentinel`.

  Args:
    num_tasks: How many there are.
    vocab_size: Ids in all; task i's sentinel is vocab_size - 1 - i.
  """

  def __init__(self, num_tasks: int, vocab_size: int):
    self.num_tasks, self.last = num_tasks, vocab_size - 1

  def __call__(self, tokens: Array) -> tuple[Array, Array]:
    """Tokens without the first, and the tasks [batch] int32.

    Rows of padding are task 0's: nothing of them counts. An unknown task is one too many,
    for which the bank gives NaN.

    Raises:
      InputError: A row begins otherwise (where the tokens are known, which they are not
        under `jax.jit`).
    """
    if not isinstance(tokens, jax.core.Tracer):
      self.check(np.asarray(tokens))
    tasks = jnp.where(tokens[:, 0] == 0, 0, self.last - tokens[:, 0])
    known = (tasks >= 0) & (tasks < self.num_tasks)
    return tokens[:, 1:], jnp.where(known, tasks, self.num_tasks)

  def check(self, tokens: np.ndarray) -> None:
    """Raises `InputError` where a row begins otherwise."""
    first = tokens[..., 0]
    known = (first > self.last - self.num_tasks) & (first <= self.last)
    unknown = first[~known & (first != 0)]
    if unknown.size:
      raise checks.InputError(
        f"inputs begin with the tokens {sorted(set(unknown.tolist()))[:8]}, expected the "
        f"sentinel of a task, {self.last - self.num_tasks + 1} to {self.last}: "
        "<extra_id_0> of task 0 and so on; put it in front, or set NUM_TASKS"
      )
