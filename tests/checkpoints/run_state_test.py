"""The run state: bit for bit, whole or absent, small."""

import os

import jax
import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import run_state
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.schedules import Schedule


@pytest.fixture
def state(tiny_t5):
  model = PromptedT5(tiny_t5, PromptBank(jax.random.normal(jax.random.key(5), (4, 16))))
  optimizer = states.over_bank(Adafactor().transformation(Schedule()))
  return states.create(states.Split.of(model), optimizer, jax.random.key(9), 3)


def test_what_is_saved_comes_back_bit_for_bit(tmp_path, state):
  folder = epath.Path(tmp_path)
  size = run_state.save(folder, 3, state, {"best": 1.5, "name": "x"})
  saved = run_state.load(folder, 3)
  found = saved.onto(state)
  assert saved.memory == {"best": 1.5, "name": "x"}
  assert jax.tree.structure(found) == jax.tree.structure(state)
  for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
    assert ours.dtype == theirs.dtype
    if jax.numpy.issubdtype(ours.dtype, jax.dtypes.prng_key):
      ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
    np.testing.assert_array_equal(ours, theirs)
  assert size < 8000  # the model alone has 58 KB


def test_only_the_newest_two_are_kept(tmp_path, state):
  folder = epath.Path(tmp_path)
  for step in (1, 2, 10, 9):
    run_state.save(folder, step, state, {})
  assert run_state.steps(folder) == [9, 10]
  assert sorted(os.listdir(tmp_path / "run_state")) == [
    "step_10.safetensors",
    "step_9.safetensors",
  ]


def test_a_file_without_its_final_name_is_never_seen(tmp_path, state):
  folder = epath.Path(tmp_path)
  run_state.save(folder, 1, state, {})
  (tmp_path / "run_state" / ".step_2.safetensors.abc").write_bytes(b"half")
  assert run_state.steps(folder) == [1]


@pytest.mark.parametrize("keep", [0, 8, 100, -1])
def test_a_damaged_file_is_refused(tmp_path, state, keep):
  folder = epath.Path(tmp_path)
  run_state.save(folder, 1, state, {})
  path = tmp_path / "run_state" / "step_1.safetensors"
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(checks.InputError, match="run state"):
    run_state.load(folder, 1)


def test_the_state_of_another_kind_of_run_is_refused(tmp_path, state):
  folder = epath.Path(tmp_path)
  run_state.save(folder, 1, {"other": np.zeros(3)}, {})
  with pytest.raises(checks.InputError, match="params"):
    run_state.load(folder, 1).onto(state)
