"""ATTEMPT: trained prompts from files and an own one, mixed by what an input says."""

import dataclasses
import math

import numpy as np
import pytest
from etils import epath
from given import assert_close, features, given, logits

from prompt_tuning import checks, formats, trees
from prompt_tuning.checkpoints import peft, prompt_files
from prompt_tuning.methods.attempt import Attempt
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, RandomUniform
from prompt_tuning.training import state

PROMPT = Prompt(length=3, start=RandomUniform())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  """Trained prompts: in a file, in a MODEL_DIR, in an adapter."""
  folder = tmp_path_factory.mktemp("sources")
  arrays = np.random.default_rng(0).normal(size=(3, 3, 16)).astype(np.float32)
  paths = [str(folder / name) for name in ("one.npy", "run", "adapter")]
  prompt_files.save_prompt(paths[0], arrays[0])
  prompt_files.save_prompt(f"{paths[1]}/prompt.safetensors", arrays[1], {"step": 3})
  prompt_files.save_prompt(str(folder / "two.npy"), arrays[2])
  peft.save(epath.Path(paths[2]), formats.read_prompt(str(folder / "two.npy")))
  return paths, arrays


@pytest.fixture(scope="module")
def method(sources):
  return Attempt(
    prompt=PROMPT, load=formats.load_prompt, sources=sources[0], units=4, temperature=3.0
  )


def softmax(x):
  x = np.exp(x - x.max())
  return x / x.sum()


def mixed(model, tokens, prompts, temperature):
  """The prompt of one example, by the paper's formula."""
  x = np.asarray(model.model.embed(tokens[None, tokens > 0]))[0].max(axis=0)
  down, up = (
    np.asarray(x[...]) for x in (model.steering.router.down, model.steering.router.up)
  )
  hidden = x @ down
  query = (hidden / (1 + np.exp(-hidden))) @ up
  query = (query - query.mean()) / np.sqrt(query.var() + 1e-6)
  shares = softmax(prompts.max(axis=1) @ query / temperature)
  return prompts[0] + np.einsum("n,npd->pd", shares, prompts)


@pytest.mark.parametrize("temperature", [3.0, None])
def test_it_is_the_formula(tiny_t5, method, sources, batch, temperature):
  model = dataclasses.replace(method, temperature=temperature).steered(given(tiny_t5))
  own = np.asarray(given(tiny_t5).prompts(PROMPT))
  prompts = np.concatenate([own, sources[1]])
  np.testing.assert_array_equal(model.bank.array, prompts)
  used = temperature or math.e * 16
  rows = [mixed(model, tokens, prompts, used) for tokens in batch["encoder_input_tokens"]]
  alone = PromptedT5(tiny_t5, PromptBank(np.stack(rows)))
  expected = logits(alone, *features(batch), np.arange(4, dtype=np.int32))
  np.testing.assert_allclose(
    logits(model, *features(batch)), expected, rtol=1e-4, atol=1e-4
  )
  assert np.abs(rows[0] - rows[1]).max() > (1e-2 if temperature else 1e-4)


def test_padding_does_not_count(tiny_t5, method, batch):
  model = method.steered(given(tiny_t5))
  inputs, *targets = features(batch)
  expected = logits(model, inputs, *targets)
  wider = np.pad(inputs, ((0, 0), (0, 6)))
  assert_close(logits(model, wider, *targets), expected)
  assert np.isfinite(model.encode(np.zeros((1, 4), np.int32))[0]).all()


def test_sources_are_frozen_and_in_the_file_of_the_trained(tiny_t5, method, sources):
  split = state.Split.of(method.steered(given(tiny_t5)))
  assert "bank/through/sources" in trees.values(split.frozen)
  learned = trees.values(split.tunable)
  assert set(learned) == {"bank/prompts", "steering/router/down", "steering/router/up"}
  folded = method.folded(learned)
  np.testing.assert_array_equal(folded.tensors["bank/through/sources"], sources[1])
  gone = dataclasses.replace(folded.method, sources=["/nowhere"])
  found = trees.values(state.Split.of(gone.steered(given(tiny_t5))).tunable)
  assert {p: x.shape for p, x in found.items()} == {
    p: x.shape for p, x in folded.tensors.items()
  }


def test_what_it_learned_with_is_kept_whatever_becomes_of_the_files(tiny_t5, tmp_path):
  path = str(tmp_path / "one.npy")
  np.save(path, np.ones((3, 16), np.float32))
  method = Attempt(prompt=PROMPT, load=formats.load_prompt, sources=[path], units=4)
  method.steered(given(tiny_t5))
  np.save(path, np.zeros((3, 16), np.float32))
  kept = method.folded({}).tensors["bank/through/sources"]
  np.testing.assert_array_equal(kept, np.ones((1, 3, 16)))


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((3, 8), r"has shape \[3, 8\], expected \[3, 16\]"),
    ((2, 16), r"has shape \[2, 16\], expected \[3, 16\]"),
    ((2, 3, 16), r"has shape \[2, 3, 16\], expected \[3, 16\]"),
  ],
)
def test_sources_that_do_not_fit_are_refused(tiny_t5, tmp_path, shape, message):
  np.save(tmp_path / "other.npy", np.zeros(shape, np.float32))
  method = Attempt(
    prompt=PROMPT, load=formats.load_prompt, sources=[str(tmp_path / "other.npy")]
  )
  with pytest.raises(checks.InputError, match=message) as refused:
    method.steered(given(tiny_t5))
  assert "other.npy" in str(refused.value)


def test_sources_that_are_not_there_are_refused(tiny_t5, tmp_path):
  method = Attempt(
    prompt=PROMPT, load=formats.load_prompt, sources=[str(tmp_path / "none")]
  )
  with pytest.raises(checks.InputError, match=r"there is no prompt at .*none"):
    method.steered(given(tiny_t5))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"sources": []}, r"SOURCE_PROMPTS is \[\], expected a list of texts"),
    ({"sources": "runs/movies"}, "SOURCE_PROMPTS is 'runs/movies', expected a list"),
    ({"sources": ["x"], "units": 0}, "ATTENTION_UNITS is 0"),
    ({"sources": ["x"], "temperature": 0.0}, "ATTENTION_TEMPERATURE"),
  ],
)
def test_settings_without_sense_are_refused(settings, message):
  with pytest.raises(checks.InputError, match=message):
    Attempt(prompt=PROMPT, **settings)
