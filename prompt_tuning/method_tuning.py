"""What a run learns where it is another method than prompts alone.

MODEL_DIR/
  method.safetensors       the best state in plain tensors, for `eval` and `infer`
  prompt.safetensors       instead of it where nothing but prompts is left
  variables.safetensors    the best state as it was trained
  numpy_checkpoints/       its variables at every save, under T5X's names; or the prompt
                           that they make, where nothing else is left
"""

import dataclasses
import hashlib

import numpy as np
import optax
from etils import epath

from prompt_tuning import assembly, distributed, trees
from prompt_tuning.checkpoints import method_files, prompt_files
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.learned import BANK, Params
from prompt_tuning.methods import method as methods
from prompt_tuning.methods.method import Method
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.partitioning import Layout
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PATH
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.training import state as states
from prompt_tuning.types import Array, ArrayLike

_VARIABLES = "variables.safetensors"
_MODEL = "model/"  # prefix of the model's weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodTuning:
  """Learns the variables of a method; the model is frozen (see `Learned`)."""

  method: Method

  @property
  def name(self) -> str:
    """Of the method."""
    return self.method.name

  @property
  def prompt(self) -> Prompt | None:
    """See `Method`."""
    return self.method.prompt

  @property
  def prompt_slots(self) -> int:
    """See `Learned`."""
    if self.prompt is None or masks.is_input_blind(self._visibility):
      return 0
    return self.prompt.length

  @property
  def _visibility(self) -> frozenset[str]:
    return masks.FULL if self.prompt is None else assembly.visibility(self.prompt)

  def load(
    self, config: T5Config, source: RestoreCheckpointConfig, layout: Layout
  ) -> assembly.Base:
    """See `Learned`."""
    return assembly.load_base(config, source, layout=layout)

  def model(self, base: assembly.Base, vocabulary: Vocabulary, key: Array) -> PromptedT5:
    """See `Learned`."""
    return assembly.steered(base, self.method, vocabulary, key, self._visibility)

  def shapes(self, model: T5) -> PromptedT5:
    """The model without arrays, given one without arrays."""
    return methods.shapes(self.method, model, self._visibility)

  def t5x_path(self, path: str) -> str:
    """See `Learned`."""
    return self.method.t5x_path(path)

  def optimizer(
    self, transformation: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """Each prompt of the bank on its own, and every other variable."""
    return states.with_banks(transformation, [BANK])

  def save_step(self, folder: epath.Path, step: int, params: Params) -> None:
    """Writes `numpy_checkpoints/checkpoint_<step>/`."""
    trained = {path: trees.to_host(value) for path, value in params.items()}
    if not distributed.is_first():
      return
    if self.method.leaves_prompts:
      prompts = self.method.folded(trained).tensors[BANK]
      prompt_files.save_step(folder, step, PATH, _single(prompts))
      return
    for path, array in trained.items():
      single = _single(array) if path == BANK else array
      prompt_files.save_step(folder, step, self.method.t5x_path(path), single)

  def save_best(self, folder: epath.Path, params: Params, metadata: dict) -> None:
    """Writes `variables.safetensors`, and what `folded` makes of them."""
    trained = {path: trees.to_host(value) for path, value in params.items()}
    if not distributed.is_first():
      return
    own = methods.settings(self.method)
    metadata = {**metadata, "visibility": sorted(self._visibility)}
    method_files.save(folder / _VARIABLES, self.name, own, trained, metadata)
    folded = self.method.folded(trained)
    if folded.method is None:
      single = _single(folded.tensors[BANK])
      prompt_files.save_prompt(str(self.best(folder)), single, metadata)
    else:
      name, settings = folded.method.name, methods.settings(folded.method)
      method_files.save(self.best(folder), name, settings, folded.tensors, metadata)

  def best(self, folder: epath.Path) -> epath.Path:
    """See `Learned`."""
    return folder / (
      "prompt.safetensors" if self.method.leaves_prompts else method_files.NAME
    )

  def load_best(self, folder: epath.Path) -> dict[str, np.ndarray]:
    """See `Learned`."""
    return method_files.read(folder / _VARIABLES).tensors


def identity(split: states.Split) -> dict[str, str]:
  """Of what a method froze beside the model's weights: prompts and texts that it read.

  Nothing else of a run says so where the files change between interruption and resume.
  """
  found = hashlib.sha256()
  beside = {p: x for p, x in trees.values(split.frozen).items() if not p.startswith(_MODEL)}
  for path, value in beside.items():
    found.update(path.encode() + trees.to_host(value).tobytes())
  return {"what the method reads": found.hexdigest()[:16]} if beside else {}


def _single(prompts: ArrayLike) -> ArrayLike:
  """A bank, without its first axis where it holds one prompt."""
  return prompts[0] if len(prompts) == 1 else prompts
