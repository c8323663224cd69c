"""Restoring: every name accounted for, every device its own boxes, memory bounded."""

import pathlib
import socket
import subprocess
import sys
import threading
import time
import weakref

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prompt_tuning import checks, formats, trees
from prompt_tuning.checkpoints import safetensors_files, t5x
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Inline, Transposed
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig, restore

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
MATRIX = np.arange(16 * 24, dtype=np.float32).reshape(16, 24)
VECTOR = np.arange(8, dtype=np.float32)
PARAMS = {"b/kernel": MATRIX, "a/scale": VECTOR, "c/step": np.float32(3)}


@pytest.fixture
def written(tmp_path, tiny_t5):
  """A folder with `checkpoint_7` of the tiny model, and its parameters."""
  params = {path: np.asarray(x) for path, x in trees.values(tiny_t5).items()}
  t5x.save(epath.Path(tmp_path), params, 7)
  return tmp_path, params


def checkpoint_of(leaves):
  return Checkpoint(epath.Path("some/checkpoint"), "test", leaves)


def shapes_of(arrays):
  return {name: np.shape(array) for name, array in arrays.items()}


class Recording:
  """An array that counts how often each of its elements is read."""

  def __init__(self, array):
    self.array, self.shape, self.dtype = array, array.shape, array.dtype
    self.counts = np.zeros(array.shape, int)

  def read(self, index=None, dtype=None):
    index = ... if index is None else index
    self.counts[index] += 1
    return self.array[index].astype(dtype or self.dtype)


# Names and shapes.


def test_restore_lists_everything_that_does_not_fit(written):
  folder, params = written
  expected = {path: x.shape for path, x in params.items()}
  del expected["encoder/encoder_norm/scale"]
  expected["encoder/new"] = (3,)
  with pytest.raises(checks.InputError) as error:
    restore(t5x.load(str(folder)), expected)
  assert "  - encoder/new" in str(error.value)
  assert "  + encoder/encoder_norm/scale" in str(error.value)


def test_restore_ignores_only_what_the_caller_names(fixtures, golden):
  checkpoint = t5x.load(f"{fixtures}/t5x_head/legacy_checkpoint_9")
  expected = {path: x.shape for path, x in golden("tiny_params").items()}
  with pytest.raises(checks.InputError, match=r"\+ encoder/prompt/prompt/prompt"):
    restore(checkpoint, expected)
  assert restore(checkpoint, expected, ignore=[".*prompt.*"]).keys() == expected.keys()


def test_restore_lists_every_wrong_shape(written):
  folder, params = written
  expected = {path: (*x.shape[:-1], 999) for path, x in params.items()}
  with pytest.raises(checks.InputError) as error:
    restore(t5x.load(str(folder)), expected)
  assert str(error.value).count("the model has") == len(params)


def test_weights_are_drawn_only_where_the_caller_says_so(written, tiny_config):
  from prompt_tuning.assembly import load_base

  folder, params = written
  name = "encoder/encoder_norm/scale"
  kept = {path: x for path, x in params.items() if path != name}
  t5x.save(epath.Path(folder), kept, 8)
  with pytest.raises(checks.InputError, match=f"- {name}"):
    load_base(tiny_config, RestoreCheckpointConfig(path=str(folder)))
  source = RestoreCheckpointConfig(path=str(folder), initialise=[".*norm/scale"])
  found = trees.values(load_base(tiny_config, source).model)
  np.testing.assert_array_equal(found[name], np.ones(16))
  for path, array in kept.items():
    np.testing.assert_array_equal(found[path], array)


def test_a_pattern_must_match_the_whole_name():
  checkpoint = checkpoint_of({"a/prompt/x": Inline(VECTOR)})
  with pytest.raises(checks.InputError, match=r"\+ a/prompt/x"):
    restore(checkpoint, {}, ignore=["prompt", "a/prompt"])
  with pytest.raises(checks.InputError, match="- b/norm/scale"):
    restore(checkpoint_of({}), {"b/norm/scale": (3,)}, initialise=["norm"])


def test_names_come_in_the_order_of_the_model():
  checkpoint = checkpoint_of({name: Inline(np.asarray(x)) for name, x in PARAMS.items()})
  for order in (["a/scale", "b/kernel", "c/step"], ["c/step", "b/kernel", "a/scale"]):
    found = restore(checkpoint, {name: np.shape(PARAMS[name]) for name in order})
    assert list(found) == order


def test_what_is_ignored_or_does_not_fit_is_never_read():
  old, fine = Recording(MATRIX), Recording(VECTOR)
  checkpoint = checkpoint_of({"prompt": old, "a": fine})
  assert restore(checkpoint, {"a": (8,)}, ignore=["prompt"]).keys() == {"a"}
  with pytest.raises(checks.InputError, match=r"prompt: \[16, 24\], the model has \[4\]"):
    restore(checkpoint, {"a": (8,), "prompt": (4,)})
  assert old.counts.sum() == 0 and (fine.counts == 1).all()


# Dtypes.


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16", None])
def test_values_are_cast_on_the_way_in_and_only_where_asked(stored, wanted):
  array = (MATRIX / 7).astype(jnp.dtype(stored))
  found = restore(checkpoint_of({"a": Inline(array)}), {"a": array.shape}, dtype=wanted)
  assert found["a"].dtype == jnp.dtype(wanted or stored)
  np.testing.assert_array_equal(found["a"], array.astype(jnp.dtype(wanted or stored)))


# Devices.


def t5x_leaves(folder):
  t5x.save(epath.Path(folder), {"a": MATRIX}, 0)
  return t5x.load(str(folder)).leaves


def orbax_leaves(folder):
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(folder / "x", {"target": {"a": MATRIX}})
  return formats.load(str(folder / "x")).leaves


def transposed_leaves(folder):
  path = epath.Path(folder / "x.safetensors")
  safetensors.numpy.save_file({"a": np.ascontiguousarray(MATRIX.T)}, path)
  return {"a": Transposed(safetensors_files.read(path).leaves["a"])}


MESHES = {"8": ((8,), ("x",)), "2x4": ((2, 4), ("x", "y"))}
SPECS = [
  ("8", ()),
  ("8", ("x",)),
  ("8", (None, "x")),
  ("2x4", ()),
  ("2x4", ("x",)),
  ("2x4", ("y", "x")),
  ("2x4", ("x", "y")),
  ("2x4", (None, "y")),
  ("2x4", (("x", "y"),)),
  ("2x4", (None, ("y", "x"))),
]


def sharding_of(mesh, spec):
  shape, axes = MESHES[mesh]
  devices = np.array(jax.devices()).reshape(shape)
  return NamedSharding(Mesh(devices, axes), PartitionSpec(*spec))


@pytest.mark.parametrize("leaves_of", [t5x_leaves, orbax_leaves, transposed_leaves])
@pytest.mark.parametrize(("mesh", "spec"), SPECS)
def test_sharded_is_the_same_as_on_one_device(tmp_path, leaves_of, mesh, spec):
  sharding = sharding_of(mesh, spec)
  checkpoint = checkpoint_of(leaves_of(tmp_path))
  found = restore(checkpoint, {"a": MATRIX.shape}, sharding=lambda _: sharding)["a"]
  assert found.sharding == sharding and found.committed
  np.testing.assert_array_equal(found, MATRIX)
  for shard in found.addressable_shards:
    np.testing.assert_array_equal(shard.data, MATRIX[shard.index])
  alone = restore(checkpoint, {"a": MATRIX.shape})["a"]
  assert alone.devices() == {jax.devices()[0]}
  np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(("mesh", "spec"), SPECS)
def test_no_element_is_read_twice(mesh, spec):
  sharding, leaf = sharding_of(mesh, spec), Recording(MATRIX)
  restore(checkpoint_of({"a": leaf}), {"a": leaf.shape}, sharding=lambda _: sharding)
  assert (leaf.counts == 1).all()


_PROCESS = """
import sys

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.restore import restore

tests, address, number = sys.argv[1:]
sys.path.insert(0, tests)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(address, 2, int(number))
from restore_test import MATRIX, Recording

in_order = np.array(jax.devices())
one_each = in_order.reshape(2, 4).T.reshape(8)  # neighbours belong to different processes
for devices, shape, spec in [
  (in_order, (8,), ("x",)),
  (in_order, (8,), (None, "x")),
  (in_order, (8,), ()),
  (one_each, (8,), ("x",)),
  (one_each, (8,), (None, "x")),
  (one_each, (4, 2), ("x", "y")),
  (in_order, (2, 4), ("y",)),
]:
  mesh = Mesh(devices.reshape(shape), ("x", "y")[: len(shape)])
  sharding, leaf = NamedSharding(mesh, PartitionSpec(*spec)), Recording(MATRIX)
  checkpoint = Checkpoint(epath.Path("x"), "test", {"a": leaf})
  found = restore(checkpoint, {"a": leaf.shape}, sharding=lambda _: sharding)["a"]
  needed = np.zeros(leaf.shape, int)
  assert len(found.addressable_shards) == 4
  for shard in found.addressable_shards:
    needed[shard.index] = 1
    np.testing.assert_array_equal(shard.data, MATRIX[shard.index])
  assert (leaf.counts == needed).all(), (shape, spec)
print("all", needed.sum())
"""


@pytest.mark.slow
def test_each_process_reads_what_its_devices_hold_and_no_more():
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  here = str(pathlib.Path(__file__).parent)
  command = [sys.executable, "-c", _PROCESS, here, address]
  started = [
    subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for n in range(2)
  ]
  try:
    for process in started:
      out, err = process.communicate(timeout=120)
      assert process.returncode == 0, err.decode()[-2000:]
      assert out.startswith(b"all")
  finally:
    for process in started:
      process.kill()


def test_each_parameter_may_lie_in_its_own_way():
  checkpoint = checkpoint_of({name: Inline(np.asarray(x)) for name, x in PARAMS.items()})
  lies = {
    "b/kernel": sharding_of("2x4", ("x", "y")),
    "a/scale": sharding_of("8", ("x",)),
    "c/step": sharding_of("2x4", ()),
  }
  found = restore(
    checkpoint, shapes_of(PARAMS), dtype="bfloat16", sharding=lies.__getitem__
  )
  for name, array in PARAMS.items():
    assert found[name].sharding == lies[name] and found[name].dtype == BFLOAT16
    np.testing.assert_array_equal(found[name], np.asarray(array).astype(BFLOAT16))


def test_damage_in_one_box_is_refused(written):
  folder, params = written
  name = "target.encoder.layers_1.mlp.wo.kernel"
  (folder / "checkpoint_7" / name / "0.0").write_bytes(b"\x1f\x8b no gzip")
  with pytest.raises(checks.InputError, match="encoder/layers_1/mlp/wo/kernel"):
    restore(
      t5x.load(str(folder)), shapes_of(params), sharding=lambda _: sharding_of("8", ())
    )


# Memory.


class Meter:
  """Bytes that are being read at this moment, and the most there ever were."""

  def __init__(self):
    self.lock, self.now, self.most = threading.Lock(), 0, 0

  def add(self, nbytes):
    with self.lock:
      self.now += nbytes
      self.most = max(self.most, self.now)


class Slow(Recording):
  """An array that takes a while, and says so to a meter."""

  def __init__(self, array, meter):
    super().__init__(array)
    self.meter = meter

  def read(self, index=None, dtype=None):
    self.meter.add(self.array.nbytes)
    time.sleep(0.02)
    self.meter.add(-self.array.nbytes)
    return super().read(index, dtype)


def test_arrays_in_memory_are_never_larger_than_the_largest():
  meter = Meter()
  sizes = [3, 4, 12, 1, 5, 5, 2, 12, 6, 6, 1, 1, 12, 1]  # in 2 MiB
  leaves = {
    f"p{n}": Slow(np.full((size, 1 << 19), n, np.float32), meter)
    for n, size in enumerate(sizes)
  }
  found = restore(checkpoint_of(leaves), {name: x.shape for name, x in leaves.items()})
  assert meter.most == 12 * (2 << 20)
  for name, leaf in leaves.items():
    np.testing.assert_array_equal(found[name], leaf.array)


def test_the_largest_arrays_are_read_first():
  meter, order = Meter(), []

  class Noting(Slow):
    def read(self, index=None, dtype=None):
      order.append(self.array.shape[0])
      return super().read(index, dtype)

  sizes = [9, 10, 12, 11]
  leaves = {
    f"p{n}": Noting(np.zeros((size, 1 << 19), np.float32), meter)
    for n, size in enumerate(sizes)
  }
  found = restore(checkpoint_of(leaves), {name: x.shape for name, x in leaves.items()})
  assert order == [12, 11, 10, 9] and list(found) == ["p0", "p1", "p2", "p3"]


def test_a_model_without_parameters_is_fine():
  assert restore(checkpoint_of({}), {}) == {}


@pytest.mark.parametrize("wrong", [{"dtype": "flot32"}, {"ignore": ["("]}])
def test_a_config_that_cannot_be_used_says_so_at_once(wrong):
  with pytest.raises(checks.InputError, match=r"flot32|regular expression"):
    RestoreCheckpointConfig(path="x", **wrong)


# Arrays that are kept in another form.


def test_only_one_group_of_arrays_waits_to_be_finished():
  shape = (5 << 10, 1 << 10)  # 20 MiB each, hence a group of its own
  leaves = {name: Inline(np.zeros(shape, np.float32)) for name in "abc"}
  waiting, most = [], []

  def finish(name, array):
    waiting.append(weakref.ref(array))
    most.append(sum(one() is not None for one in waiting))
    return {name: array[:1], f"{name}_more": array[0, 0]}

  found = restore(checkpoint_of(leaves), dict.fromkeys(leaves, shape), finish=finish)
  assert list(found) == ["a", "a_more", "b", "b_more", "c", "c_more"]
  assert most == [1, 1, 1]
