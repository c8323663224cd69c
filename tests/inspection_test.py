"""Inspection: what is there, where two differ, and one variable taken out."""

import math
import re

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from flax import serialization

from prompt_tuning import assembly, checks, convert, formats, inspection, trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.prompts.bank import PATH

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NAN, INF = float("nan"), float("inf")
MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)
PROMPT = np.full((5, 16), 2, np.float32)


@pytest.fixture
def saved(tmp_path):
  """Writes arrays as a T5X checkpoint and returns its path."""

  def save(name, arrays, step=0):
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    return str(t5x.save(epath.Path(tmp_path / name), arrays, step, None))

  return save


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_t5):
  """{format: path} of one T5."""
  folder = tmp_path_factory.mktemp("models")
  params = {name: np.asarray(x) for name, x in trees.values(tiny_t5).items()}
  found = {"t5x": str(t5x.save(epath.Path(folder / "t5x"), params, 7))}
  tree = {"target": trees.unflatten(params)}
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(folder / "orbax", tree)
  index = serialization.msgpack_serialize({"version": 3, "optimizer": tree})
  (folder / "one_file").write_bytes(index)
  found |= {name: str(folder / name) for name in ("orbax", "one_file")}
  for dtype in ("float32", "bfloat16"):
    for to in convert.MODELS:
      target = str(folder / f"{to}_{dtype}")
      options = convert.Options(dtype=dtype)
      found[f"{to}_{dtype}"] = convert.convert(found["t5x"], target, to, options)
  t5x.save(epath.Path(folder / "with_prompt"), {**params, PATH: PROMPT}, 7)
  return {**found, "with_prompt": str(folder / "with_prompt")}


def rows_of(text):
  """{what: value} above the table."""
  lines = text.split("\n\n")[0].splitlines()
  return dict(re.fullmatch(r"(beside them|\S+) +(.*)", line).groups() for line in lines)


# What is there.


def test_a_model_is_described(models, tiny_config):
  text = inspection.inspect(models["t5x"])
  found = formats.load(models["t5x"])
  count = sum(math.prod(shape) for shape in found.shapes.values())
  assert rows_of(text) == {
    "format": "T5X",
    "path": models["t5x"],
    "step": "7",
    "model": "T5 1.1, 2+2 layers, d_model 16, 2 heads of 8, d_ff 32, vocabulary 64",
    "parameters": f"{count:,} in {len(found)} arrays, {4 * count / 1000:.1f} KB",
    "fingerprint": inspection.fingerprint(found),
  }


def test_every_parameter_has_a_line_in_order_of_names(models):
  for name in ("t5x", "hf_bfloat16"):
    found = formats.load(models[name])
    lines = inspection.inspect(models[name]).split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == sorted(found)
    for line in lines:
      path, dtype, shape = line.split(maxsplit=2)
      assert dtype == found.leaves[path].dtype.name
      assert shape.startswith(str(list(found.shapes[path])))


def test_sizes_are_in_decimal_units(saved):
  sizes = {"a": 999, "b": 1000, "c": 1_234_567}
  path = saved("x", {name: np.zeros(n, np.int8) for name, n in sizes.items()})
  lines = inspection.inspect(path).split("\n\n")[1].splitlines()
  assert [line.split("]")[1].strip() for line in lines] == ["999 B", "1.0 KB", "1.2 MB"]


def test_what_lies_beside_the_parameters_is_counted(saved):
  source = saved("x", {"a": MATRIX, "b": MATRIX})
  written = convert.convert(source, f"{source}_again", "t5x")
  text = inspection.inspect(written)
  assert rows_of(text)["beside them"] == "8 arrays of the optimizer, never read"
  assert "param_states" not in text
  assert "beside them" not in rows_of(inspection.inspect(source))


def test_what_is_no_t5_is_described_as_such(saved):
  rows = rows_of(inspection.inspect(saved("x", {"a": MATRIX}, 3)))
  assert rows["model"] == "not an encoder-decoder T5"
  assert rows["step"] == "3" and rows["parameters"] == "12 in 1 arrays, 48 B"


def test_t5_1_0_is_told_from_1_1(fixtures, tmp_path, saved):
  found = dict(formats.load(f"{fixtures}/t5x_tiny"))
  del found["decoder/logits_dense/kernel"]
  for name in [name for name in found if "/wi_1/" in name]:
    found[name.replace("wi_1", "wi")] = found.pop(name)
    del found[name.replace("wi_1", "wi_0")]
  assert rows_of(inspection.inspect(saved("x", found)))["model"].startswith("T5 1.0, ")


def test_a_prompt_is_described_with_its_story(tmp_path):
  path = str(tmp_path / "x.safetensors")
  prompt_files.save_prompt(path, PROMPT, {"task": "sst2", "step": 30})
  text = inspection.inspect(path)
  assert rows_of(text) == {
    "format": "prompt (safetensors)",
    "path": path,
    "rms": "2",
    "task": "sst2",
    "step": "30",
    "prompt_length": "5",
    "d_model": "16",
  }
  assert text.splitlines()[-1].split() == ["prompt", "float32", "[5,", "16]", "320", "B"]


# Fingerprints.


def test_the_fingerprint_is_that_of_the_model_in_every_format(models, tiny_config):
  found = {name: inspection.fingerprint(formats.load(x)) for name, x in models.items()}
  base = assembly.load_base(tiny_config, RestoreCheckpointConfig(path=models["t5x"]))
  assert set(found.values()) == {base.fingerprint}


@pytest.mark.parametrize("name", ["orbax", "hf_float32", "hf_bfloat16", "with_prompt"])
def test_a_base_of_any_format_has_the_fingerprint_that_is_shown(models, tiny_config, name):
  base = assembly.load_base(tiny_config, RestoreCheckpointConfig(path=models[name]))
  assert rows_of(inspection.inspect(models[name]))["fingerprint"] == base.fingerprint


def test_real_checkpoints_have_the_fingerprint_of_their_model(fixtures):
  names = ("t5x_tiny", "t5x_head/legacy_checkpoint_9", "t5x_head/orbax_checkpoint_13")
  found = {inspection.fingerprint(formats.load(f"{fixtures}/{name}")) for name in names}
  assert len(found) == 1


def test_other_weights_have_another_fingerprint(models, saved):
  params = dict(formats.load(models["t5x"]))
  name = "encoder/encoder_norm/scale"
  other = saved("x", {**params, name: params[name] * 1.01})
  digits = {inspection.fingerprint(formats.load(x)) for x in (models["t5x"], other)}
  assert len(digits) == 2


# Where two differ.


def test_equal_checkpoints_have_no_differences(models):
  for name in ("t5x", "orbax", "one_file", "hf_float32"):
    assert inspection.diff(models["t5x"], models[name]) == []


def test_names_on_one_side_only_are_listed_on_their_side(saved):
  first = saved("x", {"a": MATRIX, "both": MATRIX, "z": MATRIX})
  second = saved("y", {"b": MATRIX, "both": MATRIX})
  assert inspection.diff(first, second) == ["- a", "+ b", "- z"]
  assert inspection.diff(second, first) == ["+ a", "- b", "+ z"]


@pytest.mark.parametrize(
  ("one", "other", "line"),
  [
    ([1, 2, 3], [1, 2.5, 2.75], "~ a: largest absolute difference 0.5"),
    ([1, NAN], [1, 3], "~ a: largest absolute difference inf"),
    ([1, 3], [1, NAN], "~ a: largest absolute difference inf"),
    ([NAN, 1], [NAN, 1], None),
    ([NAN, 1], [NAN, 3], "~ a: largest absolute difference 2"),
    ([0.0], [-0.0], None),
    ([], [], None),
    (1.5, 1.25, "~ a: largest absolute difference 0.25"),
    (1.5, 1.5, None),
    (1.5, [1.5], "~ a: [] and [1]"),
    ([[1, 2]], [1, 2], "~ a: [1, 2] and [2]"),
    ([[1], [2]], [[1, 2]], "~ a: [2, 1] and [1, 2]"),
  ],
)
def test_a_difference_is_told_in_one_line(saved, one, other, line):
  first = saved("x", {"a": np.float32(one), "b": MATRIX})
  second = saved("y", {"a": np.float32(other), "b": MATRIX})
  assert inspection.diff(first, second) == ([] if line is None else [line])


def test_another_dtype_is_a_difference_of_its_own(saved):
  first = saved("x", {"a": MATRIX})
  assert inspection.diff(first, saved("y", {"a": MATRIX.astype(BFLOAT16)})) == [
    "~ a: float32 and bfloat16"
  ]
  half = (MATRIX + 0.5).astype(np.float16)
  assert inspection.diff(first, saved("z", {"a": half})) == [
    "~ a: float32 and float16, largest absolute difference 0.5"
  ]


def test_the_largest_difference_is_found_wherever_it_is(saved):
  first = saved("x", {"a": MATRIX})
  for place in np.ndindex(MATRIX.shape):
    other = MATRIX.copy()
    other[1] += 1
    other[place] -= 4
    second = saved(f"y{place}", {"a": other})
    most = 3 if place[0] == 1 else 4
    assert inspection.diff(first, second) == [f"~ a: largest absolute difference {most}"]


@pytest.mark.parametrize("place", [0, (1 << 24) - 1, 1 << 24, (1 << 24) + 2])
def test_a_difference_is_found_in_every_block(place):
  one = np.zeros((1 << 24) + 3, np.float16)
  other = one.copy()
  other[place] = 0.5
  assert inspection._largest(one, other) == 0.5
  assert inspection._largest(one, one) == 0


def test_prompts_are_compared_too(tmp_path):
  for name, array in {
    "a.npy": PROMPT,
    "b.safetensors": PROMPT,
    "c.npy": PROMPT + 1,
  }.items():
    prompt_files.save_prompt(str(tmp_path / name), array, {"task": name})
  one, same, other = (str(tmp_path / x) for x in ("a.npy", "b.safetensors", "c.npy"))
  assert inspection.diff(one, same) == []
  assert inspection.diff(one, other) == ["~ prompt: largest absolute difference 1"]


def test_a_prompt_inside_is_a_name_that_the_other_lacks(models):
  assert inspection.diff(models["t5x"], models["with_prompt"]) == [f"+ {PATH}"]


def test_steps_and_optimizers_are_no_differences(saved):
  source = saved("x", {"a": MATRIX}, 1)
  other = convert.convert(source, f"{source}_again", "t5x", convert.Options(step=2))
  assert inspection.diff(source, other) == []


# One variable.


@pytest.mark.parametrize("prefix", ["", "target/"])
def test_a_variable_is_written_as_numpy(saved, tmp_path, prefix):
  path = saved("x", {"a/kernel": MATRIX, "b": MATRIX + 1})
  target = str(tmp_path / "new" / "x.npy")
  assert inspection.extract(path, f"{prefix}a/kernel", target) == (3, 4)
  found = np.load(target, allow_pickle=False)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, MATRIX)


def test_a_variable_of_the_optimizer_is_written_too(fixtures, tmp_path):
  name = f"state/param_states/{PATH}/v"
  path = f"{fixtures}/t5x_head/legacy_checkpoint_9"
  assert inspection.extract(path, name, str(tmp_path / "x.npy")) == (100, 4)
  found = np.load(tmp_path / "x.npy")
  np.testing.assert_array_equal(found, formats.load(path).leaf(name).read())


def test_the_embedding_table_is_the_one_that_was_published(fixtures, tmp_path):
  target = str(tmp_path / "x.npy")
  inspection.extract(f"{fixtures}/t5x_tiny", "token_embedder/embedding", target)
  expected = np.load(fixtures / "tiny_embeddings_32128x4.npy")
  np.testing.assert_array_equal(np.load(target), expected)


def test_bfloat16_becomes_float32_and_others_stay(saved, tmp_path):
  arrays = {"half": MATRIX.astype(BFLOAT16), "f16": MATRIX.astype(np.float16)}
  path = saved("x", {**arrays, "int": MATRIX.astype(np.int32)})
  for name, dtype in {"half": np.float32, "f16": np.float16, "int": np.int32}.items():
    inspection.extract(path, name, str(tmp_path / f"{name}.npy"))
    found = np.load(tmp_path / f"{name}.npy", allow_pickle=False)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, MATRIX)


def test_an_unknown_variable_names_the_nearest(models, tmp_path):
  name = "encoder/layers_0/attention/querry/kernel"
  with pytest.raises(checks.InputError) as error:
    inspection.extract(models["t5x"], name, str(tmp_path / "x.npy"))
  nearest = str(error.value).partition("the nearest known: ")[2].split(", ")
  assert nearest[0] == "encoder/layers_0/attention/query/kernel"
  assert repr(name) in str(error.value) and list(tmp_path.iterdir()) == []


def test_an_existing_file_stays(saved, tmp_path):
  (tmp_path / "x.npy").write_bytes(b"kept")
  with pytest.raises(checks.InputError, match=r"x\.npy exists"):
    inspection.extract(saved("x", {"a": MATRIX}), "a", str(tmp_path / "x.npy"))
  assert (tmp_path / "x.npy").read_bytes() == b"kept"


def test_a_prompt_has_no_variables(tmp_path):
  prompt_files.save_prompt(str(tmp_path / "x.npy"), PROMPT)
  with pytest.raises(checks.InputError, match="found a prompt"):
    inspection.extract(str(tmp_path / "x.npy"), "prompt", str(tmp_path / "y.npy"))
