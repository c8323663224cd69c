"""convert, inspect and extract as commands: what they print and how they exit."""

import json

import numpy as np
import pytest
from etils import epath

from prompt_tuning import formats, inspection, trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.cli.main import main
from prompt_tuning.prompts.bank import PATH

REVIEWS = "package://assets/t5_1_1_reviews"
PROMPT = np.ones((5, 16), np.float32)


@pytest.fixture
def run(capsys):
  """Calls the command line: its status, what it printed, what it complained of."""

  def call(*arguments):
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()

  return call


@pytest.fixture(scope="module")
def params(tiny_t5):
  return {name: np.asarray(x) for name, x in trees.values(tiny_t5).items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory, params):
  """A folder with `same`, `other` (one value differs) and `more` (with a prompt)."""
  folder = tmp_path_factory.mktemp("models")
  changed = {**params, "encoder/encoder_norm/scale": np.full(16, 1.25, np.float32)}
  t5x.save(epath.Path(folder / "same"), params, 7)
  t5x.save(epath.Path(folder / "other"), changed, 7)
  t5x.save(epath.Path(folder / "more"), {**params, PATH: PROMPT}, 8)
  prompt_files.save_prompt(str(folder / "prompt.safetensors"), PROMPT, {"task": "x"})
  return folder


def is_refused(result, *parts):
  """Status 2, nothing on stdout, and one message that says what was wrong."""
  status, out, err = result
  assert status == 2 and out == "" and err.startswith("prompt-tuning: ")
  assert all(part in err for part in parts), err
  return True


# inspect


def test_inspect_prints_what_is_there(run, models):
  status, out, err = run("inspect", models / "same")
  assert status == 0 and err == ""
  assert out == inspection.inspect(str(models / "same")) + "\n"
  assert out.startswith("format       T5X\npath         ")
  assert "\nencoder/encoder_norm/scale" in out


def test_inspect_knows_the_package_s_own_model(run):
  status, out, _ = run("inspect", REVIEWS)
  assert status == 0
  expected = "T5 1.1, 3+2 layers, d_model 256, 4 heads of 64, d_ff 512, vocabulary 4096"
  assert f"\nmodel        {expected}\n" in out and "\nstep         11000\n" in out


def test_inspect_prints_a_prompt(run, models):
  status, out, err = run("inspect", models / "prompt.safetensors")
  assert status == 0 and err == ""
  rows = [line.split(maxsplit=1) for line in out.splitlines()]
  assert ["format", "prompt (safetensors)"] in rows and ["task", "x"] in rows


def test_inspect_of_nothing_is_status_2(run, tmp_path):
  assert is_refused(run("inspect", tmp_path / "none"), "there is no checkpoint or prompt")


def test_equal_checkpoints_are_status_0(run, models):
  result = run("inspect", models / "same", "--diff", models / "same" / "checkpoint_7")
  assert result == (0, "equal\n", "")


def test_different_checkpoints_are_status_1(run, models):
  status, out, err = run("inspect", models / "same", "--diff", models / "other")
  assert (status, err) == (1, "")
  assert out == "~ encoder/encoder_norm/scale: largest absolute difference 0.25\n"


def test_missing_names_are_on_the_side_that_has_them(run, models):
  one, other = models / "other", models / "more"
  assert run("inspect", one, "--diff", other)[1].splitlines() == [
    "~ encoder/encoder_norm/scale: largest absolute difference 0.25",
    f"+ {PATH}",
  ]
  status, out, _ = run("inspect", other, "--diff", one)
  assert status == 1 and out.splitlines()[1] == f"- {PATH}"


def test_a_model_and_a_prompt_have_no_name_in_common(run, models, params):
  result = run("inspect", models / "same", "--diff", models / "prompt.safetensors")
  lines = result[1].splitlines()
  assert result[0] == 1 and "+ prompt" in lines and len(lines) == len(params) + 1


@pytest.mark.parametrize("swap", [False, True])
def test_a_comparison_with_nothing_is_status_2(run, models, tmp_path, swap):
  both = [models / "same", tmp_path / "none"]
  one, other = reversed(both) if swap else both
  assert is_refused(run("inspect", one, "--diff", other), str(tmp_path / "none"))


def test_damage_is_status_2(run, tmp_path, params):
  t5x.save(epath.Path(tmp_path), params, 1)
  (tmp_path / "checkpoint_1" / "target.encoder.encoder_norm.scale" / "0").unlink()
  assert is_refused(run("inspect", tmp_path), "encoder/encoder_norm/scale")
  assert is_refused(
    run("inspect", tmp_path, "--diff", tmp_path), "encoder/encoder_norm/scale"
  )


# extract


@pytest.mark.parametrize("prefix", ["", "target/"])
def test_extract_prints_path_and_shape(run, models, params, tmp_path, prefix):
  name, target = "token_embedder/embedding", tmp_path / "table.npy"
  result = run("extract", models / "same", prefix + name, target)
  assert result == (0, f"{target} [64, 16]\n", "")
  np.testing.assert_array_equal(np.load(target, allow_pickle=False), params[name])


def test_extract_of_an_unknown_variable_names_the_nearest(run, models, tmp_path):
  result = run("extract", models / "same", "token_embeder/embedding", tmp_path / "x.npy")
  assert is_refused(result, "'token_embeder/embedding'", "nearest known: token_embedder/")
  assert list(tmp_path.iterdir()) == []


def test_extract_overwrites_nothing(run, models, tmp_path):
  target = tmp_path / "x.npy"
  target.write_bytes(b"kept")
  result = run("extract", models / "same", "token_embedder/embedding", target)
  assert is_refused(result, f"{target} exists") and target.read_bytes() == b"kept"


# convert


def test_convert_prints_the_path_it_wrote(run, models, tmp_path, params):
  target = tmp_path / "out"
  there = target / "checkpoint_7"
  assert run("convert", models / "same", target, "--to", "t5x") == (0, f"{there}\n", "")
  assert run("inspect", there, "--diff", models / "same") == (0, "equal\n", "")


def test_convert_takes_dtype_and_step(run, models, tmp_path):
  flags = ("--to=t5x", "--dtype=bfloat16", "--step=0")
  status, out, _ = run("convert", models / "same", tmp_path, *flags)
  assert (status, out) == (0, f"{tmp_path}/checkpoint_0\n")
  found = formats.load(out.strip())
  assert {leaf.dtype.name for leaf in found.leaves.values()} == {"bfloat16"}


def test_convert_puts_a_prompt_into_its_base(run, models, tmp_path):
  prompt, base = models / "prompt.safetensors", models / "same"
  status, out, _ = run("convert", prompt, tmp_path, "--to=t5x", "--base", base)
  assert status == 0
  assert run("inspect", out.strip(), "--diff", models / "more") == (0, "equal\n", "")


def test_convert_names_the_base_of_an_adapter(run, models, tmp_path):
  prompt, name = models / "prompt.safetensors", "google/t5-v1_1-small"
  result = run("convert", prompt, tmp_path / "x", "--to=peft", f"--base={name}")
  assert result == (0, f"{tmp_path}/x\n", "")
  config = json.loads((tmp_path / "x" / "adapter_config.json").read_text())
  assert config["base_model_name_or_path"] == name


def test_convert_says_what_hugging_face_cannot_hold(run, models, tmp_path):
  status, out, err = run("convert", models / "more", tmp_path / "x", "--to=hf")
  assert (status, out) == (0, f"{tmp_path}/x\n")
  assert len(err.splitlines()) == 1 and "the prompt in" in err


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["same", "out"], "--to"),
    (["same", "out", "--to=onnx"], "onnx"),
    (["same", "out", "--to=t5x", "--dtype=int8"], "int8"),
    (["same", "out", "--to=t5x", "--step=soon"], "soon"),
    (["none", "out", "--to=t5x"], "there is no checkpoint or prompt"),
    (["same", "out.npy", "--to=npy"], "a model without a prompt"),
    (["prompt.safetensors", "out", "--to=hf"], "holds a prompt and no model"),
    (["prompt.safetensors", "same", "--to=peft"], "same exists"),
  ],
)
def test_convert_refuses_in_one_line(run, models, monkeypatch, arguments, said):
  monkeypatch.chdir(models)
  before = sorted(models.iterdir())
  result = run("convert", *arguments)
  assert is_refused(result, said) and len(result[2].splitlines()) == 1
  assert sorted(models.iterdir()) == before
