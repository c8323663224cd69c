"""SMoP: the router takes one prompt for each input, by what the input says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from given import assert_close, features, given, logits

from prompt_tuning import checks
from prompt_tuning.methods.smop import MixtureOfPrompts, TopOne
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, RandomUniform

PROMPT = Prompt(length=3, start=RandomUniform(scale=2.0))
METHOD = MixtureOfPrompts(prompt=PROMPT, num_prompts=3)


def shares_of(router, embeddings, valid):
  """By the formula, example by example."""
  found = []
  for x, real in zip(np.asarray(embeddings), np.asarray(valid), strict=True):
    scores = np.exp(x[real].mean(axis=0) @ np.asarray(router.kernel[...]))
    found.append(scores / scores.sum())
  return np.stack(found)


def test_the_best_prompt_is_taken_by_its_share(tiny_t5, batch):
  model = METHOD.steered(given(tiny_t5))
  tokens = batch["encoder_input_tokens"]
  shares = shares_of(model.steering.router, tiny_t5.embed(tokens), tokens > 0)
  best = shares.argmax(axis=1)
  assert len(set(best)) > 1
  taken = shares[np.arange(4), best]
  prompts = taken[:, None, None] * np.asarray(model.bank.array)[best]
  ids = np.arange(4, dtype=np.int32)
  alone = PromptedT5(tiny_t5, PromptBank(prompts))
  expected = logits(alone, *features(batch), ids)
  np.testing.assert_allclose(
    logits(model, *features(batch)), expected, rtol=1e-4, atol=1e-4
  )


def test_padding_does_not_count(tiny_t5, batch):
  model = METHOD.steered(given(tiny_t5))
  inputs, *targets = features(batch)
  wider = np.pad(inputs, ((0, 0), (0, 6)))
  expected = logits(model, inputs, *targets)
  assert_close(logits(model, wider, *targets), expected)
  assert np.isfinite(model.encode(np.zeros((1, 4), np.int32))[0]).all()


def test_the_router_learns_by_the_share_of_what_it_takes():
  router = TopOne(jax.random.normal(jax.random.key(0), (16, 3)))
  x = jax.random.normal(jax.random.key(1), (2, 5, 16))
  valid = jnp.ones((2, 5), bool)

  def taken(kernel):
    return TopOne(kernel)(x, valid, jnp.zeros((3, 1, 16))).sum()

  gradient = jax.grad(taken)(router.kernel[...])
  direction = jax.random.normal(jax.random.key(2), gradient.shape)
  slope = (
    taken(router.kernel[...] + 1e-2 * direction)
    - taken(router.kernel[...] - 1e-2 * direction)
  ) / 2e-2
  assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-2)


@pytest.mark.parametrize("count", [0, 1, 2.0])
def test_fewer_than_two_prompts_are_refused(count):
  with pytest.raises(checks.InputError, match="SHORT_PROMPTS is"):
    MixtureOfPrompts(prompt=PROMPT, num_prompts=count)
