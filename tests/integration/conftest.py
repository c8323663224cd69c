"""A tiny real T5 on disk, and the real command line over it."""

import contextlib
import dataclasses
import io
import json
import pathlib
import sys
from collections.abc import Callable

import jax
import pytest
from etils import epath
from tiny_model import CONFIG

from prompt_tuning import trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.cli.main import main
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5

HERE = pathlib.Path(__file__).parent
if str(HERE) not in sys.path:
  sys.path.append(str(HERE))  # MIXTURE_OR_TASK_MODULE = 'tiny_tasks'

BASE_STEP = 3
TRAINING = ("train", "sweep")

MODEL_GIN = f"""
include 'prompt_tuning/configs/models/t5_1_1_reviews_prompt.gin'
NUM_EMBEDDINGS = {CONFIG.vocab_size}
EMBED_DIM = {CONFIG.d_model}
NUM_HEADS = {CONFIG.num_heads}
HEAD_DIM = {CONFIG.d_kv}
MLP_DIM = {CONFIG.d_ff}
NUM_ENCODER_LAYERS = {CONFIG.num_encoder_layers}
NUM_DECODER_LAYERS = {CONFIG.num_decoder_layers}
PROMPT_LENGTH = 3
"""

TASK_GIN = """
include 'prompt_tuning/configs/models/decoding/rank_classification.gin'
MIXTURE_OR_TASK_NAME = 'tiny_words'
MIXTURE_OR_TASK_MODULE = 'tiny_tasks'
TASK_FEATURE_LENGTHS = {'inputs': 16, 'targets': 4}
LABELS = ['negative', 'positive']
"""

# Eleven rows divide over no more than one device, here and in a process that has one.
TRAIN_GIN = """
include 'tiny_model.gin'
include 'prompt_tuning/configs/prompts/from_class_labels.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
include 'tiny_task.gin'
CLASS_LABELS = ['positive', 'negative']
TRAIN_STEPS = None
TRAIN_STEPS_RELATIVE = 12
BATCH_SIZE = 11
EVAL_PERIOD = 6
EVAL_STEPS = 1
SAVE_PERIOD = 3
STATS_PERIOD = 1
TEST_SPLIT = 'test'
"""

SWEEP_GIN = """
include 'train.gin'
include 'prompt_tuning/configs/runs/prompt_sweep.gin'
include 'train.gin'
"""

AFTER_GIN = """
include 'tiny_model.gin'
include 'prompt_tuning/configs/runs/{file}.gin'
include 'tiny_task.gin'
utils.DatasetConfig.batch_size = 5
"""


@dataclasses.dataclass(frozen=True)
class Result:
  """What a command left: exit status, stdout, stderr."""

  status: int
  out: str
  err: str


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> pathlib.Path:
  """A folder with checkpoint_3 of a random T5 of one layer, and gin files for it."""
  folder = tmp_path_factory.mktemp("base")
  save_random_t5(folder, CONFIG, seed=0)
  (folder / "tiny_model.gin").write_text(MODEL_GIN)
  (folder / "tiny_task.gin").write_text(TASK_GIN)
  (folder / "train.gin").write_text(TRAIN_GIN)
  (folder / "sweep.gin").write_text(SWEEP_GIN)
  for run, file in (
    ("eval", "prompt_eval"),
    ("infer", "prompt_infer"),
    ("ensemble", "ensemble"),
  ):
    (folder / f"{run}.gin").write_text(AFTER_GIN.format(file=file))
  return folder


def save_random_t5(folder: pathlib.Path, config: T5Config, seed: int) -> None:
  model = T5.random(config, jax.random.key(seed))
  t5x.save(epath.Path(folder), trees.values(model), BASE_STEP)


@pytest.fixture(scope="session")
def save_t5() -> Callable[..., None]:
  """Writes a random T5 of a shape near the tiny one's: (folder, seed, **changes)."""

  def save(folder: pathlib.Path, seed: int = 0, **changes: int) -> None:
    save_random_t5(folder, dataclasses.replace(CONFIG, **changes), seed)

  return save


@pytest.fixture(scope="session")
def command(base) -> Callable[..., list[str]]:
  """The arguments of a run: (command, folder for its results, **macros)."""
  outputs = {"infer": "INFER_OUTPUT_DIR", **dict.fromkeys(TRAINING, "MODEL_DIR")}

  def arguments(run: str, out: pathlib.Path, *flags: str, **macros: object) -> list[str]:
    checkpoint = "INITIAL_CHECKPOINT_PATH" if run in TRAINING else "CHECKPOINT_PATH"
    output = outputs.get(run, "EVAL_OUTPUT_DIR")
    given = {checkpoint: str(base), output: str(out), **macros}
    return [
      run,
      f"--gin_search_paths={base}",
      f"--gin_file={run}.gin",
      *(f"--gin.{name}={value!r}" for name, value in given.items()),
      *flags,
    ]

  return arguments


@pytest.fixture(scope="session")
def prompts(tmp_path_factory) -> dict[str, str]:
  """Three random prompts of different lengths that answer differently, {name: file}."""
  folder, files = tmp_path_factory.mktemp("prompts"), {}
  for length, seed in ((3, 13), (5, 45), (2, 33)):  # most seeds say the same to all texts
    array = 4.0 * jax.random.normal(jax.random.key(seed), (length, CONFIG.d_model))
    path = files[f"prompt_{seed}"] = str(folder / f"prompt_{seed}.safetensors")
    prompt_files.save_prompt(path, array)
  return files


@pytest.fixture
def run(capfd) -> Callable[[list[str]], Result]:
  """Calls the command line in this process."""

  def call(arguments: list[str]) -> Result:
    capfd.readouterr()
    status = main(arguments)
    return Result(status, *capfd.readouterr())

  return call


@dataclasses.dataclass(frozen=True)
class Trained:
  """A finished run and its summary."""

  folder: pathlib.Path
  summary: dict
  report: str


@pytest.fixture(scope="session")
def trained(tmp_path_factory, command) -> Trained:
  """Twelve steps of training; tests read the folder and leave it as it is."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    assert main(command("train", folder)) == 0
  summary = json.loads((folder / "summary.json").read_text())
  return Trained(folder, summary, out.getvalue())
