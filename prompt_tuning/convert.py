"""From any format to any that can hold it; what a target cannot hold is named.

Models become T5X or Hugging Face, prompts become PEFT, numpy or safetensors.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath

from prompt_tuning import assembly, checks, files, formats, inspection, model_configs
from prompt_tuning.checkpoints import huggingface, peft, prompt_files, t5x
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Cast, Inline, Leaf
from prompt_tuning.prompts import bank
from prompt_tuning.training.adafactor import Adafactor

MODELS, PROMPTS = ("t5x", "hf"), ("peft", "npy", "safetensors")
FORMATS = (*MODELS, *PROMPTS)
DTYPES = t5x.SAVE_DTYPES
_MOST_STEPS = (1 << 31) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What a conversion may be told.

  Attributes:
    base: The model that a prompt belongs to: to `t5x` its checkpoint, which the prompt is
      put into; to `peft` the name that the adapter gives for it.
    dtype: Stored dtype, one of `DTYPES`; None keeps each array's own, float32 for prompts.
    step: Training step of a T5X checkpoint; None keeps the source's.
  """

  base: str | None = None
  dtype: str | None = None
  step: int | None = None

  def check(self, to: str) -> None:
    """Raises `InputError` for what the format `to` cannot be."""
    if self.dtype is not None:
      checks.choice("dtype", self.dtype, DTYPES)
    if self.step is not None and (to != "t5x" or not 0 <= self.step <= _MOST_STEPS):
      raise checks.InputError(
        f"--step is {self.step}, expected 0 to {_MOST_STEPS}, and only with --to t5x; "
        "remove it"
      )


def convert(source: str, target: str, to: str, options: Options = Options()) -> str:
  """Writes what `source` holds as `target`.

  Args:
    source: A checkpoint or prompt of any format.
    target: A new folder or file.
    to: One of `FORMATS`.
    options: See `Options`.

  Returns:
    The path that was written.

  Raises:
    InputError: The source cannot be read, or the target format cannot hold it.
  """
  checks.choice("format", to, FORMATS)
  options.check(to)
  place = files.path(target)
  if to in PROMPTS:
    return _prompt(formats.read_prompt(source), place, to, options)
  model = _model(source, to, options)
  return (_huggingface if to == "hf" else write_t5x)(model, place, options)


def _model(source: str, to: str, options: Options) -> Checkpoint:
  """The model to write: the source, or the base with the source's prompt in it."""
  found = formats.open_any(source)
  if isinstance(found, prompt_files.PromptFile):
    return _with_base(found, to, options)
  _check_t5(found)
  if options.base is not None:
    raise checks.InputError(
      f"--base is {options.base} and {found.path} is a model itself, expected a prompt to "
      "put into the base; remove --base or name a prompt"
    )
  return found


def _family_of(base: str) -> str:
  """Of the model that a prompt belongs to; a mere name says T5."""
  place = files.path(base)
  return formats.load(base).family if place.exists() else "t5"


def _check_t5(found: Checkpoint) -> None:
  """Raises `InputError` for models that the formats of T5 have no names for."""
  if found.family != "t5":
    raise checks.InputError(
      f"the checkpoint {found.path} holds a model of the family {found.family}, expected a "
      "T5: no other is written, and it is read as it is; convert its prompts alone"
    )


def write_t5x(found: Checkpoint, place: epath.Path, options: Options) -> str:
  """Writes `place`, if it is called checkpoint_<step>, or a step folder in it.

  Raises:
    InputError: It is there, or the step is none.
  """
  named = t5x.step_of(place)
  step = found.step if options.step is None else options.step
  if named is not None:
    place, step = place.parent, named
  if options.step not in (None, step):
    raise checks.InputError(
      f"--step is {options.step} and the target checkpoint_{step}, expected the same; "
      "remove --step"
    )
  final = place / f"checkpoint_{step}"
  if final.exists():
    raise files.taken(final)
  if not 0 <= step <= _MOST_STEPS:
    raise checks.InputError(
      f"the step is {step}, expected 0 to {_MOST_STEPS}; set it with --step"
    )
  params = Checkpoint(found.path, found.format, _cast(found.leaves, options.dtype))
  with files.writing(final):
    return str(t5x.save(place, params, step, None, _fresh_slots(found)))


def _fresh_slots(found: Checkpoint) -> dict[str, np.ndarray]:
  """Adafactor's state before the first update, without which T5X does not train."""
  adafactor, slots = Adafactor(), {}
  for name, leaf in found.leaves.items():
    like = jax.eval_shape(functools.partial(adafactor.zero_slots, leaf.shape))
    for slot, value in like._asdict().items():
      slots[f"{name}/{slot}"] = np.zeros(value.shape, value.dtype)
  return slots


def _huggingface(found: Checkpoint, place: epath.Path, options: Options) -> str:
  leaves = dict(found.leaves)
  if leaves.pop(bank.PATH, None) is not None:
    print(
      f"the prompt in {found.path} is left out, since a Hugging Face model has none; "
      "`--to peft` writes it",
      file=sys.stderr,
    )
  config = dataclasses.asdict(model_configs.of(found))
  with files.writing(place):
    huggingface.save(place, _cast(leaves, options.dtype), config)
  return str(place)


def _prompt(
  found: prompt_files.PromptFile, place: epath.Path, to: str, options: Options
) -> str:
  if place.exists():
    raise files.taken(place)
  if options.base and "family" not in found.metadata:
    known = {**found.metadata, "family": _family_of(options.base)}
    found = dataclasses.replace(found, metadata=known)
  dtype = options.dtype or "float32"
  usual = assembly.usual_of(found)
  visibility = assembly.visibility_of(found) or usual
  if to != "safetensors" and visibility != usual:
    raise checks.InputError(
      f"the prompt {found.path} was trained with {sorted(visibility)}, expected "
      f"{sorted(usual)}: a file of {to} cannot say so, and its readers would compute "
      "something else; write safetensors, or train without PROMPT_VISIBILITY"
    )
  if to == "peft":
    with files.writing(place):
      peft.save(place, found, options.base, dtype)
    return str(place)
  if options.base is not None:
    raise checks.InputError(
      f"--base is {options.base}, expected none with --to {to}, which has no place for it; "
      "remove it"
    )
  suffix = f".{to}"
  if place.suffix != suffix:
    raise checks.InputError(
      f"the target is {place.name!r}, expected a name that ends in {suffix}; rename it"
    )
  with files.writing(place):
    prompt_files.save_prompt(str(place), found.prompt, found.metadata, dtype)
  return str(place)


def _with_base(found: prompt_files.PromptFile, to: str, options: Options) -> Checkpoint:
  """A model checkpoint with the prompt inside, as the original keeps it."""
  if to == "hf" or options.base is None:
    raise checks.InputError(
      f"{found.path} holds a prompt and no model, expected a model for {to!r}; write a "
      "prompt with --to peft, npy or safetensors, or into its model with "
      "--to t5x --base CHECKPOINT"
    )
  base = formats.load(options.base)
  _check_t5(base)
  array = prompt_files.single(found)
  remedy = "choose the --base it was trained for"
  width = model_configs.of(base).d_model
  checks.shape(f"the prompt {found.path}", array.shape, (array.shape[0], width), remedy)
  trained_on = found.metadata.get("base_fingerprint")
  digits = inspection.fingerprint(base) if trained_on else None
  if trained_on != digits:
    raise checks.InputError(
      f"the prompt {found.path} was trained on the model {trained_on}, the base is "
      f"{digits}; {remedy}"
    )
  leaves = {**base.leaves, bank.PATH: Inline(array)}
  return Checkpoint(base.path, base.format, leaves, step=base.step, facts=base.facts)


def _cast(leaves: Mapping[str, Leaf], dtype: str | None) -> dict[str, Leaf]:
  if dtype is None:
    return dict(leaves)
  return {name: Cast(leaf, np.dtype(dtype)) for name, leaf in leaves.items()}
