"""Settings of every test: 8 virtual devices, strict promotion, a compilation cache."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import pytest

REPO = pathlib.Path(__file__).parent.parent
SHARED = REPO.parent / "shared"

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(REPO / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def golden():
  """Opens a golden file of the original system by name, or skips."""

  def load(name: str) -> dict[str, np.ndarray]:
    path = SHARED / "golden" / f"{name}.npz"
    if not path.exists():
      pytest.skip(f"the original's outputs are not here: {path}")
    with np.load(path, allow_pickle=False) as arrays:
      return {key: arrays[key] for key in arrays.files}

  return load


@pytest.fixture(scope="session")
def fixtures() -> pathlib.Path:
  """The folder of real checkpoints and prompts, or skips."""
  path = SHARED / "fixtures"
  if not path.exists():
    pytest.skip(f"the published checkpoints are not here: {path}")
  return path


@pytest.fixture(scope="session")
def tiny_config():
  """A real T5 1.1 of two layers that compiles in a second."""
  from prompt_tuning.models.config import T5Config

  return T5Config(
    vocab_size=64,
    d_model=16,
    num_heads=2,
    d_kv=8,
    d_ff=32,
    num_encoder_layers=2,
    num_decoder_layers=2,
  )


@pytest.fixture(scope="session")
def tiny_t5(tiny_config):
  """`tiny_config` with random weights."""
  from prompt_tuning.models.t5 import T5

  return T5.random(tiny_config, jax.random.key(0))


@pytest.fixture(scope="session")
def byte_t5():
  """A model of bytes with random weights, so that any text works."""
  from prompt_tuning.models.config import T5Config
  from prompt_tuning.models.t5 import T5

  shape = T5Config(
    vocab_size=384,
    d_model=16,
    num_heads=2,
    d_kv=8,
    d_ff=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  return T5.random(shape, jax.random.key(0))


@pytest.fixture(scope="session")
def batch() -> dict[str, np.ndarray]:
  """Four rows of different lengths, with T5X's feature names."""
  rng = np.random.default_rng(0)
  inputs = rng.integers(3, 64, (4, 10)).astype(np.int32)
  targets = rng.integers(3, 64, (4, 5)).astype(np.int32)
  for row, (input_len, target_len) in enumerate([(10, 5), (7, 3), (4, 2), (1, 1)]):
    inputs[row, input_len:] = 0
    targets[row, target_len:] = 0
  return {
    "encoder_input_tokens": inputs,
    "decoder_target_tokens": targets,
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_loss_weights": (targets > 0).astype(np.int32),
  }


@pytest.fixture(scope="module", autouse=True)
def compiled_in_a_hurry(request):
  """Without most of XLA's optimizations: compiling is what takes the time here.

  Whole runs are compiled as users compile them, for they meet those of other processes.
  """
  hurried = "integration" not in request.path.parts
  jax.config.update("jax_disable_most_optimizations", hurried)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def compiled_as_for_users(compiled_in_a_hurry):
  """All of XLA's optimizations, for what is equal to the bit only with them."""
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def runs_compiled_in_a_hurry(compiled_in_a_hurry):
  """Whole runs that meet none of another process or file, or only some like them."""
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def nothing_of_another_file():
  """Each file starts without the vocabulary and folders of a command of another one."""
  if "prompt_tuning.data.vocabularies" in sys.modules:
    sys.modules["prompt_tuning.data.vocabularies"].use(None)
  if "seqio" in sys.modules:
    from prompt_tuning.data import folders

    folders.use(None, [])
