"""What a training run learns: a prompt for a frozen model, or the model itself.

Both answer the same questions, so that the run knows no difference: which model to build,
how its optimizer is laid out, and how the best state is kept and read back.
"""

import dataclasses
from typing import Protocol

import numpy as np
import optax
from etils import epath

from prompt_tuning import assembly, checks, distributed, trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.models.families import Model, ModelConfig
from prompt_tuning.partitioning import Layout
from prompt_tuning.prompts import bank, masks
from prompt_tuning.prompts.families import Prompted, prompted
from prompt_tuning.prompts.prompted import t5x_path
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.training import state as states
from prompt_tuning.types import Array, Tunable

BANK = "bank/prompts"  # path of the bank among the tunable variables
_MODEL = "model/"  # prefix of the model's weights there
Params = dict[str, Array]


class Learned(Protocol):
  """What a run asks of that which it learns."""

  @property
  def name(self) -> str:
    """In files and tables."""

  @property
  def prompt(self) -> Prompt | None:
    """The prompt in front of the tokens, if there is one."""

  @property
  def prompt_slots(self) -> int:
    """Encoder places that each example of a packed row leaves for a prompt."""

  def load(
    self, config: ModelConfig, source: RestoreCheckpointConfig, layout: Layout
  ) -> assembly.Base:
    """The pretrained model, on its devices."""

  def model(self, base: assembly.Base, vocabulary: Vocabulary, key: Array) -> Prompted:
    """The model of which the tunable variables learn."""

  def shapes(self, model: Model) -> Prompted:
    """`model` without arrays, given a pretrained model without arrays."""

  def t5x_path(self, path: str) -> str:
    """The T5X name of a variable of `model`."""

  def optimizer(
    self, transformation: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """The optimizer over the tunable variables."""

  def save_step(self, folder: epath.Path, step: int, params: Params) -> None:
    """Writes what the original wrote at every save."""

  def save_best(self, folder: epath.Path, params: Params, metadata: dict) -> None:
    """Replaces the best state so far."""

  def best(self, folder: epath.Path) -> epath.Path:
    """Where the best state lies."""

  def load_best(self, folder: epath.Path) -> dict[str, np.ndarray]:
    """The best state."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptTuning:
  """Learns the prompts of a bank; the model is frozen (Lester et al. 2021)."""

  prompt: Prompt
  name = "prompt"

  @property
  def prompt_slots(self) -> int:
    """None for prompts that see no tokens: they are encoded beside the rows."""
    blind = masks.is_input_blind(assembly.visibility(self.prompt))
    return 0 if blind else self.prompt.length

  def load(
    self, config: ModelConfig, source: RestoreCheckpointConfig, layout: Layout
  ) -> assembly.Base:
    """See `Learned`."""
    return assembly.load_base(config, source, layout=layout)

  def model(self, base: assembly.Base, vocabulary: Vocabulary, key: Array) -> Prompted:
    """See `Learned`."""
    return assembly.with_prompt(base, self.prompt, vocabulary, key)

  def shapes(self, model: Model) -> Prompted:
    """See `Learned`."""
    shape = (self.prompt.num_prompts, self.prompt.length, model.config.d_model)
    visible = assembly.visibility(self.prompt)
    return prompted(model, bank.PromptBank.abstract(shape), visible)

  def t5x_path(self, path: str) -> str:
    """See `Learned`."""
    return t5x_path(path)

  def optimizer(
    self, transformation: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """Each prompt of the bank on its own."""
    return states.over_bank(transformation)

  def save_step(self, folder: epath.Path, step: int, params: Params) -> None:
    """Writes `numpy_checkpoints/checkpoint_<step>/`."""
    prompt = _only_prompt(params)
    if distributed.is_first():
      prompt_files.save_step(folder, step, bank.PATH, prompt)

  def save_best(self, folder: epath.Path, params: Params, metadata: dict) -> None:
    """Writes `prompt.safetensors`."""
    prompt = _only_prompt(params)
    known = {**metadata, "visibility": sorted(assembly.visibility(self.prompt))}
    if distributed.is_first():
      prompt_files.save_prompt(str(self.best(folder)), prompt, known)

  def best(self, folder: epath.Path) -> epath.Path:
    """See `Learned`."""
    return folder / "prompt.safetensors"

  def load_best(self, folder: epath.Path) -> dict[str, np.ndarray]:
    """See `Learned`."""
    found = prompt_files.read(self.best(folder)).prompt
    return {BANK: found.reshape(-1, *found.shape[-2:])}


def _only_prompt(params: Params) -> np.ndarray:
  """The bank; without its first axis where it holds one prompt."""
  prompts = trees.to_host(params[BANK])
  return prompts[0] if prompts.shape[0] == 1 else prompts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTuning:
  """Learns every weight of the model, the paper's baseline."""

  name = "model_tuning"
  prompt = None
  prompt_slots = 0

  def load(
    self, config: ModelConfig, source: RestoreCheckpointConfig, layout: Layout
  ) -> assembly.Base:
    """See `Learned`.

    Raises:
      InputError: No format is written for models of its family.
    """
    if config.family != "t5":
      raise checks.InputError(
        f"the model is of the family {config.family} and learns itself, expected a T5, for "
        "no other is written; learn a prompt"
      )
    return assembly.load_base(config, source, Tunable, layout)

  def model(self, base: assembly.Base, vocabulary: Vocabulary, key: Array) -> Prompted:
    """See `Learned`."""
    del key
    assembly.check_vocabulary(vocabulary, base)
    return prompted(base.model)

  def shapes(self, model: Model) -> Prompted:
    """See `Learned`."""
    return prompted(model)

  def t5x_path(self, path: str) -> str:
    """See `Learned`."""
    return t5x_path(path)

  def optimizer(
    self, transformation: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """See `Learned`."""
    return transformation

  def save_step(self, folder: epath.Path, step: int, params: Params) -> None:
    """Nothing beside the run state: a model is too large to keep at every save."""

  def save_best(self, folder: epath.Path, params: Params, metadata: dict) -> None:
    """Writes `best/checkpoint_<step>` in T5X's format and removes the one before."""
    model = {p.removeprefix(_MODEL): trees.to_host(x) for p, x in params.items()}
    if not distributed.is_first():
      return
    place = self.best(folder)
    before = [] if not place.exists() else list(place.glob("checkpoint_*"))
    t5x.save(place, model, metadata["step"], "float32")
    for path in before:
      if path.name != f"checkpoint_{metadata['step']}":
        path.rmtree()

  def best(self, folder: epath.Path) -> epath.Path:
    """See `Learned`."""
    return folder / "best"

  def load_best(self, folder: epath.Path) -> dict[str, np.ndarray]:
    """See `Learned`."""
    found = t5x.load(str(self.best(folder)))
    return {_MODEL + path: value for path, value in found.items()}
