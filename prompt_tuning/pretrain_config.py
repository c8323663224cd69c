"""A pretraining run as data: which model, on which tokens, for how long, and where to."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning import checks
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import objective_config
from prompt_tuning.data.objective_config import Objective
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.models.config import T5Config
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
  """One pretraining run.

  Attributes:
    model: Shape of the model.
    vocabulary: Of the model.
    tokens: Folder of token arrays, see `tokens.tokens`.
    objectives: Kinds of batches, their rates and their sizes.
    checkpoint: Weights to go on from, as LM adaptation does; None draws them.
    optimizer: Adafactor, with parameter scaling as T5 was pretrained.
    learning_rate_fn: Learning rate by step of this run.
    loss: Loss, best normalized by the number of real target tokens.
    partitioner: Which devices.
    total_steps: Updates of this run.
    model_dir: Where everything is written.
    random_seed: Of weights, batches and dropout.
    eval_period: Steps between two evaluations of the held-out rows.
    eval_steps: Held-out batches of each objective.
    save_period: Steps between two saves of the run state.
    stats_period: Steps between two rows of `metrics.jsonl`.
    save_dtype: Of the checkpoint, "bfloat16" or "float32".
  """

  model: T5Config
  vocabulary: Vocabulary
  tokens: str
  objectives: Sequence[Objective]
  checkpoint: RestoreCheckpointConfig | None = None
  optimizer: Adafactor
  learning_rate_fn: Schedule
  loss: Loss
  partitioner: Partitioner = Partitioner()
  total_steps: int
  model_dir: str
  random_seed: int = 0
  eval_period: int = 1000
  eval_steps: int = 20
  save_period: int = 500
  stats_period: int = 50
  save_dtype: str = "bfloat16"

  def __post_init__(self):
    for macro, value, least in (
      ("TRAIN_STEPS", self.total_steps, 1),
      ("EVAL_PERIOD", self.eval_period, 1),
      ("EVAL_STEPS", self.eval_steps, 0),
      ("SAVE_PERIOD", self.save_period, 1),
      ("STATS_PERIOD", self.stats_period, 1),
    ):
      checks.number(macro, value, least, "give a number of steps without quotes")
    if not isinstance(self.model, T5Config):
      raise checks.InputError(
        f"MODEL is {type(self.model).__name__}, expected models.T5Config, for no other is "
        "pretrained here; choose a T5"
      )
    checks.choice("save_dtype", self.save_dtype, ("bfloat16", "float32"))
    if not isinstance(self.loss, Loss):
      raise checks.InputError(
        f"LOSS is {type(self.loss).__name__}, expected losses.Loss, for token arrays hold "
        "no candidates; set LOSS = @losses.Loss()"
      )
    objective_config.check(self.objectives)

  def check_vocabulary(self, known: Mapping[str, Any]) -> None:
    """Raises `InputError` unless the tokens, as `known` describes them, fit the model.

    Where the vocabulary's file is not on this machine, only the sizes are compared.
    """
    if known["ids"] > self.model.vocab_size:
      raise checks.InputError(
        f"the tokens are of a vocabulary of {known['ids']} ids, the model's table has "
        f"{self.model.vocab_size} rows, expected at least as many; raise NUM_EMBEDDINGS"
      )
    if not self.vocabulary.is_here():
      return
    if self.vocabulary.fingerprint() != known["sha256"]:
      raise checks.InputError(
        f"the tokens in {self.tokens} were made with another vocabulary than "
        f"{self.vocabulary.name}; run "
        "`prompt-tuning tokens` with this model's file, or set VOCABULARY"
      )

  def identity(self, manifest_hash: str, base: str) -> dict[str, str]:
    """What must not change between an interruption and a resume."""
    drawn = [(o.name, o.rate, o.batch_size) for o in self.objectives]
    return {
      "base checkpoint": base,
      "model": repr(self.model),
      "tokens": manifest_hash,
      "objectives": json.dumps(drawn),
      "optimizer": repr(self.optimizer),
      "learning rate": repr(self.learning_rate_fn),
      "loss": repr(self.loss),
      "random seed": str(self.random_seed),
    }
