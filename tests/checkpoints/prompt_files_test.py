"""Prompt files: read whatever they are, never execute anything, never over-allocate."""

import io
import pickle

import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from prompt_tuning import checks, formats
from prompt_tuning.checkpoints import method_files, prompt_files
from prompt_tuning.prompts.bank import PATH

PROMPT = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


def test_safetensors_keep_the_prompt_and_its_story(tmp_path):
  path = str(tmp_path / "prompt.safetensors")
  story = {"task": "sst2", "step": 30, "score": 91.5, "metrics": {"a": 1}}
  prompt_files.save_prompt(path, PROMPT, story)
  found = formats.read_prompt(path)
  np.testing.assert_array_equal(found.prompt, PROMPT)
  assert found.metadata == {**story, "prompt_length": 5, "d_model": 8}


def test_step_files_are_numpy_bytes_at_the_original_s_path(tmp_path):
  prompt_files.save_step(epath.Path(tmp_path), 5, PATH, PROMPT)
  path = tmp_path / "numpy_checkpoints" / "checkpoint_5" / "encoder.prompt.prompt.prompt"
  with path.open("rb") as content:
    np.testing.assert_array_equal(np.load(content, allow_pickle=False), PROMPT)
  np.testing.assert_array_equal(formats.load_prompt(str(path)), PROMPT)


def test_released_prompts_and_the_original_s_files_read(fixtures):
  for task in ("sst2", "mrpc", "rte"):
    path = fixtures / "released_prompts" / "t5_1_1_lm100k_base" / f"{task}.npy"
    assert formats.load_prompt(str(path)).shape == (100, 768)
  path = fixtures / "t5x_head" / "numpy_checkpoints" / "checkpoint_9"
  found = formats.load_prompt(str(path / "encoder.prompt.prompt.prompt"))
  assert found.ndim == 2 and found.dtype == np.float32


class Bomb:
  """Unpickling this creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (self.path, "w"))


def test_pickles_are_never_loaded(tmp_path):
  proof = tmp_path / "executed"
  bomb = Bomb(str(proof))
  objects = io.BytesIO()
  np.save(objects, np.array([bomb], object), allow_pickle=True)
  for content in (pickle.dumps(bomb), objects.getvalue()):
    (tmp_path / "prompt.npy").write_bytes(content)
    with pytest.raises(checks.InputError, match=r"prompt\.npy"):
      formats.load_prompt(str(tmp_path / "prompt.npy"))
  assert not proof.exists()


def numpy_bytes(array):
  sink = io.BytesIO()
  np.save(sink, array)
  return sink.getvalue()


def promising(shape):
  header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
  header += b" " * (118 - len(header)) + b"\n"
  return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"hello",
    numpy_bytes(PROMPT)[:-20],
    numpy_bytes(PROMPT)[:30],
    numpy_bytes(np.zeros(4, np.float32)),
    numpy_bytes(np.zeros((4, 4), np.int32)),
    promising((1 << 20, 1 << 20)),
    promising((1 << 62, 1 << 62)),
    promising((-1, 5)),
    safetensors.numpy.save({"other": PROMPT, "another": PROMPT}),
    safetensors.numpy.save({"prompt": np.zeros((0, 8), np.float32)}),
    safetensors.numpy.save({"prompt": PROMPT})[:-7],
    (1 << 60).to_bytes(8, "little") + b"{}",
  ],
)
def test_anything_else_is_refused_by_name(tmp_path, content):
  path = tmp_path / "prompt.npy"
  path.write_bytes(content)
  with pytest.raises(checks.InputError, match=r"prompt\.npy"):
    formats.load_prompt(str(path))


STEP = "numpy_checkpoints/checkpoint_5"
# What another method learned: names in the folder of a step, as each method gives them.
OF_METHODS = {
  "late": ["encoder.layers_1.prompt.prompt.prompt"],
  "per_layer": ["encoder.layers_0.prompt.prompt.prompt"],
  "attempt": ["encoder.prompt.attention.down", PATH],
  "decomposed": ["encoder.prompt.offset.a", PATH],
  "smop": ["encoder.prompt.router.kernel", PATH],
  "multi_task": ["encoder.prompt.prompt.task_prompts.embedding"],
  "lora": ["decoder.layers_0.self_attention.query.lora_a"],
  "prefix": ["prefix.embedding"],
}


@pytest.mark.parametrize("method", OF_METHODS)
@pytest.mark.parametrize("place", [".", "numpy_checkpoints", STEP])
def test_a_step_of_another_method_is_no_prompt(tmp_path, method, place):
  for name in OF_METHODS[method]:
    prompt_files.save_step(epath.Path(tmp_path), 5, name, PROMPT)
  with pytest.raises(checks.InputError, match="which another method than prompts learned"):
    formats.read_prompt(str(tmp_path / place))


def test_the_folder_of_a_trained_method_is_no_prompt(tmp_path):
  folder = epath.Path(tmp_path)
  prompt_files.save_step(folder, 5, PATH, PROMPT)
  prompt_files.save_prompt(str(folder / "prompt.safetensors"), PROMPT)  # of a run before
  assert formats.read_prompt(str(tmp_path)).format == "safetensors"
  method_files.save(folder / method_files.NAME, "late", {}, {"bank/prompts": PROMPT}, {})
  with pytest.raises(checks.InputError, match="learned, expected a prompt") as refused:
    formats.read_prompt(str(tmp_path))
  with pytest.raises(checks.InputError) as same:
    formats.read_prompt(str(tmp_path / method_files.NAME))
  assert str(refused.value) == str(same.value)


def test_a_missing_file_is_refused(tmp_path):
  with pytest.raises(checks.InputError, match="there is no prompt at"):
    formats.load_prompt(str(tmp_path / "none"))
