"""Progress in plain lines, as where no terminal is."""

import re

from prompt_tuning import progress
from prompt_tuning.progress import Progress


def shown(capsys) -> list[str]:
  return capsys.readouterr().err.splitlines()


def test_values_stay_until_there_are_others(capsys, monkeypatch):
  monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
  with Progress("train", 3) as bar:
    bar.update(1, {"loss": 2.0})
    bar.update(2)
    bar.update(3, {"loss": 1.0})
  assert [line.split(" left")[0] for line in shown(capsys)] == [
    "train 1/3 loss=2",
    "train 2/3 loss=2",
    "train 3/3 loss=1",
  ]


def test_examples_are_those_that_were_counted_or_rows_of_steps(capsys, monkeypatch):
  monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
  now = 0.0
  monkeypatch.setattr(progress.time, "monotonic", lambda: now)
  bar = Progress("train", 0, rows=2)
  now = 4.0
  bar.update(6)
  now = 8.0
  bar.update(6, examples=48)
  rates = [re.search(r"examples/s=(\S+)", line)[1] for line in shown(capsys)]
  assert rates == ["3.0", "6.0"]


def test_nothing_is_said_of_what_is_short(capsys):
  with Progress("train", 3) as bar:
    for _ in range(3):
      bar.advance()
  assert shown(capsys) == []
