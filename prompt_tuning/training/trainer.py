"""How long a run trains, and how often it looks up."""

import dataclasses

from prompt_tuning import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
  """The loop as data. All periods are in steps, counted from the first step.

  Attributes:
    total_steps: Step to stop at. Absolute, as in T5X: it includes the steps of the
      pretrained checkpoint.
    relative_steps: Steps of this run; wins over `total_steps`.
    initial_step: Where the counter starts; None continues the checkpoint's, which is
      what the original does (see `Adafactor.transformation`).
    eval_period: Between two evaluations.
    eval_steps: Batches of the teacher-forced part of an evaluation.
    save_period: Between two saves of the run state and the numpy prompt.
    keep: Run states to keep, the newest ones.
    stats_period: Between two rows of metrics.
    num_microbatches: Parts of a batch whose gradients are added up; None for one.
    patience: Evaluations without improvement after which to stop; None for never.
    metric: "task/metric" that decides which prompt is best; None for the mean of all.
    random_seed: Of initialization, dropout and the order of examples.
  """

  total_steps: int | None = None
  relative_steps: int | None = None
  initial_step: int | None = None
  eval_period: int = 1000
  eval_steps: int = 20
  save_period: int = 1000
  keep: int = 2
  stats_period: int = 50
  num_microbatches: int | None = None
  patience: int | None = None
  metric: str | None = None
  random_seed: int = 0

  def __post_init__(self):
    for macro, value, least in (
      ("EVAL_PERIOD", self.eval_period, 1),
      ("SAVE_PERIOD", self.save_period, 1),
      ("KEEP_SAVES", self.keep, 1),
      ("STATS_PERIOD", self.stats_period, 1),
      ("EVAL_STEPS", self.eval_steps, 0),
      ("PATIENCE", self.patience, 1),
      ("TRAIN_STEPS", self.total_steps, 1),
      ("TRAIN_STEPS_RELATIVE", self.relative_steps, 1),
      ("INITIAL_STEP", self.initial_step, 0),
    ):
      if value is not None:
        checks.number(macro, value, least, "give a number of steps without quotes")

  def steps(self, checkpoint_step: int) -> tuple[int, int]:
    """(first, last) step of the run.

    Raises:
      InputError: There is nothing to train.
    """
    first = checkpoint_step if self.initial_step is None else self.initial_step
    if self.relative_steps is not None:
      return first, first + self.relative_steps
    if self.total_steps is None:
      raise checks.InputError(
        "neither TRAIN_STEPS nor TRAIN_STEPS_RELATIVE is set, expected one of them"
      )
    if self.total_steps <= first:
      raise checks.InputError(
        f"TRAIN_STEPS is {self.total_steps} but the checkpoint is at step {first}, "
        "expected a later step; TRAIN_STEPS is absolute, so add the checkpoint's step "
        "or set TRAIN_STEPS_RELATIVE"
      )
    return first, self.total_steps
