"""From a checkpoint, a prompt and a vocabulary to a model that can run."""

import dataclasses

import jax
from flax import nnx

from prompt_tuning import checks, trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig, restore
from prompt_tuning.data.vocabularies import SentencePiece
from prompt_tuning.models import parameters
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import FromFile, Prompt
from prompt_tuning.types import Array, Frozen


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen model and where it came from.

  Attributes:
    model: The plain T5.
    fingerprint: Digest of its weights.
    step: Training step of its checkpoint.
  """

  model: T5
  fingerprint: str
  step: int


def load_base(
  config: T5Config, source: RestoreCheckpointConfig, kind: type[nnx.Variable] = Frozen
) -> Base:
  """Restores a model; every name and shape must fit.

  Args:
    config: Its shape.
    source: Its checkpoint.
    kind: `Tunable` where the model itself learns.

  Raises:
    InputError: The checkpoint is unusable or of another model.
  """
  checkpoint = t5x.load(source.path)
  variables = trees.flat_variables(T5.abstract(config))
  expected = {path: v.get_value().shape for path, v in variables.items()}
  params = restore(
    checkpoint,
    expected,
    ignore=source.ignore,
    initialise=source.initialise,
    dtype=source.dtype,
  )
  random = parameters.random_from(jax.random.key(0))
  source_of = parameters.taken_from(params, otherwise=random)
  model = T5(config, Parameters(source_of, kind))
  return Base(model, trees.fingerprint(trees.values(model)), checkpoint.step)


def with_prompt(
  base: Base, prompt: Prompt, vocabulary: SentencePiece, key: Array
) -> PromptedT5:
  """The model with a bank of prompts in front.

  Raises:
    InputError: The prompt was trained for another model, or does not fit.
  """
  check_vocabulary(vocabulary, base)
  if isinstance(prompt.start, FromFile):
    check_prompt_file(prompt.start.path, base)
  bank = prompt.initialize(
    key,
    base.model.config.d_model,
    lambda: jax.device_get(base.model.token_embedder.embedding.get_value()),
    vocabulary.load,
  )
  return PromptedT5(base.model, PromptBank(bank))


def check_vocabulary(vocabulary: SentencePiece, base: Base) -> None:
  """Raises `InputError` when the embedding table has fewer rows than the vocabulary."""
  pieces, rows = vocabulary.load().vocab_size, base.model.config.vocab_size
  if pieces > rows:
    raise checks.InputError(
      f"the vocabulary {vocabulary.sentencepiece_model_file} has {pieces} ids, the model's "
      f"table {rows} rows, expected at least as many; choose the model's own vocabulary"
    )


def check_prompt_file(path: str, base: Base) -> None:
  """Raises `InputError` when a prompt file names another base model."""
  trained_on = prompt_files.read(path).metadata.get("base_fingerprint")
  if trained_on not in (None, base.fingerprint):
    raise checks.InputError(
      f"the prompt file {path} was trained on the model {trained_on}, the checkpoint is "
      f"{base.fingerprint}; choose the checkpoint it was trained on"
    )
