"""A checkpoint in memory: names and shapes now, values when they are asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import leaves as stored
from prompt_tuning.checkpoints.leaves import Leaf
from prompt_tuning.token_order import OURS, TokenOrder
from prompt_tuning.types import Shape


class Checkpoint(Mapping[str, np.ndarray]):
  """Parameters by T5X path, whatever the format they lie in.

  Attributes:
    path: The folder or file that was opened.
    format: Its format, in words.
    step: Training step stored with the parameters; 0 where the format has none.
    leaves: {path: leaf} of the parameters.
    others: Leaves beside the parameters by full path, e.g. optimizer slots; not read.
    facts: Fields of the model's config that the format states: of a T5 those that shapes
      cannot show, of a Llama all.
    family: What kind of model it is, "t5" or "llama".
    order: Which of the tokens of its tokenizer stand at 0 and 1 of its table.
  """

  def __init__(
    self,
    path: epath.Path,
    format: str,
    leaves: Mapping[str, Leaf],
    *,
    step: int = 0,
    others: Mapping[str, Leaf] | None = None,
    facts: Mapping[str, Any] | None = None,
    family: str = "t5",
    order: TokenOrder = OURS,
  ):
    self.path, self.format, self.step = path, format, step
    self.family, self.order = family, order
    self.leaves = dict(leaves)
    self.others, self.facts = dict(others or {}), dict(facts or {})

  @property
  def shapes(self) -> dict[str, Shape]:
    """{path: shape}, known without reading."""
    return {name: tuple(leaf.shape) for name, leaf in self.leaves.items()}

  @property
  def nbytes(self) -> int:
    """Bytes of all parameters in memory, as stored."""
    return sum(map(stored.nbytes, self.leaves.values()))

  def leaf(self, name: str) -> Leaf:
    """The leaf of a parameter, "target/" in front or not, or of what is beside it.

    Raises:
      InputError: There is none of that name.
    """
    for leaves in (self.leaves, self.others):
      if name in leaves:
        return leaves[name]
    short = name.removeprefix("target/")
    if short in self.leaves:
      return self.leaves[short]
    raise checks.unknown("variable", name, [*self.leaves, *self.others])

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self.leaves:
      raise KeyError(str(checks.unknown("parameter", name, list(self.leaves))))
    return self.leaves[name].read()

  def __iter__(self) -> Iterator[str]:
    return iter(self.leaves)

  def __len__(self) -> int:
    return len(self.leaves)

  def __contains__(self, name: object) -> bool:
    return name in self.leaves  # without reading the array


def unreadable(path: Any, why: str) -> checks.InputError:
  """The error for a checkpoint, or a part of it, that cannot be used."""
  return checks.InputError(
    f"the checkpoint {path} cannot be read: {why}; expected a complete one, so copy it "
    "again (dotfiles included) or choose another"
  )


def first_line(error: Exception) -> str:
  """The beginning of an error's text, short enough for a message."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:200]
