"""Draws docs/pretraining.svg from the finished stages of a pretraining.

.venv/bin/python docs/pretraining_picture.py "multi-task=runs/multi_task" \
  "LM adaptation=runs/multi_task_lm"
"""

import pathlib
import sys

from prompt_tuning import metrics_log
from prompt_tuning.analysis import pictures

HERE = pathlib.Path(__file__).parent


def main() -> None:
  """Writes pretraining.svg."""
  stages = dict(argument.split("=", 1) for argument in sys.argv[1:])
  rows = {
    title: metrics_log.read(pathlib.Path(run) / "metrics.jsonl")
    for title, run in stages.items()
  }
  pictures.pretraining(rows, HERE / "pretraining.svg")


if __name__ == "__main__":
  main()
