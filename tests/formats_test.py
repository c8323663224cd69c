"""Formats: known by what is there whatever it is called, named when it does not fit."""

import json
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from etils import epath
from flax import serialization

from prompt_tuning import checks, convert, formats, trees
from prompt_tuning.checkpoints import prompt_files, safetensors_files, t5x
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.data import quiet
from prompt_tuning.prompts.bank import PATH

PROMPT = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
MODELS = {
  "t5x": "T5X",
  "t5x/checkpoint_7": "T5X",
  "t5x/checkpoint_7/checkpoint": "T5X",
  "t5x_one_file": "T5X",
  "state_inside": "T5X",
  "orbax": "Orbax (OCDBT)",
  "orbax_steps": "Orbax (OCDBT)",
  "hf": "Hugging Face",
  "hf/model.safetensors": "Hugging Face",
  "mtf": "Mesh TensorFlow",
  "mtf/model.ckpt-7": "Mesh TensorFlow",
  "mtf/model.ckpt-7.index": "Mesh TensorFlow",
}
PROMPTS = {
  "best.safetensors": "safetensors",
  "plain.npy": "numpy",
  "numpy_called.safetensors": "numpy",
  "safetensors_called.npy": "safetensors",
  "called_anything": "safetensors",
  "run": "safetensors",
  "original": "numpy",
  "original/numpy_checkpoints": "numpy",
  "original/numpy_checkpoints/checkpoint_10": "numpy",
  "original/numpy_checkpoints/checkpoint_10/encoder.prompt.prompt.prompt": "numpy",
  "adapter": "PEFT adapter",
  "adapter/adapter_model.safetensors": "PEFT adapter",
  "with_prompt": "T5X",
  "with_prompt/checkpoint_7": "T5X",
}


@pytest.fixture(scope="module")
def params(tiny_t5):
  return {name: np.asarray(x) for name, x in trees.values(tiny_t5).items()}


def save_orbax(path, params):
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(
      path, {"target": trees.unflatten(params), "state": {"step": np.int32(7)}}
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory, params):
  """A folder with the same model in every format."""
  tf = quiet.import_tensorflow()
  folder = tmp_path_factory.mktemp("models")
  t5x.save(epath.Path(folder / "t5x"), params, 7)
  t5x.save(epath.Path(folder / "t5x"), params, 6)
  tree = {"target": trees.unflatten(params), "state": {"step": np.int32(7)}}
  index = serialization.msgpack_serialize({"version": 3, "optimizer": tree})
  (folder / "t5x_one_file").write_bytes(index)
  (folder / "state_inside" / "state").mkdir(parents=True)
  (folder / "state_inside" / "state" / "checkpoint").write_bytes(index)
  save_orbax(folder / "orbax", params)
  save_orbax(folder / "orbax_steps" / "checkpoint_7" / "state", params)
  save_orbax(folder / "orbax_steps" / "checkpoint_6" / "state", {"a": np.zeros(2)})
  convert.convert(str(folder / "t5x"), str(folder / "hf"), "hf")
  (folder / "mtf").mkdir()
  variables = {"shared/embedding": params["token_embedder/embedding"]}
  variables["global_step"] = np.int64(7)
  tf.raw_ops.SaveV2(
    prefix=str(folder / "mtf" / "model.ckpt-7"),
    tensor_names=list(variables),
    shape_and_slices=[""] * 2,
    tensors=[tf.constant(array) for array in variables.values()],
  )
  (folder / "mtf" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
  return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory, params):
  """A folder with the same prompt in every format."""
  folder = tmp_path_factory.mktemp("prompts")
  prompt_files.save_prompt(str(folder / "best.safetensors"), PROMPT, {"task": "x"})
  prompt_files.save_prompt(str(folder / "plain.npy"), PROMPT)
  shutil.copy(folder / "plain.npy", folder / "numpy_called.safetensors")
  shutil.copy(folder / "best.safetensors", folder / "safetensors_called.npy")
  safetensors.numpy.save_file({"other name": PROMPT}, folder / "called_anything")
  for model_dir, steps in {"run": (3, 30), "original": (9, 10)}.items():
    for step in steps:
      array = PROMPT if step == 10 else PROMPT + step
      prompt_files.save_step(epath.Path(folder / model_dir), step, PATH, array)
  shutil.copy(folder / "best.safetensors", folder / "run" / "prompt.safetensors")
  convert.convert(str(folder / "plain.npy"), str(folder / "adapter"), "peft")
  t5x.save(epath.Path(folder / "with_prompt"), {**params, PATH: PROMPT}, 7)
  return folder


@pytest.mark.parametrize("name", MODELS)
def test_every_format_of_a_model_is_known_by_its_content(models, params, name):
  for opened in (formats.load(str(models / name)), formats.open_any(str(models / name))):
    assert type(opened) is Checkpoint
    assert opened.format == MODELS[name]
    assert opened.step == (0 if name.startswith("hf") else 7)
    found = opened["token_embedder/embedding"]
    np.testing.assert_array_equal(found, params["token_embedder/embedding"])
    if not name.startswith("mtf"):
      assert opened.keys() == params.keys()


@pytest.mark.parametrize("name", PROMPTS)
def test_every_format_of_a_prompt_is_known_by_its_content(prompts, name):
  found = formats.read_prompt(str(prompts / name))
  assert found.format == PROMPTS[name]
  assert found.prompt.dtype == np.float32
  np.testing.assert_array_equal(found.prompt, PROMPT)
  np.testing.assert_array_equal(formats.load_prompt(str(prompts / name)), PROMPT)


@pytest.mark.parametrize("name", [n for n, kind in PROMPTS.items() if kind != "T5X"])
def test_a_prompt_alone_is_opened_as_a_prompt(prompts, name):
  found = formats.open_any(str(prompts / name))
  assert type(found) is prompt_files.PromptFile
  np.testing.assert_array_equal(found.prompt, PROMPT)


def test_a_model_with_a_prompt_inside_is_opened_as_a_model(prompts):
  found = formats.open_any(str(prompts / "with_prompt"))
  assert type(found) is Checkpoint and PATH in found


def test_a_prompt_inside_knows_the_step_of_its_model(prompts):
  assert formats.read_prompt(str(prompts / "with_prompt")).metadata == {"step": 7}


def test_the_best_prompt_of_a_run_comes_before_its_last(prompts):
  found = formats.read_prompt(str(prompts / "run"))
  assert found.path.name == "prompt.safetensors" and found.metadata["task"] == "x"
  steps = formats.read_prompt(str(prompts / "run" / "numpy_checkpoints"))
  np.testing.assert_array_equal(steps.prompt, PROMPT + 30)


def test_a_bank_of_prompts_and_half_precision_read_as_float32(tmp_path):
  bank = np.stack([PROMPT, PROMPT])
  for name in ("x.npy", "x.safetensors"):
    prompt_files.save_prompt(str(tmp_path / name), bank, dtype="float16")
    found = formats.load_prompt(str(tmp_path / name))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, bank.astype(np.float16).astype(np.float32))


def test_the_package_s_own_model_is_a_path_too():
  found = formats.load("package://assets/t5_1_1_reviews")
  assert found.format == "T5X" and found.step == 11000


# What was published.


@pytest.mark.parametrize("task", ["sst2", "mrpc", "rte"])
def test_released_prompts_read(fixtures, task):
  path = fixtures / "released_prompts" / "t5_1_1_lm100k_base" / f"{task}.npy"
  assert formats.read_prompt(str(path)).format == "numpy"
  np.testing.assert_array_equal(formats.load_prompt(str(path)), np.load(path))


@pytest.mark.parametrize(
  ("name", "format", "step"),
  [
    ("t5x_tiny", "T5X", 3),
    ("t5x_tiny/checkpoint_3", "T5X", 3),
    ("t5x_inline_checkpoint_0", "T5X", 0),
    ("t5x_head/legacy_checkpoint_9", "T5X", 9),
    ("t5x_head/orbax_checkpoint_13", "Orbax (OCDBT)", 13),
    ("t5x_head/orbax_checkpoint_13/state", "Orbax (OCDBT)", 13),
  ],
)
def test_real_checkpoints_are_known(fixtures, name, format, step):
  found = formats.load(f"{fixtures}/{name}")
  assert (found.format, found.step) == (format, step)


def test_the_original_s_folder_of_a_run_has_its_newest_prompt(fixtures):
  # legacy_checkpoint_9 and numpy_checkpoints/checkpoint_9 come from the same step.
  inside = formats.load_prompt(f"{fixtures}/t5x_head/legacy_checkpoint_9")
  for place in ("t5x_head", "t5x_head/numpy_checkpoints"):
    np.testing.assert_array_equal(formats.load_prompt(f"{fixtures}/{place}"), inside)
  earlier = formats.load_prompt(f"{fixtures}/t5x_head/numpy_checkpoints/checkpoint_7")
  assert not np.array_equal(earlier, inside)


def test_a_prompt_inside_an_orbax_checkpoint_reads(fixtures):
  found = formats.read_prompt(f"{fixtures}/t5x_head/orbax_checkpoint_13")
  assert found.format == "Orbax (OCDBT)" and found.metadata == {"step": 13}
  assert found.prompt.shape == (100, 4) and found.prompt.std() > 0


# What does not fit.


def refusal(call, path):
  with pytest.raises(checks.InputError) as error:
    call(str(path))
  message = str(error.value)
  assert str(path) in message and "expected" in message
  return message


CALLS = {
  formats.load: "there is no model checkpoint at",
  formats.read_prompt: "there is no prompt at",
  formats.open_any: "there is no checkpoint or prompt at",
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_called_nothing(tmp_path, call):
  message = refusal(call, tmp_path / "none")
  assert f"{CALLS[call]} {tmp_path}/none (found nothing)" in message


@pytest.mark.parametrize("call", CALLS)
def test_a_folder_of_other_things_is_listed(tmp_path, call):
  assert "found a folder with nothing)" in refusal(call, tmp_path)
  for name in ("b.txt", "a.bin"):
    (tmp_path / name).write_bytes(b"x")
  message = refusal(call, tmp_path)
  assert CALLS[call] in message and "found a folder with a.bin, b.txt)" in message
  for number in range(30):
    (tmp_path / f"c{number:02d}").write_bytes(b"x")
  message = refusal(call, tmp_path)
  assert "c09, ...)" in message and "c10" not in message


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUM", b"\x00" * 100])
def test_a_file_of_another_format_is_called_so(tmp_path, call, content):
  (tmp_path / "x.bin").write_bytes(content)
  message = refusal(call, tmp_path / "x.bin")
  assert CALLS[call] in message and "found a file of another format" in message


@pytest.mark.parametrize("name", [n for n, kind in PROMPTS.items() if kind != "T5X"])
def test_a_prompt_is_no_model(prompts, name):
  assert "found a prompt" in refusal(formats.load, prompts / name)


@pytest.mark.parametrize("name", ["t5x", "t5x_one_file", "orbax", "hf", "mtf"])
def test_a_model_without_a_prompt_is_no_prompt(models, name):
  message = refusal(formats.read_prompt, models / name)
  assert f"holds a model without a prompt, expected {PATH} in it" in message


def test_a_prompt_that_begins_like_msgpack_is_still_a_prompt(tmp_path):
  for story in range(200):
    parts = safetensors_files.encoded({"prompt": Inline(PROMPT)}, {"x": "." * story})
    content = b"".join(bytes(part) for part in parts)
    if content[0] == 0x88:  # a map of 8 in msgpack, a header of 136 bytes here
      break
  assert content[0] == 0x88
  (tmp_path / "prompt").write_bytes(content)
  np.testing.assert_array_equal(formats.load_prompt(str(tmp_path / "prompt")), PROMPT)
  assert "found a prompt" in refusal(formats.load, tmp_path / "prompt")


def test_tensorflow_s_text_file_is_no_index_of_t5x(tmp_path):
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
  assert "found a folder with checkpoint)" in refusal(formats.load, tmp_path)


def test_a_damaged_index_is_not_called_another_format(tmp_path):
  (tmp_path / "checkpoint").write_bytes(b"\xc1garbage")
  assert "its index is damaged" in refusal(formats.load, tmp_path)


def test_several_prompts_in_one_step_are_not_guessed_among(tmp_path):
  for name in (PATH, "decoder/prompt/prompt/prompt"):
    prompt_files.save_step(epath.Path(tmp_path), 5, name, PROMPT)
  with pytest.raises(checks.InputError, match=r"2 prompts \(decoder.*, encoder.*\)"):
    formats.read_prompt(str(tmp_path))


def test_weights_that_are_pickled_are_never_read(tmp_path, models):
  shutil.copytree(models / "hf", tmp_path / "hf")
  os.rename(tmp_path / "hf/model.safetensors", tmp_path / "hf/pytorch_model.bin")
  assert "pickled" in refusal(formats.load, tmp_path / "hf")


@pytest.mark.parametrize(
  ("change", "found"),
  [
    ({"peft_type": "LORA"}, "LORA"),
    ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
    ({"num_virtual_tokens": 6}, "6 virtual tokens"),
  ],
)
def test_an_adapter_of_another_kind_is_refused(tmp_path, prompts, change, found):
  shutil.copytree(prompts / "adapter", tmp_path / "x")
  config = json.loads((tmp_path / "x" / "adapter_config.json").read_text())
  (tmp_path / "x" / "adapter_config.json").write_text(json.dumps({**config, **change}))
  assert found in refusal(formats.read_prompt, tmp_path / "x")


def test_rows_of_an_adapter_that_peft_never_uses_are_left_out(tmp_path, prompts):
  shutil.copytree(prompts / "adapter", tmp_path / "x")
  both = {"prompt_embeddings": np.concatenate([PROMPT, PROMPT + 1])}  # the decoder's too
  safetensors.numpy.save_file(both, tmp_path / "x" / "adapter_model.safetensors")
  np.testing.assert_array_equal(formats.load_prompt(str(tmp_path / "x")), PROMPT)


def test_a_step_of_numpy_checkpoints_without_a_prompt_is_nothing(tmp_path):
  (tmp_path / "numpy_checkpoints" / "checkpoint_5").mkdir(parents=True)
  assert "there is no prompt at" in refusal(formats.read_prompt, tmp_path)
