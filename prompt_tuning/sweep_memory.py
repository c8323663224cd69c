"""What a sweep remembers between steps: it travels with the run state, as JSON."""

import dataclasses
from typing import Any

from prompt_tuning.best import Best
from prompt_tuning.training import steps

TIRED, DIVERGED = "no better for PATIENCE evaluations", "not a number"  # why members leave


@dataclasses.dataclass
class Record:
  """What is remembered of a member.

  Attributes:
    best: Of its evaluations.
    scores: (step, score) of each.
    end: Why it left, or None while it runs.
    last_step: When it left.
  """

  best: Best = dataclasses.field(default_factory=Best)
  scores: list[tuple[int, float]] = dataclasses.field(default_factory=list)
  end: str | None = None
  last_step: int | None = None


@dataclasses.dataclass
class Memory:
  """What is remembered of all.

  Attributes:
    identity: Settings that must not change.
    records: By name of the member.
    sums: Of the steps since the last row of metrics, a number for each running member.
  """

  identity: dict[str, str]
  records: dict[str, Record]
  sums: list[steps.Sums] = dataclasses.field(default_factory=list)

  @classmethod
  def of(cls, saved: dict[str, Any]) -> "Memory":
    """From JSON."""
    records = {
      name: Record(**{**record, "best": Best(**record["best"])})
      for name, record in saved["records"].items()
    }
    return cls(saved["identity"], records, saved["sums"])
