"""Prompt tuning: one frozen language model, a small learned prompt per task.

  import prompt_tuning as pt
  config   = pt.T5Config.from_gin("models/t5_1_1_base.gin")
  model    = pt.T5(config, pt.load_checkpoint(path))
  prompted = pt.PromptedT5(model, pt.PromptBank(array))

Names are imported when they are first used, so that `import prompt_tuning` is instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
  "Answer": "prompt_tuning.queries",
  "Beam": "prompt_tuning.decoding.beam",
  "Checkpoint": "prompt_tuning.checkpoints.checkpoint",
  "DecoderOnlyT5": "prompt_tuning.models.decoder_only",
  "Greedy": "prompt_tuning.decoding.greedy",
  "InputError": "prompt_tuning.checks",
  "Predictor": "prompt_tuning.predictor",
  "PromptBank": "prompt_tuning.prompts.bank",
  "PromptedDecoder": "prompt_tuning.prompts.prompted_decoder",
  "PromptedT5": "prompt_tuning.prompts.prompted",
  "Sampling": "prompt_tuning.decoding.sampling",
  "T5": "prompt_tuning.models.t5",
  "T5Config": "prompt_tuning.models.config",
  "Table": "prompt_tuning.data.table",
  "load_prompt": "prompt_tuning.formats",
  "save_prompt": "prompt_tuning.checkpoints.prompt_files",
}
_RENAMED = {"load_checkpoint": ("prompt_tuning.formats", "load")}

__all__ = ["__version__", *sorted([*_HOMES, *_RENAMED])]


def __getattr__(name: str) -> Any:
  if name in _HOMES:
    return getattr(importlib.import_module(_HOMES[name]), name)
  if name in _RENAMED:
    module, original = _RENAMED[name]
    return getattr(importlib.import_module(module), original)
  raise AttributeError(f"module 'prompt_tuning' has no attribute {name!r}")


def __dir__() -> list[str]:
  return __all__
