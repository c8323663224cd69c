"""T5X's command-line flags."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from prompt_tuning import checks, distributed

# flag -> (what its value is, help)
_DISTRIBUTED: dict[str, tuple[str, Any, str]] = {
  "coordinator_address": ("HOST:PORT", str, "of process 0, where the others report"),
  "process_count": ("N", int, "processes of the job"),
  "process_index": ("I", int, "which of them this is, from 0"),
  "initialization_timeout": ("SECONDS", int, "how long to wait for the others"),
}
_EXAMPLES = {
  "train": """prompt-tuning train --gin_file=experiments/movie_reviews.gin \\
    --gin.MODEL_DIR="'runs/movies'\"""",
  "sweep": """prompt-tuning sweep --gin_file=experiments/movie_reviews_sweep.gin \\
    --gin.MODEL_DIR="'runs/sweep'\"""",
  "eval": """prompt-tuning eval --gin_file=experiments/movie_reviews_eval.gin \\
    --gin.PROMPT_FILE="'runs/movies/prompt.safetensors'" \\
    --gin.EVAL_OUTPUT_DIR="'runs/movies/eval'\"""",
  "ensemble": """prompt-tuning ensemble --gin_file=experiments/movie_reviews_ensemble.gin \\
    --gin.PROMPT_FILES="['runs/seed_0', 'runs/seed_1', 'runs/seed_2']" \\
    --gin.EVAL_OUTPUT_DIR="'runs/ensemble'\"""",
  "infer": """prompt-tuning infer --gin_file=experiments/movie_reviews_infer.gin \\
    --gin.PROMPT_FILE="'runs/movies/prompt.safetensors'" \\
    --gin.INFER_OUTPUT_DIR="'runs/movies/infer'\"
  prompt-tuning infer --gin_file=experiments/movie_reviews_predictor.gin \\
    --prompt movies=runs/movies/prompt.safetensors --labels negative,positive \\
    --template "{text}" --input reviews.jsonl --output answers.jsonl""",
  "tokens": """prompt-tuning corpus runs/corpus && prompt-tuning vocabulary runs/corpus
  prompt-tuning tokens --gin_file=models/t5_1_1_reviews.gin \\
    --gin_file=objectives/reviews_all.gin --gin_file=runs/tokens.gin \\
    --gin.TEXT="'runs/corpus'" --gin.TOKENS="'runs/tokens'\"""",
  "pretrain": """prompt-tuning pretrain --gin_file=experiments/reviews_multi_task.gin \\
    --gin.TOKENS="'runs/tokens'" --gin.MODEL_DIR="'runs/multi_task'\"""",
}


def parse(command: str, arguments: Sequence[str]) -> argparse.Namespace:
  """The flags of a run; `--gin.NAME=VALUE` becomes the binding "NAME = VALUE".

  Raises:
    InputError: A flag is unknown or incomplete.
  """
  return parsed(parser(command), arguments)


def parser(command: str) -> "Parser":
  """The parser of a run's flags, to which a command may add its own."""
  parser = Parser(
    prog=f"prompt-tuning {command}",
    epilog=f"a line that works as pasted:\n  {_EXAMPLES[command]}",
  )
  add_gin(parser)
  add = parser.add_argument
  add("--tfds_data_dir", metavar="DIR", help="where TFDS datasets lie")
  add(
    "--seqio_additional_cache_dirs",
    default="",
    metavar="DIR,DIR",
    help="where seqio's offline caches lie",
  )
  add(
    "--multiprocess",
    "--multiprocess_gpu",
    nargs="?",
    const=True,
    default=False,
    type=_boolean,
    help="this is one of several processes, found by Cloud TPU, Slurm or MPI, or by the "
    "four flags below; on any device, docs/devices.md",
  )
  for name, (metavar, kind, text) in _DISTRIBUTED.items():
    add(f"--{name}", metavar=metavar, type=kind, help=text)
  return parser


def add_gin(parser: "Parser") -> None:
  """Adds the flags of a config, and the one that shows it."""
  add = parser.add_argument
  add(
    "--gin_file",
    action="append",
    default=[],
    metavar="FILE",
    help="gin file; repeatable, later files win",
  )
  add_bindings(parser)
  add(
    "--gin_search_paths",
    default="",
    metavar="DIR,DIR",
    help="folders in which gin files are looked up",
  )
  add(
    "--dry_run",
    nargs="?",
    const=True,
    default=False,
    type=_boolean,
    help="show the config and the parameters, then stop",
  )


def add_bindings(parser: "Parser") -> None:
  """Adds the flag of single bindings."""
  parser.add_argument(
    "--gin_bindings",
    action="append",
    default=[],
    metavar="'NAME = VALUE'",
    help="gin binding; repeatable. --gin.NAME=VALUE is short for it",
  )


def parsed(parser: "Parser", arguments: Sequence[str]) -> argparse.Namespace:
  """What a parser of `parser` finds; see `parse`."""
  return parser.parse_args([rewritten(argument) for argument in arguments])


def join(given: argparse.Namespace) -> None:
  """Joins the other processes where the flags or a launcher say that there are some.

  Raises:
    InputError: They are not found.
  """
  if _several(given):
    _keep_results_apart()
    distributed.start(**{name: getattr(given, name) for name in _DISTRIBUTED})


def alone(given: argparse.Namespace, what: str) -> None:
  """Raises `InputError` where several processes are asked for, or were started.

  Args:
    given: The flags.
    what: What one process does.
  """
  if _several(given):
    raise checks.InputError(
      f"several processes are asked for, expected one for {what}, which uses all devices "
      "of its machine; start one, without the flags of several"
    )


def _several(given: argparse.Namespace) -> bool:
  asked = any(getattr(given, name) is not None for name in _DISTRIBUTED)
  return given.multiprocess or asked or distributed.launched() is not None


def _keep_results_apart() -> None:
  """Leaves stdout to results: JAX's collectives for CPUs report their connections there."""
  results = os.dup(sys.stdout.fileno())
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  sys.stdout = os.fdopen(results, "w", buffering=1)


def rewritten(argument: str) -> str:
  """`--gin.NAME=VALUE` as `--gin_bindings=NAME = VALUE`; anything else as it is."""
  if not argument.startswith("--gin."):
    return argument
  name, found, value = argument.removeprefix("--gin.").partition("=")
  if not found:
    raise checks.InputError(
      f"the flag {argument} has no value, expected --gin.NAME=VALUE with a gin value; "
      f"e.g. --gin.{name or 'MODEL_DIR'}=\"'text'\""
    )
  return f"--gin_bindings={name} = {value}"


def _boolean(text: str) -> bool:
  return text.lower() not in ("false", "0", "no")


class _Help(argparse.HelpFormatter):
  """Wraps prose and leaves lines to paste as they are."""

  def _fill_text(self, text: str, width: int, indent: str) -> str:
    return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
  """Reports wrong flags as every other wrong input is reported."""

  def __init__(self, **options: Any):
    super().__init__(allow_abbrev=False, formatter_class=_Help, **options)

  def error(self, message: str):
    """Raises `InputError` instead of printing the usage."""
    raise checks.InputError(f"{message}; `{self.prog} --help` shows the flags")
