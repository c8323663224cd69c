"""Late prompts: below their layer the model is the untuned one, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from given import features, given, logits

from prompt_tuning import checks
from prompt_tuning.methods import surgery
from prompt_tuning.methods.late import LatePrompt
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, RandomUniform, SampledVocab

PROMPT = Prompt(length=3, start=RandomUniform(scale=2.0))


def test_in_front_of_the_first_layer_it_is_prompt_tuning(tiny_t5, batch):
  late = LatePrompt(prompt=PROMPT, first=0).steered(given(tiny_t5))
  plain = PromptedT5(tiny_t5, PromptBank(given(tiny_t5).prompts(PROMPT)))
  expected = logits(plain, *features(batch))
  np.testing.assert_array_equal(logits(late, *features(batch)), expected)


def test_it_starts_as_a_prompt_that_meets_the_tokens_in_its_layer(tiny_t5, batch):
  """Below, prompt and tokens are two inputs beside each other.

  layer 0   P x . .   layer 1   P x x x
            t . x x             t x x x
  """
  tokens = jnp.asarray(batch["encoder_input_tokens"][:1])
  prompt = given(tiny_t5).prompts(PROMPT)
  x = jnp.concatenate([prompt, tiny_t5.embed(tokens)], axis=1)
  side = np.arange(13) < 3
  apart = jnp.asarray(side[:, None] == side[None, :])[None, None]
  x = tiny_t5.encode(x, apart, layers=range(1))
  expected = tiny_t5.encode(x, jnp.ones_like(apart), layers=range(1, 2))
  late = LatePrompt(prompt=PROMPT, first=1).steered(given(tiny_t5))
  found, real = late.encode(tokens)
  assert real.all()
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_its_rows_start_at_the_scale_of_their_layer(tiny_t5, batch):
  sampled = Prompt(length=8, start=SampledVocab(population_size=None))
  late = LatePrompt(prompt=sampled, first=1).steered(given(tiny_t5))
  tokens = jnp.asarray(batch["encoder_input_tokens"][:1])
  everything = jnp.ones((1, 1, 10, 10), bool)
  hidden = tiny_t5.encode(tiny_t5.embed(tokens), everything, layers=range(1))
  assert 0.7 < rms(late.bank.array) / rms(hidden) < 1.4
  assert rms(hidden) > 1.1 * rms(tiny_t5.embed(tokens))


def rms(x):
  return float(np.sqrt(np.mean(np.square(x))))


class Forward(nnx.Module):
  """A projection through which nothing can be differentiated."""

  def __init__(self, dense):
    self.dense = dense

  def __call__(self, x):
    @jax.custom_vjp
    def apply(x):
      return self.dense(x)

    def refuse(kept, gradient):
      raise AssertionError("a gradient through the layers below")

    apply.defvjp(lambda x: (apply(x), None), refuse)
    return apply(x)


def gradient(model, first, batch):
  late = LatePrompt(prompt=PROMPT, first=first).steered(given(model))

  def total(prompts):
    steered = PromptedT5(model, PromptBank(prompts), steering=late.steering)
    return jnp.sum(steered.logits(*features(batch)))

  return jax.jit(jax.grad(total))(late.bank.array)


def test_nothing_is_differentiated_below(tiny_t5, batch):
  model = surgery.copied(tiny_t5)
  surgery.wrap(model.encoder.layers_0.attention, "value", Forward)
  assert np.abs(gradient(model, 1, batch)).max() > 0
  with pytest.raises(AssertionError, match="a gradient through"):
    gradient(model, 0, batch)


@pytest.mark.parametrize("first", [2, 7])
def test_a_layer_beyond_the_last_is_refused(tiny_t5, first):
  with pytest.raises(checks.InputError, match="expected 0 to 1, a layer of the encoder"):
    LatePrompt(prompt=PROMPT, first=first).steered(given(tiny_t5))


@pytest.mark.parametrize("first", [-1, 0.5, None])
def test_what_is_no_layer_is_refused(first):
  with pytest.raises(checks.InputError, match="FIRST_LAYER is"):
    LatePrompt(prompt=PROMPT, first=first)
