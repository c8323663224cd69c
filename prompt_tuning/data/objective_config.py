"""What a model is pretrained on: objectives as data, no TensorFlow needed.

span_corruption  Thank you <X> me to your party <Y>  ->  <X> for inviting <Y> last week
prefix_lm        Thank you for inviting              ->  me to your party last week
text_infilling   Thank you <X> me to your party <Y>  ->  the whole text
token_deletion   Thank inviting me your party week   ->  the whole text
labelled         sentiment: Thank you for inviting   ->  positive
"""

import dataclasses
from collections.abc import Mapping, Sequence

from prompt_tuning import checks
from prompt_tuning.data import spans


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
  """One kind of pretraining example, where its text comes from, how often it is drawn.

  Attributes:
    name: Of the seqio task, of its folder of token arrays and of its metrics.
    kind: One of the five above; None takes the registered seqio task `name` as it is.
    text: A file, a folder or a pattern of files with one document per line, or
      "tfds:NAME" for the field "text" of a TFDS dataset. `labelled` reads .jsonl lines
      of {"prefix": ..., "inputs": ..., "targets": ...}. Only needed to write tokens.
    module: Python module that registers the task where `kind` is None.
    lengths: Tokens of a packed row, {"inputs": 128, "targets": 32}.
    noise: What span corruption, infilling and deletion hide.
    window: Most tokens of a labelled example's inputs, None for a whole row.
    epochs: Passes over the text that are written, each with other spans.
    max_rows: Most packed rows that are written, None for all.
    rate: Share of steps, relative to the other objectives.
    batch_size: Packed rows of a batch.
  """

  name: str
  kind: str | None
  text: str | None = None
  module: str | None = None
  lengths: Mapping[str, int]
  noise: spans.Noise = spans.T5_NOISE
  window: int | None = None
  epochs: int = 1
  max_rows: int | None = None
  rate: float = 1.0
  batch_size: int = 128

  def __post_init__(self):
    checks.number("BATCH_SIZE", self.batch_size, 1, "give a number of rows")
    for name, value, least in (
      ("epochs", self.epochs, 1),
      ("rate", self.rate, 0),
      ("max_rows", self.max_rows, 1),
      ("window", self.window, 4),
    ):
      if value is not None:
        checks.number(f"{name} of {self.name!r}", value, least, "give a number")
    if not {"inputs", "targets"} <= set(self.lengths):
      raise checks.InputError(
        f"the lengths of {self.name!r} are {dict(self.lengths)}, expected those of inputs "
        "and targets; set both, e.g. {'inputs': 512, 'targets': 114}"
      )
    if self.kind is None:
      return
    checks.choice("objective", self.kind, spans.KINDS)
    raw = spans.raw_len(self.kind, self.lengths["inputs"], self.noise)
    spans.check_room(self.kind, raw, self.lengths["targets"], self.noise)


def check(objectives: Sequence[Objective]) -> None:
  """Raises `InputError` for objectives that cannot be mixed."""
  names = [objective.name for objective in objectives]
  if not names or len(set(names)) < len(names):
    raise checks.InputError(
      f"the objectives are {names}, expected at least one and no name twice; set OBJECTIVES"
    )
  if not any(objective.rate for objective in objectives):
    raise checks.InputError("every objective has the rate 0, expected one that is drawn")
