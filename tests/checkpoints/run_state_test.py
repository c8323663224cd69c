"""The run state: bit for bit, whole or absent, small."""

import functools
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


def save(folder, step, state, memory) -> int:
  """Saves one state and waits until it is on disk."""
  with run_state.Saver(folder) as saver:
    return saver.save(step, state, memory)


def test_what_is_saved_comes_back_bit_for_bit(tmp_path, state):
  folder = epath.Path(tmp_path)
  size = save(folder, 3, state, {"best": 1.5, "name": "x"})
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
    save(folder, step, state, {})
  assert run_state.steps(folder) == [9, 10]
  assert sorted(os.listdir(tmp_path / "run_state")) == [
    "step_10.safetensors",
    "step_9.safetensors",
  ]


def test_a_file_without_its_final_name_is_never_seen(tmp_path, state):
  folder = epath.Path(tmp_path)
  save(folder, 1, state, {})
  (tmp_path / "run_state" / ".step_2.safetensors.abc").write_bytes(b"half")
  assert run_state.steps(folder) == [1]


@pytest.mark.parametrize("keep", [0, 8, 100, -1])
def test_a_damaged_file_is_refused(tmp_path, state, keep):
  folder = epath.Path(tmp_path)
  save(folder, 1, state, {})
  path = tmp_path / "run_state" / "step_1.safetensors"
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(checks.InputError, match="run state"):
    run_state.load(folder, 1)


def test_one_wrong_bit_is_refused(tmp_path, state):
  folder = epath.Path(tmp_path)
  size = save(folder, 1, state, {"best": 1})
  path = tmp_path / "run_state" / "step_1.safetensors"
  content = bytearray(path.read_bytes())
  for place in (content.index(b"best"), size - 200, size - 1):
    damaged = bytearray(content)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(checks.InputError, match="checksum"):
      run_state.load(folder, 1)


def test_a_file_without_a_checksum_is_read(tmp_path, state):
  folder = epath.Path(tmp_path)
  save(folder, 1, state, {"best": 1})
  path = tmp_path / "run_state" / "step_1.safetensors"
  path.write_bytes(path.read_bytes().replace(b'"crc32"', b'"other"'))
  assert run_state.load(folder, 1).memory == {"best": 1}


def test_the_state_of_another_kind_of_run_is_refused(tmp_path, state):
  folder = epath.Path(tmp_path)
  save(folder, 1, {"other": np.zeros(3)}, {})
  with pytest.raises(checks.InputError, match="params"):
    run_state.load(folder, 1).onto(state)


# Beside the loop.


@functools.partial(jax.jit, donate_argnums=0)
def grown(state):
  return jax.tree.map(lambda leaf: leaf + jax.numpy.ones((), leaf.dtype), state)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint32", "bool"])
def test_every_dtype_comes_back(tmp_path, dtype):
  folder, values = epath.Path(tmp_path), jax.numpy.arange(6).reshape(2, 3).astype(dtype)
  state = {"values": values, "none": values[:0], "one": values[1, 1]}
  save(folder, 1, state, {})
  found = run_state.load(folder, 1).onto(state)
  for name, value in state.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value)


def test_what_is_saved_may_be_donated_at_once(tmp_path):
  folder = epath.Path(tmp_path)
  state = {"values": jax.numpy.arange(1 << 20), "count": jax.numpy.zeros((), "int32")}
  with run_state.Saver(folder) as saver:
    for step in range(6):
      saver.save(step, state, {"done": step})
      state = grown(state)
    saver.wait()
    assert run_state.steps(folder) == [4, 5]
  for step in (4, 5):
    found = run_state.load(folder, step)
    assert found.memory == {"done": step} and found.arrays["['count']"] == step
    np.testing.assert_array_equal(found.arrays["['values']"], np.arange(1 << 20) + step)


def test_an_array_in_pieces_is_saved_whole(tmp_path):
  mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
  pieces = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  state = {"values": jax.device_put(np.arange(16), pieces)}
  save(epath.Path(tmp_path), 1, state, {})
  found = run_state.load(epath.Path(tmp_path), 1).arrays["['values']"]
  np.testing.assert_array_equal(found, np.arange(16))


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked(tmp_path, state, keep):
  with run_state.Saver(epath.Path(tmp_path), keep) as saver:
    for step in range(1, 6):
      saver.save(step, state, {})
  assert run_state.steps(epath.Path(tmp_path)) == list(range(6 - keep, 6))


def test_a_saver_waits_when_the_loop_ends_and_when_it_fails(tmp_path, state):
  folder = epath.Path(tmp_path)
  with run_state.Saver(folder) as saver:
    saver.save(1, state, {})
  assert run_state.steps(folder) == [1]
  with pytest.raises(KeyboardInterrupt), run_state.Saver(folder) as saver:
    saver.save(2, state, {})
    raise KeyboardInterrupt
  assert run_state.steps(folder) == [1, 2]


def test_the_latest_is_none_or_the_newest(tmp_path, state):
  folder = epath.Path(tmp_path)
  assert run_state.latest(folder) is None
  for step in (0, 9, 10):
    save(folder, step, state, {})
    assert run_state.latest(folder) == step


# Folders beside states.


def filled(folder, step):
  data = run_state.data_folder(folder, step)
  data.mkdir(parents=True)
  (data / "position").write_text(str(step))
  return data


def test_a_folder_goes_with_its_state(tmp_path, state):
  folder = epath.Path(tmp_path)
  with run_state.Saver(folder) as saver:
    for step in (1, 2, 3, 4):
      filled(folder, step)
      saver.save(step, state, {})
  assert run_state.steps(folder) == [3, 4]
  assert sorted(os.listdir(tmp_path / "run_state")) == [
    "step_3.data",
    "step_3.safetensors",
    "step_4.data",
    "step_4.safetensors",
  ]
  assert (run_state.data_folder(folder, 3) / "position").read_text() == "3"


def test_a_folder_that_is_being_filled_stays(tmp_path, state):
  folder = epath.Path(tmp_path)
  with run_state.Saver(folder) as saver:
    data = filled(folder, 2)
    saver.save(1, state, {})
    saver.wait()
    assert (data / "position").exists()
    saver.save(2, state, {})
  assert (data / "position").exists()


def test_what_a_killed_process_left_is_removed_at_the_start_and_nothing_else(
  tmp_path, state
):
  folder = epath.Path(tmp_path)
  with run_state.Saver(folder) as saver:
    filled(folder, 2)
    saver.save(2, state, {})
  (tmp_path / "run_state" / ".step_3.safetensors.abc").write_bytes(b"half")
  for step in (1, 3):
    filled(folder, step)
  (tmp_path / "run_state" / "notes.txt").write_text("of a person")
  run_state.Saver(folder)
  names = ["notes.txt", "step_2.data", "step_2.safetensors"]
  assert sorted(os.listdir(tmp_path / "run_state")) == names
