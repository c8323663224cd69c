"""T5X checkpoints: both generations read, damage refused, written ones read back."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from etils import epath
from flax import serialization

from prompt_tuning import checks, trees
from prompt_tuning.checkpoints import t5x
from prompt_tuning.checkpoints.restore import restore


@pytest.fixture
def written(tmp_path, tiny_t5):
  """A folder with `checkpoint_7` of the tiny model, and its parameters."""
  params = {path: np.asarray(x) for path, x in trees.values(tiny_t5).items()}
  t5x.save(epath.Path(tmp_path), params, 7)
  return tmp_path, params


def test_the_checkpoint_of_2021_reads_exactly(fixtures, golden):
  expected = golden("tiny_params")
  for where in ("", "/checkpoint_3", "/checkpoint_3/checkpoint"):
    found = t5x.load(f"{fixtures}/t5x_tiny{where}")
    assert found.step == 3
    assert found.keys() == expected.keys()
    for path, array in expected.items():
      assert found.shapes[path] == array.shape
      np.testing.assert_array_equal(found[path], array)


def test_a_checkpoint_of_one_file_reads(fixtures):
  found = t5x.load(f"{fixtures}/t5x_inline_checkpoint_0")
  assert found.step == 0
  assert found["encoder/relpos_bias/rel_embedding"].shape == (4, 32)
  assert all(found[path].shape == shape for path, shape in found.shapes.items())


def test_the_checkpoint_of_today_reads_exactly(fixtures, golden):
  found = t5x.load(f"{fixtures}/t5x_head/legacy_checkpoint_9")
  assert found.step == 9
  assert set(found) - set(golden("tiny_params")) == {"encoder/prompt/prompt/prompt"}
  for path, array in golden("tiny_params").items():
    np.testing.assert_array_equal(found[path], array)


def test_what_is_written_reads_back(written):
  folder, params = written
  found = t5x.load(str(folder))
  assert found.step == 7 and found.keys() == params.keys()
  for path, array in params.items():
    np.testing.assert_array_equal(found[path], array)


def test_bfloat16_is_stored_in_half_and_rounds(tmp_path, written):
  _, params = written
  t5x.save(epath.Path(tmp_path / "half"), params, 1, "bfloat16")
  found = t5x.load(str(tmp_path / "half"))
  name = "encoder/layers_0/mlp/wo/kernel"
  metadata = tmp_path / "half" / "checkpoint_1" / f"target.{name.replace('/', '.')}"
  assert json.loads((metadata / ".zarray").read_text())["dtype"] == "bfloat16"
  np.testing.assert_allclose(
    found[name].astype(np.float32), params[name], rtol=2**-8, atol=1e-30
  )


def test_zeros_are_stored_too(tmp_path):
  t5x.save(epath.Path(tmp_path), {"a/b": np.zeros((3, 2), np.float32)}, 0)
  np.testing.assert_array_equal(t5x.load(str(tmp_path))["a/b"], np.zeros((3, 2)))


def test_a_large_array_of_zeros_is_no_bomb(tmp_path):
  zeros = np.zeros((20 << 10, 1 << 10), np.float32)  # 80 MB that become 0.3
  t5x.save(epath.Path(tmp_path), {"a": zeros}, 0)
  assert not t5x.load(str(tmp_path))["a"].any()


def test_the_latest_step_is_read_and_temporary_ones_never(written):
  folder, params = written
  t5x.save(epath.Path(folder), params, 12)
  (folder / "checkpoint_99.tmp-123").mkdir()
  assert t5x.load(str(folder)).step == 12
  assert t5x.saved_steps(epath.Path(folder)) == [7, 12]


def test_a_copied_checkpoint_reads_in_its_new_place(written, tmp_path):
  folder, params = written
  shutil.copytree(folder / "checkpoint_7", tmp_path / "elsewhere")
  shutil.rmtree(folder / "checkpoint_7")
  found = t5x.load(str(tmp_path / "elsewhere"))
  np.testing.assert_array_equal(
    found["token_embedder/embedding"], params["token_embedder/embedding"]
  )


def break_index(folder):
  index = folder / "checkpoint_7" / "checkpoint"
  index.write_bytes(index.read_bytes()[:-40])


def scramble_index(folder):
  (folder / "checkpoint_7" / "checkpoint").write_bytes(b"\x93" * 100)


def lose_index(folder):
  (folder / "checkpoint_7" / "checkpoint").unlink()


def lose_chunk(folder):
  (folder / "checkpoint_7" / "target.token_embedder.embedding" / "0.0").unlink()


def lose_metadata(folder):
  (folder / "checkpoint_7" / "target.token_embedder.embedding" / ".zarray").unlink()


def cut_chunk(folder):
  chunk = folder / "checkpoint_7" / "target.token_embedder.embedding" / "0.0"
  chunk.write_bytes(chunk.read_bytes()[:50])


@pytest.mark.parametrize(
  "damage", [break_index, scramble_index, lose_index, lose_chunk, lose_metadata, cut_chunk]
)
def test_damage_is_refused(written, damage):
  folder, params = written
  damage(folder)
  with pytest.raises(checks.InputError, match="checkpoint"):
    restore(t5x.load(str(folder)), {path: x.shape for path, x in params.items()})


@pytest.mark.parametrize("inside", ["../../etc/passwd", "/etc/passwd", "a/../../b", ""])
def test_an_index_cannot_point_outside(written, inside):
  folder, _ = written
  index = folder / "checkpoint_7" / "checkpoint"
  tree = serialization.msgpack_restore(index.read_bytes())
  tree["optimizer"]["target"]["decoder"]["decoder_norm"]["scale"]["kvstore"]["path"] = (
    inside
  )
  index.write_bytes(serialization.msgpack_serialize(tree))
  with pytest.raises(checks.InputError, match=r"decoder_norm/scale.*outside"):
    t5x.load(str(folder))


def test_version_2_bits_are_bfloat16(tmp_path):
  bits = np.array([0x3F80, 0xC000], np.uint16)
  tree = {"version": 2, "optimizer": {"target": {"a": bits}, "state": {"step": 4}}}
  (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
  found = t5x.load(str(tmp_path))
  assert found.leaves["a"].dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found["a"].astype(np.float32), [1.0, -2.0])


def test_an_array_larger_than_its_index_is_refused_before_it_is_read(written):
  folder, _ = written
  metadata = folder / "checkpoint_7" / "target.token_embedder.embedding" / ".zarray"
  huge = {**json.loads(metadata.read_text()), "shape": [1 << 40, 16]}
  metadata.write_text(json.dumps(huge))
  with pytest.raises(checks.InputError, match="its index says"):
    t5x.load(str(folder))["token_embedder/embedding"]
