"""The families of models, prompted: each has its way to take a prompt."""

from collections.abc import Set
from typing import Any

from prompt_tuning.models.families import Model
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.prompted_lm import PromptedLM

Prompted = PromptedT5 | PromptedLM


def prompted(
  model: Model,
  bank: PromptBank | None = None,
  visibility: Set[str] | None = None,
  context: Any = None,
) -> Prompted:
  """A plain model with a bank of prompts in front of its inputs.

  Args:
    model: The plain model.
    bank: The prompts; None is the untuned model.
    visibility: Who sees whom, see `masks.encoder_mask`; None is the usual of its kind.
    context: What `encoded_prompts` returned for the bank before.

  Raises:
    InputError: The prompts do not fit the model.
  """
  found = usual_visibility(model) if visibility is None else visibility
  if isinstance(model, T5):
    return PromptedT5(model, bank, visibility=found, context=context)
  return PromptedLM(model, bank, found, context)


def usual_visibility(model: Model) -> frozenset[str]:
  """Who sees whom where nobody says."""
  return masks.FULL if isinstance(model, T5) else masks.CAUSAL
