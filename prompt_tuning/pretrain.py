"""Pretraining: a T5 from random weights on one's own text.

The corpus is a folder (see `data/corpus.py`) with a SentencePiece model in it. A batch
depends on seed and step only, so a run that is killed continues with the same batches.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import jax
import numpy as np

from prompt_tuning import checks, files, metrics_log, trees
from prompt_tuning.checkpoints import run_state, t5x
from prompt_tuning.data.objectives import Objective, Tokens, tokenize
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.progress import Progress
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule
from prompt_tuning.types import Tunable


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
  """One pretraining run.

  Attributes:
    model: Shape of the model.
    corpus: Folder with `text.txt`, `labelled.jsonl` and `sentencepiece.model`.
    objectives: Kinds of batches and their rates.
    optimizer: Adafactor, with parameter scaling as T5 was pretrained.
    learning_rate_fn: Learning rate by step.
    loss: Loss, best normalized by the number of real target tokens.
    total_steps: Updates in all.
    model_dir: Where everything is written.
    random_seed: Of weights, batches and dropout.
    save_period: Steps between two saves of the run state.
    stats_period: Steps between two rows of `metrics.jsonl`.
    save_dtype: Of the checkpoint, "bfloat16" or "float32".
  """

  model: T5Config
  corpus: str
  objectives: Sequence[Objective]
  optimizer: Adafactor
  learning_rate_fn: Schedule
  loss: Loss
  total_steps: int
  model_dir: str
  random_seed: int = 0
  save_period: int = 500
  stats_period: int = 50
  save_dtype: str = "bfloat16"


def pretrain(config: PretrainConfig, config_text: str = "") -> dict[str, float]:
  """Trains every weight and writes a T5X checkpoint.

  Args:
    config: The run.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    Loss per target token and accuracy of the last period, by objective.

  Raises:
    InputError: The corpus cannot be used, or a weight became NaN.
  """
  folder = files.output_folder(config.model_dir, "MODEL_DIR")
  tokens = _tokens(pathlib.Path(config.corpus), config.model.vocab_size)
  key_init, key_train = jax.random.split(jax.random.key(config.random_seed))
  split = states.Split.of(PromptedT5(T5.random(config.model, key_init, Tunable)))
  transformation = config.optimizer.transformation(config.learning_rate_fn)
  state = states.create(split, transformation, key_train)
  saved = run_state.steps(folder)
  if saved:
    state = run_state.load(folder, saved[-1]).onto(state)
  first = int(state.step)
  (folder / "config.gin").write_text(config_text)
  log = metrics_log.MetricsLog(folder, first)
  bar = Progress("pretrain", config.total_steps, first)
  step_fn = steps.train_step(split, transformation, config.loss)
  rates = np.array([each.rate for each in config.objectives])
  sums: dict[str, list] = {}
  row: dict[str, float] = {}
  for step in range(first, config.total_steps):
    rng = np.random.default_rng((config.random_seed, step))
    drawn = config.objectives[rng.choice(len(rates), p=rates / rates.sum())]
    batch = drawn.batch(tokens, rng, config.model.vocab_size)
    state, step_sums = step_fn(state, split.frozen, batch)
    sums.setdefault(drawn.kind, []).append(step_sums)
    done = step + 1
    if done % config.stats_period == 0 or done == config.total_steps:
      row = _row(sums)
      sums = {}
      log.write(done, row)
      bar.update(done, row)
    if done % config.save_period == 0 or done == config.total_steps:
      _check_finite(state, done)
      run_state.save(folder, done, state, {})
  params = {p.removeprefix("model/"): v for p, v in state.params.items()}
  t5x.save(folder, params, int(state.step), config.save_dtype)
  log.close()
  bar.close()
  return row


def _tokens(folder: pathlib.Path, vocab_size: int) -> Tokens:
  import sentencepiece

  path = folder / "sentencepiece.model"
  if not path.exists():
    raise checks.InputError(
      f"there is no {path}, expected a SentencePiece model beside the corpus; "
      "run `prompt-tuning vocabulary`"
    )
  vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(path))
  if vocabulary.get_piece_size() >= vocab_size:
    raise checks.InputError(
      f"{path} has {vocabulary.get_piece_size()} pieces, which leaves no sentinels below "
      f"the model's vocab_size {vocab_size}; raise vocab_size or train fewer pieces"
    )
  return tokenize(folder, vocabulary.encode)


def _row(sums: dict[str, list]) -> dict[str, float]:
  """Mean loss and accuracy by objective; the loss is per token if it is normalized so."""
  found = {kind: steps.metrics(jax.device_get(rows)) for kind, rows in sums.items()}
  return {
    f"{kind}/{name}": values[name]
    for kind, values in found.items()
    for name in ("loss", "accuracy")
  }


def _check_finite(state: states.TrainState, step: int) -> None:
  finite = all(
    np.isfinite(np.asarray(x)).all() for x in trees.flatten(state.params).values()
  )
  if not finite:
    raise checks.InputError(
      f"the weights are not finite at step {step}, expected numbers; lower the learning "
      "rate and run again: it continues from the last good state"
    )


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["pretrain", *sys.argv[1:]]))
