"""train, sweep, eval, infer and pretrain: gin in, a run, its result on stdout."""

import importlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prompt_tuning import checks, config, distributed, trees
from prompt_tuning.cli import compiled, flags
from prompt_tuning.data import folders

if TYPE_CHECKING:
  from prompt_tuning.prompts.bank import PromptBank


def _train_report(summary: dict[str, Any]) -> str:
  from prompt_tuning.comparison import report

  return report(summary)


def _sweep_report(summary: dict[str, Any]) -> str:
  from prompt_tuning.sweep_report import report

  return report(summary)


def _eval_report(results: dict[str, Any]) -> str:
  from prompt_tuning.scorecard import report

  return report(results)


def _ensemble_report(results: dict[str, Any]) -> str:
  from prompt_tuning.ensemble import report

  return report(results)


def _indented(result: dict[str, Any]) -> str:
  return json.dumps(result, indent=2)


# command -> (name in gin, module, function, how its result is printed)
_RUNS: dict[str, tuple[str, str, str, Callable[[Any], str]]] = {
  "train": ("train.train", "train", "train", _train_report),
  "sweep": ("sweep.sweep", "sweep", "sweep", _sweep_report),
  "eval": ("eval.evaluate", "eval", "evaluate", _eval_report),
  "ensemble": ("ensemble.ensemble", "ensemble", "ensemble", _ensemble_report),
  "infer": ("infer.infer", "infer", "infer", "\n".join),
  "tokens": ("tokens.tokens", "tokens", "tokens", _indented),
  "pretrain": ("pretrain.pretrain", "pretrain", "pretrain", _indented),
}


def main(command: str, arguments: Sequence[str]) -> int:
  """Runs `command`, or describes it where --dry_run is given."""
  given = flags.parse(command, arguments)
  quiet()
  if not given.gin_file:
    raise checks.InputError(
      "no --gin_file is given, expected at least one; "
      f"`prompt-tuning {command} --help` shows a line that works"
    )
  name, module, function, show = _RUNS[command]
  if not given.dry_run:
    flags.join(given)
  settings, text = config.load(
    name, given.gin_file, given.gin_bindings, paths(given.gin_search_paths)
  )
  if given.dry_run:
    print(description(settings, text))
    return 0
  compiled.keep()
  folders.use(given.tfds_data_dir, paths(given.seqio_additional_cache_dirs))
  run = getattr(importlib.import_module(f"prompt_tuning.{module}"), function)
  result = run(settings, text)
  if distributed.is_first():
    print(show(result))
  return 0


def description(settings: Any, text: str) -> str:
  """The operative config and the parameter table; reads no checkpoint and no data."""
  if not hasattr(settings, "model"):
    return text
  import jax

  from prompt_tuning.models import families
  from prompt_tuning.prompts.families import prompted
  from prompt_tuning.prompts.prompted import t5x_path

  if hasattr(settings, "check"):
    settings.check()
  dtype = getattr(getattr(settings, "checkpoint", None), "dtype", None)
  model = families.abstract(settings.model, dtype or "float32")
  if hasattr(settings, "learned"):
    described, rename = settings.learned.shapes(model), settings.learned.t5x_path
  else:
    described, rename = prompted(model, _bank(settings)), t5x_path
  return f"{text}\n{trees.describe(described, rename)}\n{jax.default_backend()} backend"


def _bank(settings: Any) -> "PromptBank | None":
  """That of a run that answers, as shapes; None where files say the lengths."""
  from prompt_tuning.prompts.bank import PromptBank

  prompt = getattr(settings, "prompt", None)
  if prompt is None or prompt.places is not None:
    return None
  shape = (prompt.num_prompts, prompt.length, settings.model.d_model)
  return PromptBank.abstract(shape)


def paths(text: str) -> list[str]:
  """What a flag of folders names."""
  return [path for path in text.split(",") if path]


def quiet() -> None:
  """Keeps TensorFlow's and absl's notices out of the log of a run."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
  logging.getLogger("absl").setLevel(logging.ERROR)
  warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
