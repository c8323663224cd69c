"""The prompts of a sweep while they learn: one state, one step for all of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from prompt_tuning import assembly, partitioning, trees
from prompt_tuning.checkpoints.run_state import Saved
from prompt_tuning.partitioning import Layout
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.families import Prompted, prompted
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.sweep_config import Member, SweepConfig
from prompt_tuning.training import members as together
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.types import Array


class Bank:
  """The members that run; see `training.members`.

  Args:
    config: The sweep.
    base: The pretrained model.
    layout: Its devices.
    members: Those that the bank begins with, one or more.

  Attributes:
    split: The structure of the model with one prompt.
    frozen: Its frozen weights, on their devices.
    state: A `TrainState` whose arrays have the members as first axis.
  """

  def __init__(
    self,
    config: SweepConfig,
    base: assembly.Base,
    layout: Layout,
    members: Sequence[Member],
  ):
    self._config, self._run, self._base = config, config.run, base
    self._layout, self._members = layout, list(members)
    self._first, _ = self._run.trainer.steps(base.step)
    started = [self._start(member) for member in self._members]
    self.split = started[0][0]
    self.frozen = layout.place(self.split.frozen)
    self._put(together.stack([state for _, state in started]))

  def _start(self, member: Member) -> tuple[states.Split, states.TrainState]:
    """A member before its first update, as `train` starts it."""
    run = member.run
    keys = jax.random.split(jax.random.key(run.trainer.random_seed))
    split = states.Split.of(run.learned.model(self._base, run.vocabulary, keys[0]))
    optimizer = self._optimizer(run.learning_rate_fn)
    return split, states.create(split, optimizer, keys[1], self._first)

  def _optimizer(self, rate: Any) -> Any:
    run = self._run
    return run.learned.optimizer(run.optimizer.transformation(rate, self._first))

  def _put(self, state: states.TrainState) -> None:
    """Takes a state of the members, and compiles their step when it is first taken."""
    self.state = partitioning.replicate(state, self._layout.mesh)
    whole = partitioning.replicated(self._layout.mesh)
    suits = 1 if jax.default_backend() == "cpu" else len(self._members)
    self._step = together.train_step(
      self.split,
      self._optimizer,
      [member.run.learning_rate_fn for member in self._members],
      self._run.loss,
      self._config.at_once or suits,
      self._run.trainer.num_microbatches,
      self._layout.constrain,
      jax.tree.map(lambda _: whole, self.state),
    )

  def resume(self, found: Saved) -> None:
    """Goes on from a saved state of the same members."""
    self._put(found.onto(self.state))

  @property
  def done(self) -> int:
    """The step that all members are at."""
    return int(self.state.step[0])

  def step(self, batch: dict[str, Array]) -> steps.Sums:
    """One update of every member with its rows; their sums, a [members] array each."""
    self.state, sums = self._step(self.state, self.frozen, batch)
    return sums

  def params(self, place: int) -> dict[str, Array]:
    """The tunable values of one member."""
    return {path: values[place] for path, values in self.state.params.items()}

  def finite(self) -> list[bool]:
    """Whether every learned value is a number, for each member."""
    values = [trees.to_host(x) for x in self.state.params.values()]
    return [
      all(bool(np.isfinite(x[place]).all()) for x in values)
      for place in range(len(self._members))
    ]

  def keep(self, places: Sequence[int]) -> None:
    """Lets the other members go."""
    self._members = [self._members[place] for place in places]
    self._put(together.take(self.state, places))

  def described(self, prompt: Prompt) -> Prompted:
    """The model with a whole bank of prompts, as shapes."""
    shape = (prompt.num_prompts, prompt.length, self._run.model.d_model)
    return prompted(self._base.model, PromptBank.abstract(shape))
