"""`prompt-tuning <command>`: a table of commands, each imported when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
  "train": ("prompt_tuning.cli.runs", "train a prompt for a frozen model"),
  "sweep": (
    "prompt_tuning.cli.runs",
    "train many prompts at once: seeds, rates, tasks",
  ),
  "eval": ("prompt_tuning.cli.runs", "evaluate a prompt with a task's metrics"),
  "ensemble": ("prompt_tuning.cli.runs", "evaluate several prompts of a task as one"),
  "infer": ("prompt_tuning.cli.infer", "answer rows of one's own, or a task's split"),
  "spot": ("prompt_tuning.cli.spot", "which prompts are alike, and which start a new task"),
  "serve": ("prompt_tuning.cli.serve", "answer over HTTP with many prompts at once"),
  "tasks": ("prompt_tuning.cli.tasks", "list tasks, or look at one"),
  "tokens": ("prompt_tuning.cli.runs", "turn text into token arrays for pretraining"),
  "plan": ("prompt_tuning.cli.plan", "what a run needs of devices, without them"),
  "pretrain": ("prompt_tuning.cli.runs", "train a small T5 on one's own text"),
  "convert": ("prompt_tuning.cli.convert", "write a checkpoint in another format"),
  "recycle": ("prompt_tuning.cli.recycle", "turn a prompt into one of another model"),
  "merge": ("prompt_tuning.cli.merge", "fold a trained method into the weights"),
  "inspect": ("prompt_tuning.cli.inspect", "show a checkpoint, or how two differ"),
  "extract": ("prompt_tuning.cli.extract", "write one variable as .npy"),
  "corpus": ("prompt_tuning.cli.corpus", "gather text for pretraining"),
  "scale": ("prompt_tuning.cli.scale", "prompt tuning against model tuning, by size"),
  "rates": ("prompt_tuning.cli.rates", "find the learning rate that suits a run"),
  "methods": ("prompt_tuning.cli.methods", "every method on one task, side by side"),
  "mrqa": ("prompt_tuning.cli.mrqa", "questions of the MRQA shared task as a table"),
  "vocabulary": ("prompt_tuning.cli.vocabulary", "train a SentencePiece vocabulary"),
}

_HELP = """usage: prompt-tuning <command> [flags]

Prompt tuning: one frozen language model, a small learned prompt per task.

{commands}

`prompt-tuning <command> --help` shows the flags. A line that works as pasted:

  prompt-tuning train --gin_file=experiments/movie_reviews.gin \\
    --gin.MODEL_DIR="'runs/movies'"
"""


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit status; 2 means that the input was unusable."""
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  if not arguments or arguments[0] in ("-h", "--help", "help"):
    rows = (f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items())
    print(_HELP.format(commands="\n".join(rows)))
    return 0
  name, *rest = arguments
  from prompt_tuning import __version__, checks, distributed, preemption

  if name == "--version":
    print(__version__)
    return 0
  try:
    if name not in COMMANDS:
      raise checks.unknown("command", name, list(COMMANDS))
    module = importlib.import_module(COMMANDS[name][0])
    status = module.main(name, rest) or 0
    sys.stdout.flush()
    return status
  except checks.InputError as error:
    print(f"prompt-tuning: {distributed.name()}{error}", file=sys.stderr)
    return 2
  except preemption.Preempted as told:
    print(f"prompt-tuning: {distributed.name()}{told}", file=sys.stderr)
    return preemption.EXIT_PREEMPTED
  except BrokenPipeError:  # whoever read the output, `head` perhaps, has enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except KeyboardInterrupt:
    print("prompt-tuning: stopped; a run continues with the same command", file=sys.stderr)
    return 130
