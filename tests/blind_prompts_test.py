"""Prompts that see no tokens, from training to answers: their files say so."""

import json

import jax
import numpy as np
import pytest

from prompt_tuning import assembly, checks, convert, step_shapes
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.formats import load_prompt
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.predictor import Predictor
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import FromFile, FromFiles, Prompt

BLIND = ["prompt->prompt"]
KINDS = masks.FULL - {masks.PROMPT_TO_INPUT}
LIMITS = {"max_input_len": 48, "max_output_len": 6, "batch_size": 4}
TEXTS = ["a fine film", "dull", "neither one nor the other"]


@pytest.fixture(scope="module")
def model(byte_t5):
  return byte_t5


@pytest.fixture(scope="module")
def prompts():
  rng = np.random.default_rng(5)
  return [rng.normal(size=(length, 16)).astype(np.float32) for length in (3, 5)]


def saved(path, prompt, visibility=None):
  prompt_files.save_prompt(
    str(path), prompt, {"visibility": visibility} if visibility else {}
  )
  return str(path)


def test_it_answers_as_its_file_says(model, prompts, tmp_path):
  files = {
    name: saved(tmp_path / f"{name}.safetensors", prompt, sorted(KINDS))
    for name, prompt in zip("ab", prompts, strict=True)
  }
  predictor = Predictor(model, files, **LIMITS)
  found = predictor.score(TEXTS, ["x"] * 3, ["a", "b", "a"])
  tokens = np.array([*b"x"], np.int32)[None] + 3
  for text, answer, prompt in zip(TEXTS, found, [*prompts, prompts[0]], strict=True):
    inputs = np.array([*text.encode()], np.int32)[None] + 3
    alone = PromptedT5(model, PromptBank(prompt), visibility=KINDS)
    expected = alone.score(
      np.pad(inputs, ((0, 0), (0, 1)), constant_values=1),
      np.pad(tokens, ((0, 0), (0, 1)), constant_values=1),
    )
    np.testing.assert_allclose(answer.score, expected[0], rtol=1e-5)
  predictor.add("c", prompts[1][:2])  # an array has no story: it is as the others
  predictor.predict(TEXTS, "c")


def test_prompts_of_both_kinds_do_not_answer_together(model, prompts, tmp_path):
  blind = saved(tmp_path / "blind.safetensors", prompts[0], BLIND)
  usual = saved(tmp_path / "usual.safetensors", prompts[1], sorted(masks.FULL))
  with pytest.raises(checks.InputError, match=r"different visibilities(?s:.)*blind"):
    Predictor(model, {"a": blind, "b": usual}, **LIMITS)
  predictor = Predictor(model, {"a": blind}, **LIMITS)
  with pytest.raises(checks.InputError, match="predictor of its own"):
    predictor.add("b", usual)


def test_a_file_with_an_unknown_kind_is_refused(model, prompts, tmp_path):
  path = saved(tmp_path / "odd.safetensors", prompts[0], ["prompt->future"])
  with pytest.raises(checks.InputError, match="attention kind"):
    Predictor(model, {"a": path}, **LIMITS)


def test_formats_that_cannot_say_so_are_refused(prompts, tmp_path):
  path = saved(tmp_path / "blind.safetensors", prompts[0], BLIND)
  for kind, name in [("peft", "adapter"), ("npy", "prompt.npy")]:
    with pytest.raises(checks.InputError, match=f"a file of {kind} cannot say so"):
      convert.convert(path, str(tmp_path / name), kind)
    assert not (tmp_path / name).exists()


def test_the_config_decides_then_the_file_then_everything(prompts, tmp_path):
  path = saved(tmp_path / "blind.safetensors", prompts[0], BLIND)
  start = FromFile(path=path, load=load_prompt)
  assert assembly.visibility(Prompt(length=3)) == masks.FULL
  assert assembly.visibility(Prompt(length=3, start=start)) == KINDS
  assert assembly.visibility(Prompt(length=3, visibility=BLIND)) == KINDS
  full = sorted(masks.FULL)
  assert assembly.visibility(Prompt(length=3, start=start, visibility=full)) == masks.FULL


def test_averaged_prompts_see_what_their_files_agree_on(prompts, tmp_path):
  blind = saved(tmp_path / "blind.safetensors", prompts[0], BLIND)
  same = saved(tmp_path / "same.safetensors", prompts[1], BLIND)
  silent = saved(tmp_path / "numbers.npy", prompts[0])
  usual = saved(tmp_path / "usual.safetensors", prompts[0], sorted(masks.FULL))

  def averaged(*paths, **settings):
    start = FromFiles(paths=paths, load=load_prompt)
    return assembly.visibility(Prompt(length=3, start=start, **settings))

  assert averaged(blind, same) == averaged(blind, silent) == KINDS
  assert averaged(silent) == masks.FULL
  assert averaged(blind, usual, visibility=BLIND) == KINDS
  with pytest.raises(checks.InputError, match=r"different visibilities(?s:.)*usual"):
    averaged(blind, usual)


def test_text_instead_of_a_list_is_refused():
  with pytest.raises(checks.InputError, match="put it in brackets"):
    Prompt(length=3, visibility="prompt->prompt")


def test_gin_reaches_the_step():
  from prompt_tuning import config

  files = ["models/t5_1_1_small_prompt.gin", "runs/prompt_finetune.gin"]
  given = {
    "MIXTURE_OR_TASK_NAME": "",
    "MODEL_DIR": "",
    "INITIAL_CHECKPOINT_PATH": "",
    "TRAIN_STEPS": 1,
    "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 4},
  }

  def flops(*bindings):
    run = config.load("train.train", files, ["BATCH_SIZE = 8", *bindings], (), given)[0]
    run = step_shapes.with_depth(run, 1)
    layout = Partitioner().layout(8, jax.devices()[:1])
    lowered = step_shapes.StepShapes.of(run, layout).lowered()
    return json.loads(json.dumps(lowered.cost_analysis()))["flops"]

  assert flops("PROMPT_VISIBILITY = ['prompt->prompt']") < 0.8 * flops()
