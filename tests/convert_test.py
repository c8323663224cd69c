"""Conversion: from every format to every format, and nothing is lost on the way."""

import gzip
import json
import pathlib

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from flax import serialization

from prompt_tuning import checks, convert, formats, inspection, model_configs, trees
from prompt_tuning.checkpoints import prompt_files, safetensors_files, t5x
from prompt_tuning.convert import Options
from prompt_tuning.data import quiet
from prompt_tuning.prompts.bank import PATH

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
RNG = np.random.default_rng(0)
PROMPT = RNG.normal(size=(5, 16)).astype(np.float32)
STORY = {"task": "sst2", "step": 30, "score": 91.5, "metrics": {"accuracy": 91.5}}
MIXED = {
  "encoder/a/kernel": RNG.normal(size=(3, 4)).astype(np.float32),
  "encoder/b/scale": RNG.normal(size=5).astype(BFLOAT16),
  "decoder/c/kernel": RNG.normal(size=(2, 2)).astype(np.float16),
  "decoder/d": np.float32(2.5),
}


@pytest.fixture(scope="module")
def params(tiny_t5):
  return {name: np.asarray(x) for name, x in trees.values(tiny_t5).items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory, params):
  """A folder with `checkpoint_7` of the tiny T5 1.1."""
  folder = tmp_path_factory.mktemp("model")
  t5x.save(epath.Path(folder), params, 7)
  return str(folder)


@pytest.fixture(scope="module")
def prompt(tmp_path_factory):
  """A prompt file with a story."""
  path = str(tmp_path_factory.mktemp("prompt") / "prompt.safetensors")
  prompt_files.save_prompt(path, PROMPT, STORY)
  return path


def contents(path):
  """{name: bytes} of a file or of all files in a folder."""
  path = pathlib.Path(path)
  files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
  return {str(p.relative_to(path)): p.read_bytes() for p in files}


def assert_same(found, expected):
  """Names, dtypes, shapes and values are equal."""
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    array = np.asarray(array)
    assert found[name].dtype == array.dtype and found[name].shape == array.shape
    np.testing.assert_array_equal(found[name], array)


# T5X.


def test_t5x_to_t5x_keeps_names_dtypes_values_and_step(tmp_path):
  t5x.save(epath.Path(tmp_path / "from"), MIXED, 7, None)
  written = convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "t5x")
  assert written == str(tmp_path / "to" / "checkpoint_7")
  found = formats.load(written)
  assert found.step == 7
  assert_same(found, MIXED)


@pytest.mark.parametrize("name", ["t5x_tiny", "t5x_inline_checkpoint_0"])
def test_real_checkpoints_of_2021_come_out_identical(fixtures, tmp_path, name):
  source = formats.load(f"{fixtures}/{name}")
  written = convert.convert(f"{fixtures}/{name}", str(tmp_path / "x"), "t5x")
  found = formats.load(written)
  assert found.step == source.step
  assert found.others.keys() == source.others.keys()
  assert {n: x.shape for n, x in found.others.items()} == {
    n: x.shape for n, x in source.others.items()
  }
  assert_same(found, source)


def test_orbax_to_t5x_keeps_everything(tmp_path):
  tree = {"target": trees.unflatten(MIXED), "state": {"step": np.int32(7)}}
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(tmp_path / "from", tree)
  found = formats.load(convert.convert(str(tmp_path / "from"), str(tmp_path), "t5x"))
  assert found.step == 7 and found.format == "T5X"
  assert_same(found, MIXED)


def test_what_t5x_writes_today_is_the_same_in_both_of_its_formats(fixtures, tmp_path):
  source = f"{fixtures}/t5x_head/orbax_checkpoint_13"
  written = convert.convert(source, str(tmp_path), "t5x")
  assert written.endswith("/checkpoint_13")
  assert_same(formats.load(written), formats.load(source))


def test_mesh_tensorflow_to_t5x_keeps_values_and_step(tmp_path):
  tf = quiet.import_tensorflow()
  table, kernel = MIXED["encoder/a/kernel"], MIXED["encoder/a/kernel"].T
  tf.raw_ops.SaveV2(
    prefix=str(tmp_path / "model.ckpt-7"),
    tensor_names=["shared/embedding", "decoder/logits/kernel", "global_step"],
    shape_and_slices=[""] * 3,
    tensors=[tf.constant(table), tf.constant(kernel), tf.constant(7, tf.int64)],
  )
  found = formats.load(convert.convert(str(tmp_path), str(tmp_path / "x"), "t5x"))
  assert found.step == 7
  expected = {"token_embedder/embedding": table, "decoder/logits_dense/kernel": kernel}
  assert_same(found, expected)


def test_a_scanned_model_is_written_plain(tmp_path):
  stack = RNG.normal(size=(4, 2, 3)).astype(np.float32)
  t5x.save(epath.Path(tmp_path / "from"), {"encoder/encoder/mlp/wo/kernel": stack}, 0)
  found = convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "t5x")
  expected = {f"encoder/layers_{n}/mlp/wo/kernel": stack[:, n] for n in range(2)}
  assert_same(formats.load(found), expected)


# The layout of T5X, against what T5X itself wrote.


@pytest.fixture
def rewritten(fixtures, tmp_path):
  """(T5X's checkpoint, the same written here)."""
  theirs = fixtures / "t5x_head" / "legacy_checkpoint_9"
  return theirs, pathlib.Path(convert.convert(str(theirs), str(tmp_path), "t5x"))


def index_of(folder):
  tree = serialization.msgpack_restore((folder / "checkpoint").read_bytes())
  assert tree.keys() == {"version", "optimizer"} and tree["version"] == 3
  return tree["optimizer"]


def test_the_index_is_t5x_s(rewritten):
  theirs, ours = map(index_of, rewritten)
  assert ours.keys() == theirs.keys()
  assert trees.flatten(ours["target"]) == trees.flatten(theirs["target"])
  step = ours["state"]["step"]
  assert (step, step.dtype, step.shape) == (9, np.int32, ())
  slots = theirs["state"]["param_states"]["encoder"]["prompt"]["prompt"]["prompt"]
  found = ours["state"]["param_states"]["encoder"]["prompt"]["prompt"]["prompt"]
  assert found.keys() == slots.keys()


def test_files_and_metadata_are_t5x_s(rewritten):
  theirs, ours = (
    {n: x for n, x in contents(at).items() if n.startswith("target.")} for at in rewritten
  )
  assert ours.keys() == theirs.keys()
  for name, content in theirs.items():
    if name.endswith(".zarray"):
      assert json.loads(ours[name]) == json.loads(content)
    else:
      assert gzip.decompress(ours[name]) == gzip.decompress(content)


def test_nothing_else_lies_in_the_folder(rewritten):
  theirs, ours = ({p.name for p in at.iterdir()} for at in rewritten)
  assert ours == {name for name in theirs if not name.startswith("state.")}


@pytest.mark.parametrize(
  ("shape", "itemsize", "chunks"),
  [
    ((32128, 512), 4, (32128, 512)),
    ((32128, 1024), 4, (16064, 1024)),
    ((8192, 4096), 4, (4096, 4096)),
    ((8192, 4096), 2, (8192, 4096)),
    ((8192, 8192), 4, (4096, 4096)),
    ((4096, 10240), 4, (4096, 2560)),
    ((), 4, ()),
    ((0, 3), 4, (1, 3)),
  ],
)
def test_chunks_are_t5x_s_up_to_64_mib(shape, itemsize, chunks):
  assert t5x.chunk_shape(shape, itemsize) == chunks


SLOTS = {  # shape: (v_row, v_col, v), from T5X itself
  (256, 128): ((128,), (256,), (1,)),
  (128, 384): ((128,), (384,), (1,)),
  (128, 128): ((128,), (128,), (1,)),
  (127, 300): ((1,), (1,), (127, 300)),
  (300, 127): ((1,), (1,), (300, 127)),
  (300,): ((1,), (1,), (300,)),
}


def test_adafactor_s_slots_have_t5x_s_shapes(tmp_path):
  arrays = {f"p{n}": np.zeros(shape, np.float16) for n, shape in enumerate(SLOTS)}
  t5x.save(epath.Path(tmp_path / "from"), arrays, 3, None)
  convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "t5x")
  state = index_of(tmp_path / "to" / "checkpoint_3")["state"]
  assert state.keys() == {"step", "param_states"}
  assert state["param_states"].keys() == arrays.keys()
  for name, (v_row, v_col, v) in zip(arrays, SLOTS.values(), strict=True):
    slots = state["param_states"][name]
    shapes = {slot: array.shape for slot, array in slots.items()}
    assert shapes == {"v_row": v_row, "v_col": v_col, "v": v, "m": (1,)}
    assert all(x.dtype == np.float32 and not x.any() for x in slots.values())


# Hugging Face.


@pytest.mark.parametrize("tied", [False, True], ids=["T5 1.1", "T5 1.0"])
def test_t5x_to_hugging_face_and_back_is_identical(tmp_path, params, tied):
  kept = dict(params)
  if tied:
    del kept["decoder/logits_dense/kernel"]
    for name in [name for name in kept if "/wi_1/" in name]:
      kept[name.replace("wi_1", "wi")] = kept.pop(name)
      del kept[name.replace("wi_1", "wi_0")]
  t5x.save(epath.Path(tmp_path / "from"), kept, 7)
  there = convert.convert(str(tmp_path / "from"), str(tmp_path / "hf"), "hf")
  assert there == str(tmp_path / "hf")
  assert formats.load(there).format == "Hugging Face"
  assert_same(formats.load(there), kept)
  back = convert.convert(there, str(tmp_path / "to"), "t5x", Options(step=7))
  assert_same(formats.load(back), kept)
  configs = [model_configs.of(formats.load(x)) for x in (tmp_path / "from", there, back)]
  assert configs[0] == configs[1] == configs[2]


def test_hugging_face_to_t5x_and_back_is_the_same_bytes(tmp_path, model):
  one = convert.convert(model, str(tmp_path / "one"), "hf")
  t5x_s = convert.convert(one, str(tmp_path / "t5x"), "t5x")
  other = convert.convert(t5x_s, str(tmp_path / "other"), "hf")
  assert contents(one) == contents(other)


def test_hugging_face_is_written_whole_or_not_at_all(tmp_path, params):
  t5x.save(epath.Path(tmp_path / "from"), {**params, "encoder/more": PROMPT}, 0)
  with pytest.raises(checks.InputError, match=r"\+ encoder/more"):
    convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "hf")
  t5x.save(epath.Path(tmp_path / "from"), params, 1)
  (tmp_path / "from/checkpoint_1/target.encoder.encoder_norm.scale/0").unlink()
  with pytest.raises(checks.InputError, match="encoder/encoder_norm/scale"):
    convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "hf")
  assert [p.name for p in tmp_path.iterdir()] == ["from"]


def test_a_prompt_is_left_out_of_hugging_face_and_that_is_said(tmp_path, params, capsys):
  t5x.save(epath.Path(tmp_path / "from"), {**params, PATH: PROMPT}, 0)
  there = convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "hf")
  assert_same(formats.load(there), params)
  assert "the prompt in" in capsys.readouterr().err


def test_what_is_no_t5_does_not_become_hugging_face(tmp_path):
  t5x.save(epath.Path(tmp_path / "from"), MIXED, 0)
  with pytest.raises(checks.InputError, match="not those of a T5"):
    convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "hf")
  assert not (tmp_path / "to").exists()


# Steps and names.


def test_a_step_may_be_given(tmp_path, model):
  written = convert.convert(model, str(tmp_path), "t5x", Options(step=1_100_000))
  assert written == str(tmp_path / "checkpoint_1100000")
  assert formats.load(written).step == 1_100_000


def test_a_target_called_checkpoint_n_is_that_step(tmp_path, model):
  written = convert.convert(model, str(tmp_path / "checkpoint_12"), "t5x")
  assert written == str(tmp_path / "checkpoint_12")
  assert [p.name for p in tmp_path.iterdir()] == ["checkpoint_12"]
  assert formats.load(written).step == formats.load(str(tmp_path)).step == 12


def test_steps_gather_in_one_folder(tmp_path, model):
  for step in (3, 2):
    convert.convert(model, str(tmp_path), "t5x", Options(step=step))
  assert t5x.saved_steps(epath.Path(tmp_path)) == [2, 3]


# Prompts.


@pytest.mark.parametrize("to", ["safetensors", "peft"])
def test_a_prompt_and_its_story_survive(tmp_path, prompt, to):
  there = convert.convert(prompt, str(tmp_path / f"x.{to}"), to)
  assert there == str(tmp_path / f"x.{to}")
  back = convert.convert(there, str(tmp_path / "back.safetensors"), "safetensors")
  for path in (there, back):
    found = formats.read_prompt(path)
    np.testing.assert_array_equal(found.prompt, PROMPT)
    assert found.metadata.items() >= {**STORY, "prompt_length": 5, "d_model": 16}.items()


def test_a_prompt_survives_as_numpy(tmp_path, prompt):
  there = convert.convert(prompt, str(tmp_path / "x.npy"), "npy")
  np.testing.assert_array_equal(np.load(there, allow_pickle=False), PROMPT)
  back = convert.convert(there, str(tmp_path / "x.safetensors"), "safetensors")
  np.testing.assert_array_equal(formats.load_prompt(back), PROMPT)


def test_an_adapter_knows_its_base(tmp_path, prompt):
  base = "google/t5-v1_1-base"
  there = convert.convert(prompt, str(tmp_path / "x"), "peft", Options(base=base))
  config = json.loads((tmp_path / "x" / "adapter_config.json").read_text())
  assert config["base_model_name_or_path"] == base
  assert formats.read_prompt(there).metadata["base_model"] == base
  again = convert.convert(there, str(tmp_path / "again"), "peft")
  assert formats.read_prompt(again).metadata["base_model"] == base


@pytest.mark.parametrize("to", ["npy", "safetensors", "peft"])
def test_a_prompt_inside_a_model_comes_out(tmp_path, params, to):
  t5x.save(epath.Path(tmp_path / "from"), {**params, PATH: PROMPT}, 7)
  there = convert.convert(str(tmp_path / "from"), str(tmp_path / f"x.{to}"), to)
  found = formats.read_prompt(there)
  np.testing.assert_array_equal(found.prompt, PROMPT)
  assert to == "npy" or found.metadata["step"] == 7


def test_the_original_s_prompts_convert(fixtures, tmp_path):
  source = f"{fixtures}/t5x_head"
  there = convert.convert(source, str(tmp_path / "x.safetensors"), "safetensors")
  inside = formats.load_prompt(f"{fixtures}/t5x_head/legacy_checkpoint_9")
  np.testing.assert_array_equal(formats.load_prompt(there), inside)


def test_a_bank_of_several_becomes_no_adapter(tmp_path):
  source = str(tmp_path / "bank.npy")
  prompt_files.save_prompt(source, np.stack([PROMPT, PROMPT]))
  with pytest.raises(checks.InputError, match="a bank of 2 prompts"):
    convert.convert(source, str(tmp_path / "x"), "peft")
  there = convert.convert(source, str(tmp_path / "x.safetensors"), "safetensors")
  assert formats.load_prompt(there).shape == (2, 5, 16)


def test_a_prompt_into_its_model_is_what_the_original_keeps(
  tmp_path, prompt, params, model
):
  there = convert.convert(prompt, str(tmp_path), "t5x", Options(base=model))
  found = formats.load(there)
  assert found.step == 7
  assert_same(found, {**params, PATH: PROMPT})
  again = convert.convert(there, str(tmp_path / "x.safetensors"), "safetensors")
  np.testing.assert_array_equal(formats.load_prompt(again), PROMPT)
  slots = index_of(pathlib.Path(there))["state"]["param_states"]
  assert slots["encoder"]["prompt"]["prompt"]["prompt"]["v"].shape == (5, 16)


def test_a_prompt_of_another_width_is_refused(tmp_path, model):
  source = str(tmp_path / "x.npy")
  prompt_files.save_prompt(source, PROMPT[:, :8])
  with pytest.raises(checks.InputError, match=r"has shape \[5, 8\], expected \[5, 16\]"):
    convert.convert(source, str(tmp_path / "to"), "t5x", Options(base=model))
  assert not (tmp_path / "to").exists()


def test_a_prompt_of_another_model_is_refused(tmp_path, model):
  digits = inspection.fingerprint(formats.load(model))
  source = str(tmp_path / "x.safetensors")
  prompt_files.save_prompt(source, PROMPT, {"base_fingerprint": "0123456789abcdef"})
  with pytest.raises(checks.InputError, match=f"0123456789abcdef.*{digits}"):
    convert.convert(source, str(tmp_path / "to"), "t5x", Options(base=model))
  prompt_files.save_prompt(source, PROMPT, {"base_fingerprint": digits})
  convert.convert(source, str(tmp_path / "to"), "t5x", Options(base=model))


@pytest.mark.parametrize(("to", "base"), [("t5x", None), ("hf", None), ("hf", "here")])
def test_a_prompt_without_its_model_becomes_no_model(tmp_path, prompt, model, to, base):
  options = Options(base=model if base else None)
  with pytest.raises(checks.InputError, match=r"--to t5x --base CHECKPOINT"):
    convert.convert(prompt, str(tmp_path / "to"), to, options)
  assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("to", ["npy", "safetensors", "peft"])
def test_a_model_without_a_prompt_becomes_no_prompt(tmp_path, model, to):
  with pytest.raises(checks.InputError, match="a model without a prompt"):
    convert.convert(model, str(tmp_path / f"x.{to}"), to)


# Dtypes.


@pytest.mark.parametrize("dtype", convert.DTYPES)
@pytest.mark.parametrize("to", convert.MODELS)
def test_a_model_is_stored_in_the_dtype_that_is_asked_for(
  tmp_path, params, model, to, dtype
):
  there = convert.convert(model, str(tmp_path / "x"), to, Options(dtype=dtype))
  expected = {name: x.astype(np.dtype(dtype)) for name, x in params.items()}
  assert_same(formats.load(there), expected)
  if to == "t5x":
    specs = trees.flatten(index_of(pathlib.Path(there))["target"])
    assert {x for name, x in specs.items() if name.endswith("/dtype")} <= {dtype}
  else:
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["torch_dtype"] == dtype


@pytest.mark.parametrize(
  ("to", "dtype"),
  [("safetensors", "bfloat16"), ("safetensors", "float16"), ("npy", "float16")],
)
def test_a_prompt_is_stored_in_the_dtype_that_is_asked_for(tmp_path, prompt, to, dtype):
  there = tmp_path / f"x.{to}"
  convert.convert(prompt, str(there), to, Options(dtype=dtype))
  stored = (
    np.load(there)
    if to == "npy"
    else safetensors_files.read(epath.Path(there)).leaves["prompt"].read()
  )
  assert stored.dtype == np.dtype(dtype)
  np.testing.assert_array_equal(stored, PROMPT.astype(np.dtype(dtype)))


def test_numpy_has_no_bfloat16(tmp_path, prompt):
  with pytest.raises(checks.InputError, match="numpy files have no bfloat16"):
    convert.convert(prompt, str(tmp_path / "x.npy"), "npy", Options(dtype="bfloat16"))
  assert list(tmp_path.iterdir()) == []


# What is refused.


@pytest.mark.parametrize("to", convert.FORMATS)
def test_nothing_is_overwritten(tmp_path, model, prompt, to):
  source = model if to in convert.MODELS else prompt
  target = str(tmp_path / f"x.{to}")
  written = convert.convert(source, target, to)
  before = contents(tmp_path)
  with pytest.raises(checks.InputError, match=f"{written} exists"):
    convert.convert(source, target, to)
  assert contents(tmp_path) == before


@pytest.mark.parametrize("to", ["npy", "safetensors"])
def test_the_name_of_a_prompt_says_its_format(tmp_path, prompt, to):
  with pytest.raises(checks.InputError, match=rf"ends in \.{to}"):
    convert.convert(prompt, str(tmp_path / "x"), to)
  assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_or_dtype_names_the_nearest(tmp_path, model):
  with pytest.raises(checks.InputError, match="'t5'; the nearest known: t5x"):
    convert.convert(model, str(tmp_path / "x"), "t5")
  with pytest.raises(checks.InputError, match="'float23'; the nearest known: float32"):
    convert.convert(model, str(tmp_path / "x"), "hf", Options(dtype="float23"))


@pytest.mark.parametrize("to", convert.FORMATS)
def test_a_source_that_is_not_there_is_refused(tmp_path, to):
  with pytest.raises(checks.InputError, match=r"at .*/none \(found nothing\)"):
    convert.convert(str(tmp_path / "none"), str(tmp_path / f"x.{to}"), to)
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_source_leaves_no_step_behind(tmp_path, params):
  t5x.save(epath.Path(tmp_path / "from"), params, 1)
  (tmp_path / "from/checkpoint_1/target.encoder.encoder_norm.scale/0").unlink()
  with pytest.raises(checks.InputError, match="encoder/encoder_norm/scale"):
    convert.convert(str(tmp_path / "from"), str(tmp_path / "to"), "t5x")
  assert t5x.saved_steps(epath.Path(tmp_path / "to")) == []


@pytest.mark.parametrize("to", ["npy", "safetensors", "peft"])
def test_a_prompt_beyond_float16_is_refused(tmp_path, to):
  large = np.full((2, 4), 1e6, np.float32)
  prompt_files.save_prompt(str(tmp_path / "large.safetensors"), large)
  target = tmp_path / f"out.{to}"
  with pytest.raises(checks.InputError, match="beyond float16"):
    convert.convert(
      str(tmp_path / "large.safetensors"), str(target), to, Options(dtype="float16")
    )
  assert not target.exists()


def test_a_model_beyond_float16_is_refused_even_beside_infinities(tmp_path):
  t5x.save(epath.Path(tmp_path), {"a": np.array([np.inf, 1e6], np.float32)}, 1)
  with pytest.raises(checks.InputError, match="beyond float16"):
    convert.convert(str(tmp_path), str(tmp_path / "out"), "t5x", Options(dtype="float16"))
  assert list((tmp_path / "out").iterdir()) == []


def test_a_step_that_t5x_cannot_hold_is_refused(tmp_path, model):
  target = str(tmp_path / "checkpoint_99999999999")
  with pytest.raises(checks.InputError, match="the step is 99999999999"):
    convert.convert(str(model), target, "t5x")


def test_a_base_is_refused_where_there_is_no_place_for_it(tmp_path, prompt):
  with pytest.raises(checks.InputError, match="--base is x"):
    convert.convert(str(prompt), str(tmp_path / "p.npy"), "npy", Options(base="x"))
