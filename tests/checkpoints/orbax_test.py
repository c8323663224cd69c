"""Orbax: what its own writers write, and what T5X wrote with it, reads exactly."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from etils import epath
from flax import serialization
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prompt_tuning import checks, formats, trees
from prompt_tuning.checkpoints import orbax, t5x
from prompt_tuning.prompts.bank import PATH

RNG = np.random.default_rng(0)
PARAMS = {
  "encoder/layers_0/mlp/wi/kernel": RNG.normal(size=(16, 4)).astype(np.float32),
  "encoder/encoder_norm/scale": RNG.normal(size=3).astype(ml_dtypes.bfloat16),
  "token_embedder/embedding": np.zeros((64, 8), np.float32),
}
MOMENTS = np.ones((16, 4), np.float32)


def train_state(step=13):
  """A T5X train state, with all that is no array too."""
  return {
    "target": trees.unflatten(PARAMS),
    "state": {
      "step": np.int32(step),
      "param_states": {"a": {"v": MOMENTS, "m": None}},
      "count": 7,
      "nothing": {},
    },
  }


def saved(path, tree, **options):
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
    checkpointer.save(path, tree)
  return path


def assert_holds(checkpoint, params):
  assert checkpoint.keys() == params.keys()
  for name, array in params.items():
    assert checkpoint.shapes[name] == array.shape
    assert checkpoint[name].dtype == array.dtype
    np.testing.assert_array_equal(checkpoint[name], array)


STORES = [
  pytest.param(ocdbt, zarr3, id=f"{'ocdbt' if ocdbt else 'files'}-zarr{3 if zarr3 else 2}")
  for ocdbt in (True, False)
  for zarr3 in (True, False)
]


@pytest.mark.parametrize(("ocdbt", "zarr3"), STORES)
def test_every_store_reads_exactly(tmp_path, ocdbt, zarr3):
  saved(tmp_path / "x", train_state(), use_ocdbt=ocdbt, use_zarr3=zarr3)
  found = formats.load(str(tmp_path / "x"))
  assert_holds(found, PARAMS)
  assert found.step == 13
  assert ("OCDBT" in found.format) is ocdbt and found.format.startswith("Orbax")
  assert found.others.keys() == {"state/param_states/a/v", "state/count"}
  np.testing.assert_array_equal(found.leaf("state/param_states/a/v").read(), MOMENTS)


@pytest.mark.parametrize(("ocdbt", "zarr3"), STORES)
def test_boxes_of_an_array_in_many_chunks_read(tmp_path, ocdbt, zarr3):
  mesh = Mesh(np.array(jax.devices()), ("x",))
  array = np.arange(64, dtype=np.float32).reshape(16, 4)
  spread = jax.device_put(array, NamedSharding(mesh, PartitionSpec("x")))
  tree = {"target": {"a": spread}}
  saved(tmp_path / "x", tree, use_ocdbt=ocdbt, use_zarr3=zarr3)
  leaf = formats.load(str(tmp_path / "x")).leaves["a"]
  spec = {"driver": "zarr3" if zarr3 else "zarr", "kvstore": leaf.location}
  assert ts.open(spec).result().chunk_layout.read_chunk.shape == (2, 4)
  np.testing.assert_array_equal(leaf.read(), array)
  for start in range(12):
    box = (slice(start, start + 5), slice(1, 3))
    np.testing.assert_array_equal(leaf.read(box), array[box])


def test_parameters_alone_read_from_a_standard_checkpointer(tmp_path):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "x", trees.unflatten(PARAMS))
  found = formats.load(str(tmp_path / "x"))
  assert_holds(found, PARAMS)
  assert found.step == 0 and found.others == {}


def test_params_of_a_flax_train_state_are_the_parameters(tmp_path):
  tree = {"params": trees.unflatten(PARAMS), "opt_state": {"m": MOMENTS}}
  found = formats.load(str(saved(tmp_path / "x", tree)))
  assert_holds(found, PARAMS)
  assert found.others.keys() == {"opt_state/m"}


def test_the_newest_step_of_a_manager_is_read(tmp_path):
  with ocp.CheckpointManager(tmp_path) as manager:
    for step in (2, 10, 9):
      params = {**PARAMS, "n": np.full(2, step, np.int32)}
      manager.save(step, args=ocp.args.StandardSave(trees.unflatten(params)), force=True)
  (tmp_path / "11.orbax-checkpoint-tmp-3").mkdir()
  for path, step in [("", 10), ("10", 10), ("10/default", 10), ("9", 9)]:
    found = formats.load(str(tmp_path / path))
    assert found.path == epath.Path(tmp_path / str(step) / "default")
    assert_holds(found, {**PARAMS, "n": np.full(2, step, np.int32)})


def test_the_newest_step_of_t5x_s_manager_is_read(tmp_path):
  options = ocp.CheckpointManagerOptions(step_prefix="checkpoint")
  with ocp.CheckpointManager(tmp_path, options=options) as manager:
    for step in (9, 10):
      item = ocp.args.PyTreeSave(train_state(step))
      manager.save(step, args=ocp.args.Composite(state=item))
  found = formats.load(str(tmp_path))
  assert found.path == epath.Path(tmp_path / "checkpoint_10" / "state")
  assert found.step == 10
  assert_holds(found, PARAMS)


def test_names_of_lists_are_numbers_and_texts_are_no_arrays(tmp_path):
  tree = {"target": {"a": [np.ones(2), np.zeros(3)], "name": "text"}}
  found = formats.load(str(saved(tmp_path / "x", tree)))
  assert found.shapes == {"a/0": (2,), "a/1": (3,)}


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_what_t5x_writes_today_reads_exactly(fixtures, golden):
  path = fixtures / "t5x_head" / "orbax_checkpoint_13"
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    theirs = checkpointer.restore(path / "state")
  prompt = trees.flatten(theirs["target"])[PATH]
  for place in (path, path / "state"):
    found = formats.load(str(place))
    assert found.step == 13 and found.format == "Orbax (OCDBT)"
    assert_holds(found, {**golden("tiny_params"), PATH: np.asarray(prompt)})
  slots = {f"state/param_states/{PATH}/{slot}" for slot in ("m", "v", "v_col", "v_row")}
  assert found.others.keys() == slots
  assert found.leaf(f"state/param_states/{PATH}/v").read().min() > 0


# Before 2023: a msgpack index of placeholders.


@pytest.fixture
def placeholders(tmp_path):
  """A folder in the layout of old: names in `checkpoint`, arrays beside it."""
  folder = tmp_path / "old"
  leaves = {f"_optimizer/target/{name}": array for name, array in PARAMS.items()}
  leaves["_optimizer/state/param_states/a/v"] = MOMENTS
  for name, array in leaves.items():
    store = f"file://{folder}/{name.replace('/', '.')}/"
    spec = {"driver": "zarr", "kvstore": store}
    opened = ts.open(spec, create=True, dtype=array.dtype, shape=array.shape).result()
    opened.write(array).result()
  tree = trees.unflatten({n: f"PLACEHOLDER://{n.replace('/', '.')}" for n in leaves})
  tree["_optimizer"]["state"]["step"] = np.int32(4)  # small ones may be in the index
  tree |= {"flax_mutables": None, "params_axes": {}}
  (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
  return folder


def test_an_index_of_placeholders_reads_exactly(placeholders):
  found = formats.load(str(placeholders))
  assert found.format == "Orbax (one zarr array per variable)"
  assert found.step == 4
  assert_holds(found, PARAMS)
  np.testing.assert_array_equal(found.leaf("state/param_states/a/v").read(), MOMENTS)


def test_a_placeholder_without_its_array_is_refused(placeholders):
  shutil.rmtree(placeholders / "_optimizer.target.encoder.encoder_norm.scale")
  with pytest.raises(checks.InputError, match="target/encoder/encoder_norm/scale"):
    formats.load(str(placeholders))


def test_t5x_s_own_index_is_none_of_placeholders(tmp_path):
  t5x.save(epath.Path(tmp_path), PARAMS, 0)
  assert orbax.find(epath.Path(tmp_path / "checkpoint_0")) is None


# Damage.


def read_all(path):
  found = formats.load(str(path))
  return {name: leaf.read() for name, leaf in (found.leaves | found.others).items()}


@pytest.mark.parametrize(
  "content",
  [b"", b"{", b"[]", b"null", b"{}", b'{"tree_metadata": 3}', b'{"tree_metadata": {}}']
  + [json.dumps({"tree_metadata": {"a": row}}).encode() for row in (1, {}, [])],
)
def test_a_damaged_index_is_refused(tmp_path, content):
  saved(tmp_path / "x", train_state())
  (tmp_path / "x" / "_METADATA").write_bytes(content)
  with pytest.raises(checks.InputError, match="/x cannot be read"):
    read_all(tmp_path / "x")


@pytest.mark.parametrize("lost", ["_METADATA", "manifest.ocdbt", "d", "ocdbt.process_0"])
def test_a_store_that_lost_a_part_is_refused(fixtures, tmp_path, lost):
  source = fixtures / "t5x_head" / "orbax_checkpoint_13" / "state"
  shutil.copytree(
    source, tmp_path / "x", ignore=lambda at, _: [lost] if at == str(source) else []
  )
  assert not (tmp_path / "x" / lost).exists()
  with pytest.raises(checks.InputError, match="/x cannot be read"):
    read_all(tmp_path / "x")


@pytest.mark.parametrize("zarr3", [True, False])
def test_a_lost_chunk_names_its_variable(tmp_path, zarr3):
  saved(tmp_path / "x", train_state(), use_ocdbt=False, use_zarr3=zarr3)
  shutil.rmtree(tmp_path / "x" / "target.encoder.layers_0.mlp.wi.kernel" / "c", True)
  (tmp_path / "x" / "target.encoder.layers_0.mlp.wi.kernel" / "0.0").unlink(True)
  with pytest.raises(checks.InputError, match="layers_0/mlp/wi/kernel"):
    read_all(tmp_path / "x")


def test_an_index_that_names_more_than_the_store_has_is_refused(tmp_path):
  saved(tmp_path / "x", train_state())
  text = (tmp_path / "x" / "_METADATA").read_text()
  (tmp_path / "x" / "_METADATA").write_text(text.replace("token_embedder", "elsewhere"))
  with pytest.raises(checks.InputError, match="target/elsewhere/embedding"):
    read_all(tmp_path / "x")


def test_a_slot_that_cannot_be_read_does_not_stand_in_the_way(tmp_path):
  tree = train_state()
  tree["state"]["param_states"]["odd"] = np.zeros(3, np.complex64)
  saved(tmp_path / "x", tree, use_ocdbt=False)
  found = formats.load(str(tmp_path / "x"))
  assert_holds(found, PARAMS)
  assert "state/param_states/odd" not in found.others
  tree["target"]["odd"] = np.zeros(3, np.complex64)
  saved(tmp_path / "y", tree, use_ocdbt=False)
  with pytest.raises(checks.InputError, match="target/odd"):
    formats.load(str(tmp_path / "y"))
