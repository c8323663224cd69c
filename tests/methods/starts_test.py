"""What a method starts from: files of the same model, and the same files when resumed."""

import jax
import numpy as np
import pytest

from prompt_tuning import assembly, checks, formats, method_tuning
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.data.vocabularies import Bytes
from prompt_tuning.method_tuning import MethodTuning
from prompt_tuning.methods.attempt import Attempt
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.multi_task import MultiTask
from prompt_tuning.methods.per_layer import PerLayer
from prompt_tuning.methods.prefix import PrefixTuning
from prompt_tuning.methods.residual import Residual
from prompt_tuning.methods.wayward import Wayward
from prompt_tuning.prompts.start import FromFile, FromFiles, Prompt, RandomUniform
from prompt_tuning.training import state as states

VOCABULARY = Bytes(extra_ids=8)
PROMPT = Prompt(length=3, start=RandomUniform())


@pytest.fixture
def path(tmp_path):
  """Where a prompt of three tokens is saved."""
  found = str(tmp_path / "run" / "prompt.safetensors")
  save(found)
  return found


def save(path, seed=0, **metadata):
  array = np.random.default_rng(seed).normal(size=(3, 16))
  prompt_files.save_prompt(path, array, metadata)


# What of each reads the file.
STARTING = {
  "residual": lambda start, path: Residual(prompt=Prompt(length=3, start=start)),
  "prefix": lambda start, path: PrefixTuning(length=3, start=start),
  "per_layer": lambda start, path: PerLayer(prompt=PROMPT, start=start),
  "multi_task": lambda start, path: MultiTask(prompt=PROMPT, num_tasks=2, start=start),
  "attempt": lambda start, path: Attempt(
    prompt=PROMPT, sources=[path], load=formats.load_prompt, units=2
  ),
  "average": lambda start, path: PrefixTuning(
    length=3, start=FromFiles(paths=[path], load=formats.load_prompt)
  ),
}


@pytest.mark.parametrize("name", STARTING)
def test_prompts_of_another_model_are_refused(byte_t5, path, name):
  base = assembly.Base.of(byte_t5)
  start = FromFile(path=path, load=formats.load_prompt)
  learned = MethodTuning(method=STARTING[name](start, path))
  learned.model(base, VOCABULARY, jax.random.key(0))  # nothing is known of the file
  save(path, base_fingerprint=base.fingerprint)
  learned.model(base, VOCABULARY, jax.random.key(0))
  save(path, base_fingerprint="another")
  with pytest.raises(checks.InputError, match="trained on another model or vocabulary"):
    learned.model(base, VOCABULARY, jax.random.key(0))


def identity(model, method):
  learned = MethodTuning(method=method)
  found = learned.model(assembly.Base.of(model), VOCABULARY, jax.random.key(0))
  return method_tuning.identity(states.Split.of(found))


FREEZING = {
  "attempt": STARTING["attempt"],
  "wayward": lambda start, path: Wayward(prompt=Prompt(length=3, start=start)),
}


@pytest.mark.parametrize("name", FREEZING)
def test_a_run_is_another_once_a_file_changes_that_it_keeps_reading(byte_t5, path, name):
  start = FromFile(path=path, load=formats.load_prompt)
  before = identity(byte_t5, FREEZING[name](start, path))
  assert before and before == identity(byte_t5, FREEZING[name](start, path))
  save(path, seed=1)
  after = identity(byte_t5, FREEZING[name](start, path))
  assert after != before and after.keys() == before.keys()


def test_a_method_that_freezes_nothing_of_its_own_has_nothing_to_change(byte_t5):
  assert identity(byte_t5, LoRA(rank=2)) == identity(byte_t5, PrefixTuning(length=3)) == {}
