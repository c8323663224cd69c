"""A jitted function that is compiled while its process does something else."""

import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Any

import jax

from prompt_tuning import progress


class Ahead:
  """A function (state, frozen, batch) -> anything, compiled in a thread from now on.

  A batch of other shapes than foreseen is compiled for when it comes.

  Args:
    function: A jitted function.
    state: What it will be called with, placed.
    frozen: As `state`.
    batch: Shapes with shardings.
  """

  def __init__(
    self,
    function: Any,
    state: Any,
    frozen: Any,
    batch: Mapping[str, jax.ShapeDtypeStruct],
  ):
    self._function, self._foreseen, self._told = function, _shapes(batch), False
    thread = concurrent.futures.ThreadPoolExecutor(1)
    self._compiled: concurrent.futures.Future[Callable[..., Any]] = thread.submit(
      lambda: function.lower(state, frozen, batch).compile()
    )
    thread.shutdown(wait=False)

  def __call__(self, state: Any, frozen: Any, batch: Mapping[str, Any]) -> Any:
    """The function's result; waits for the compiler where it is not done."""
    if _shapes(batch) != self._foreseen:
      if not self._told:
        progress.say("the batches have other shapes than foreseen: compiling once more")
        self._told = True
      return self._function(state, frozen, batch)
    return self._compiled.result()(state, frozen, batch)


def _shapes(batch: Mapping[str, Any]) -> dict[str, Any]:
  return {name: (x.shape, x.dtype) for name, x in batch.items()}
