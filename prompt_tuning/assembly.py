"""From a checkpoint, a prompt and a vocabulary to a model that can run."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from prompt_tuning import checks, formats, trees, weights
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.method_files import MethodFile
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.methods import method as methods
from prompt_tuning.methods.method import Given, Method
from prompt_tuning.models import families
from prompt_tuning.models.families import Model, ModelConfig
from prompt_tuning.models.t5 import T5
from prompt_tuning.partitioning import Layout
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.families import Prompted, prompted, usual_visibility
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, files_of
from prompt_tuning.token_order import TokenOrder
from prompt_tuning.training.state import Split
from prompt_tuning.types import Array, Frozen


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen model and where it came from.

  Attributes:
    model: The plain model.
    fingerprint: Digest of its weights as the checkpoint holds them.
    step: Training step of its checkpoint.
    order: Of its table, see `Checkpoint`; None where nobody says.
  """

  model: Model
  fingerprint: str
  step: int
  order: TokenOrder | None = None

  @property
  def weight_dtype(self) -> str:
    """How its matrices lie in memory."""
    return str(self.model.token_embedder.embedding.get_value().dtype)

  @classmethod
  def of(cls, model: Model, step: int = 0) -> "Base":
    """A model with weights in float, and their digest."""
    return cls(model, trees.fingerprint(trees.values(model)), step)


def load_base(
  config: ModelConfig,
  source: RestoreCheckpointConfig,
  kind: type[nnx.Variable] = Frozen,
  layout: Layout | None = None,
) -> Base:
  """Restores a model; every name and shape must fit.

  Args:
    config: Its shape.
    source: Its checkpoint, of any format.
    kind: `Tunable` where the model itself learns, which takes floats.
    layout: Devices, and how the weights lie on them; None is one device.

  Raises:
    InputError: The checkpoint is unusable or of another model, or the model does not
      divide over the devices.
  """
  weights.check_kind(source, kind)
  checkpoint = formats.load(source.path)
  check_facts(config, checkpoint)
  found = weights.load(config, checkpoint, source, layout)
  model = families.model(config, found.parameters(kind, layout))
  return Base(model, found.fingerprint, checkpoint.step, checkpoint.order)


def check_facts(config: ModelConfig, checkpoint: Checkpoint) -> None:
  """Raises `InputError` where a checkpoint states what the config contradicts."""
  stated = {"family": checkpoint.family, **checkpoint.facts}
  wrong = [
    f"  {name}: {value!r}, the model has {getattr(config, name, None)!r}"
    for name, value in stated.items()
    if getattr(config, name, None) != value
  ]
  if wrong:
    raise checks.InputError(
      f"the checkpoint {checkpoint.path} is of another kind than the model; choose the "
      "model config that it was made with\n" + "\n".join(wrong)
    )


def with_prompt(base: Base, prompt: Prompt, vocabulary: Vocabulary, key: Array) -> Prompted:
  """The model with a bank of prompts in front.

  Raises:
    InputError: A prompt that it starts from was trained for another model, or does not
      fit.
  """
  _check_starts(base, files_of(prompt.start), vocabulary)
  bank = prompt.initialize(
    key,
    base.model.config.d_model,
    lambda: table(base.model),
    vocabulary.load,
  )
  return prompted(base.model, PromptBank(bank), visibility(prompt))


def _check_starts(base: Base, paths: Sequence[str], vocabulary: Vocabulary) -> None:
  """Raises `InputError` where vocabulary or prompts are those of another model."""
  check_vocabulary(vocabulary, base)
  for path in paths:
    check_prompt_file(formats.read_prompt(path), base, vocabulary)


def steered(
  base: Base,
  method: Method,
  vocabulary: Vocabulary,
  key: Array,
  visible: frozenset[str] = masks.FULL,
) -> PromptedT5:
  """The model with what a method adds to it, before the first step.

  Raises:
    InputError: The method does not fit the model, or a prompt that it starts from was
      trained for another.
  """
  if not isinstance(base.model, T5):
    raise checks.InputError(
      f"the model is a {type(base.model).__name__} and what is learned the method "
      f"{type(method).__name__}, which enters an encoder, expected a T5; learn a prompt"
    )
  _check_starts(base, methods.files(method), vocabulary)
  if method.prompt is not None and method.prompt.num_prompts != 1:
    raise checks.InputError(
      f"num_prompts is {method.prompt.num_prompts}, expected 1, since a method has one "
      "set of variables for all examples; train each in a run of its own"
    )
  of_model = functools.partial(table, base.model)
  return method.steered(Given(base.model, key, of_model, vocabulary.load, visible))


def answering(base: Base, file: MethodFile, vocabulary: Vocabulary) -> PromptedT5:
  """The model with what a method has learned.

  Raises:
    InputError: It was trained for another model, or the file is not what it says.
  """
  check_trained_here(file.path, file.metadata, base, vocabulary)
  method = methods.of_settings(file.method, file.settings)
  visible = visibility_of(file) or masks.FULL
  model = steered(base, method, vocabulary, jax.random.key(0), visible)
  split = Split.of(model)
  check_tensors(file, split)
  return split.merge({p: jnp.asarray(x) for p, x in file.tensors.items()}, split.frozen)


def check_tensors(file: MethodFile, split: Split) -> None:
  """Raises `InputError` unless a file has the variables of its method in a model."""
  expected = {path: x.shape for path, x in trees.values(split.tunable).items()}
  found = {path: x.shape for path, x in file.tensors.items()}
  if found != expected:
    differ = sorted(p for p in found.keys() | expected if found.get(p) != expected.get(p))
    raise checks.InputError(
      f"the file {file.path} does not fit the model, expected the variables of the method "
      f"{file.method}; choose the model it was trained for\n"
      + "\n".join(f"  {p}: {found.get(p)}, here {expected.get(p)}" for p in differ)
    )


def visibility(prompt: Prompt) -> frozenset[str]:
  """Who sees whom with a prompt: as set, as its files say, or everybody everything.

  Raises:
    InputError: It is not set, and the files say different things.
  """
  if prompt.visibility is not None:
    return masks.ALWAYS | set(prompt.visibility)
  return common_visibility([formats.read_prompt(path) for path in files_of(prompt.start)])


def visibility_of(file: PromptFile | MethodFile) -> frozenset[str] | None:
  """What a prompt was trained with; None for numbers without a story, such as numpy files.

  Raises:
    InputError: It says something that there is not.
  """
  if not file.metadata:
    return None
  found = file.metadata.get("visibility")
  if found is None:
    return usual_of(file)
  masks.check_visibility(found)
  return masks.ALWAYS | set(found)


def usual_of(file: PromptFile | MethodFile) -> frozenset[str]:
  """The visibility of prompts for models of its family, where nobody says another."""
  return masks.FULL if file.metadata.get("family", "t5") == "t5" else masks.CAUSAL


def common_visibility(
  files: Sequence[PromptFile], usual: frozenset[str] = masks.FULL
) -> frozenset[str]:
  """That of prompts which answer together; those without a story follow the others.

  Args:
    files: The prompts.
    usual: What they all have where none has a story.

  Raises:
    InputError: They were trained with different ones.
  """
  found = {kinds: file for file in files if (kinds := visibility_of(file)) is not None}
  if len(found) > 1:
    lines = [f"  {file.path}: {', '.join(sorted(kinds))}" for kinds, file in found.items()]
    raise checks.InputError(
      "the prompts were trained with different visibilities, expected one; use those of "
      "each apart\n" + "\n".join(lines)
    )
  return next(iter(found), usual)


def table(model: Model) -> np.ndarray:
  """The token table [vocab, d_model] as floats."""
  embedder = model.token_embedder
  table = trees.to_host(embedder.embedding.get_value())
  if embedder.embedding_scale is None:
    return table
  scale = trees.to_host(embedder.embedding_scale.get_value())
  return table.astype(np.float32) * scale[:, None]


def with_prompts(base: Base, paths: Sequence[str], vocabulary: Vocabulary) -> Prompted:
  """The model with a bank of trained prompts, of any lengths, in the order of `paths`.

  Raises:
    InputError: A prompt was trained for another model, or is none.
  """
  check_vocabulary(vocabulary, base)
  files = [formats.read_prompt(path) for path in paths]
  for file in files:
    check_prompt_file(file, base, vocabulary)
  bank = PromptBank.of([prompt_files.single(file) for file in files])
  visible = common_visibility(files, usual_visibility(base.model))
  return prompted(base.model, bank, visible)


def check_vocabulary(vocabulary: Vocabulary, base: Base) -> None:
  """Raises `InputError` when the rows of the embedding table are of other tokens."""
  pieces, rows = vocabulary.load().vocab_size, base.model.config.vocab_size
  if pieces > rows:
    raise checks.InputError(
      f"the vocabulary {vocabulary.name} has {pieces} ids, the model's "
      f"table {rows} rows, expected at least as many; choose the model's own vocabulary"
    )
  if base.order not in (None, vocabulary.order):
    raise checks.InputError(
      f"the vocabulary {vocabulary.name} has its tokens {vocabulary.order} at 0 and 1, the "
      f"model's table {base.order}, expected the same; choose the tokenizer that lies with "
      "the model"
    )


def check_prompt_file(file: PromptFile, base: Base, vocabulary: Vocabulary) -> None:
  """Raises `InputError` when a prompt belongs to another model or vocabulary."""
  known = {**file.metadata, "d_model": file.prompt.shape[-1]}
  check_trained_here(file.path, known, base, vocabulary)


def check_trained_here(
  path: epath.Path, known: Mapping[str, Any], base: Base, vocabulary: Vocabulary
) -> None:
  """Raises `InputError` when the metadata of a file say another model or vocabulary."""
  here = {
    "base_fingerprint": base.fingerprint,
    "d_model": base.model.config.d_model,
    "vocabulary": vocabulary.fingerprint(),
  }
  wrong = [
    f"  {name}: {known[name]}, here {value}"
    for name, value in here.items()
    if known.get(name) not in (None, value)
  ]
  if wrong:
    raise checks.InputError(
      f"the prompt {path} was trained on another model or vocabulary; choose the "
      "ones it was trained on\n" + "\n".join(wrong)
    )
