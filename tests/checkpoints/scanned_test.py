"""Scanned layouts: stacks become layers, values and names as in the plain layout."""

import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import scanned, t5x
from prompt_tuning.checkpoints.leaves import Inline

PATH = epath.Path("some/checkpoint")
EMBED, LAYERS, JOINED, HEADS, BUCKETS = 4, 3, 6, 2, 5
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(EMBED, LAYERS, JOINED)).astype(np.float32)
SCALE = RNG.normal(size=(EMBED, LAYERS)).astype(np.float32)
TABLE = RNG.normal(size=(HEADS, BUCKETS)).astype(np.float32)
SAME = np.repeat(TABLE[:, None], LAYERS, axis=1)
DIFFERENT = RNG.normal(size=(HEADS, LAYERS, BUCKETS)).astype(np.float32)


def unstacked(arrays):
  found = scanned.unstacked({name: Inline(x) for name, x in arrays.items()}, PATH)
  return {name: leaf.read() for name, leaf in found.items()}


@pytest.mark.parametrize("tower", ["encoder", "decoder"])
def test_a_stack_becomes_one_parameter_per_layer(tower):
  found = unstacked(
    {
      f"{tower}/{tower}/mlp/wo/kernel": KERNEL,
      f"{tower}/{tower}/pre_mlp_layer_norm/scale": SCALE,
    }
  )
  assert len(found) == 2 * LAYERS
  for n in range(LAYERS):
    here = f"{tower}/layers_{n}"
    np.testing.assert_array_equal(found[f"{here}/mlp/wo/kernel"], KERNEL[:, n])
    np.testing.assert_array_equal(found[f"{here}/pre_mlp_layer_norm/scale"], SCALE[:, n])


def test_equal_position_tables_become_the_shared_one():
  found = unstacked({"encoder/encoder/relpos_bias/rel_embedding": SAME})
  assert found.keys() == {"encoder/relpos_bias/rel_embedding"}
  np.testing.assert_array_equal(found["encoder/relpos_bias/rel_embedding"], TABLE)


def test_different_position_tables_stay_per_layer():
  found = unstacked({"decoder/decoder/relpos_bias/rel_embedding": DIFFERENT})
  assert found.keys() == {
    f"decoder/layers_{n}/relpos_bias/rel_embedding" for n in range(LAYERS)
  }
  for n in range(LAYERS):
    np.testing.assert_array_equal(
      found[f"decoder/layers_{n}/relpos_bias/rel_embedding"], DIFFERENT[:, n]
    )


def test_one_table_that_differs_in_the_last_layer_only_is_a_difference():
  almost = SAME.copy()
  almost[0, -1, 0] += 1
  found = unstacked({"encoder/encoder/relpos_bias/rel_embedding": almost})
  assert len(found) == LAYERS


def test_what_is_not_scanned_stays_as_it_is():
  plain = {
    "token_embedder/embedding": TABLE,
    "encoder/encoder_norm/scale": SCALE[:, 0],
    "encoder/layers_0/mlp/wo/kernel": KERNEL[:, 0],
    "encoder/prompt/prompt/prompt": TABLE,
  }
  found = unstacked(plain)
  assert found.keys() == plain.keys()
  assert all(found[name] is array for name, array in plain.items())


def test_towers_of_different_depth_are_fine():
  found = unstacked(
    {
      "encoder/encoder/mlp/wo/kernel": KERNEL,
      "decoder/decoder/mlp/wo/kernel": KERNEL[:, :1],
    }
  )
  assert len(found) == LAYERS + 1


@pytest.mark.parametrize("other", [KERNEL[:, :2], SCALE[:, 0], np.zeros((4, 0, 6))])
def test_stacks_of_different_depth_are_refused(other):
  arrays = {"encoder/encoder/a/kernel": KERNEL, "encoder/encoder/b/kernel": other}
  with pytest.raises(checks.InputError, match=r"some/checkpoint.*encoder/b/kernel stacks"):
    unstacked(arrays)


def test_a_scanned_checkpoint_reads_as_the_plain_one(tmp_path, tiny_config, tiny_t5):
  from prompt_tuning import trees

  plain = {name: np.asarray(x) for name, x in trees.values(tiny_t5).items()}
  stacked = {}
  for name, array in plain.items():
    tower, *rest = name.split("/")
    if "layers_0" in rest:
      each = [plain[name.replace("layers_0", f"layers_{n}")] for n in range(2)]
      stacked[f"{tower}/{tower}/{'/'.join(rest[1:])}"] = np.stack(each, axis=1)
    elif "relpos_bias" in rest:
      stacked[f"{tower}/{tower}/{'/'.join(rest)}"] = np.stack([array] * 2, axis=1)
    elif not any(part.startswith("layers_") for part in rest):
      stacked[name] = array
  assert len(stacked) < len(plain)
  t5x.save(epath.Path(tmp_path), stacked, 5)
  found = t5x.load(str(tmp_path))
  assert found.keys() == plain.keys()
  for name, array in plain.items():
    np.testing.assert_array_equal(found[name], array)


def test_position_tables_are_shared_by_both_towers_or_by_none():
  found = unstacked(
    {
      "encoder/encoder/relpos_bias/rel_embedding": np.arange(6.0).reshape(1, 3, 2),
      "decoder/decoder/relpos_bias/rel_embedding": np.ones((1, 1, 2)),
    }
  )
  assert "decoder/layers_0/relpos_bias/rel_embedding" in found
  assert "decoder/relpos_bias/rel_embedding" not in found
