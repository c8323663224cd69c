"""A prompt that sees no tokens: encoded once, equal to the masked computation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.models.masks import decoder_mask, outer_mask
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import combine, masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5

VISIBILITIES = {
  "mutual": masks.FULL - {masks.PROMPT_TO_INPUT},
  "causal": masks.ALWAYS | {masks.PROMPT_TO_PROMPT_CAUSAL},
  "alone": masks.ALWAYS,
}


@pytest.fixture(scope="module")
def prompts():
  return jax.random.normal(jax.random.key(3), (3, 4, 16))


def masked_logits(model, prompts, ids, batch, visibility):
  """The computation per example: every row has its prompt, masks say who sees whom."""
  tokens, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
  rows = jnp.take(prompts, ids, axis=0)
  embeddings = jnp.concatenate([rows, model.embed(tokens)], axis=1)
  mask = masks.encoder_mask(tokens > 0, prompts.shape[1], visibility)
  real = masks.with_prompt(tokens > 0, prompts.shape[1])
  encoded = model.encode(embeddings, mask)
  return model.decode(
    batch["decoder_input_tokens"],
    encoded,
    decoder_mask(targets > 0),
    outer_mask(targets > 0, real),
  )


def blind_logits(model, prompts, ids, batch, visibility):
  prompted = PromptedT5(model, PromptBank(prompts), visibility=visibility)
  return prompted.logits(
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    batch["decoder_target_tokens"],
    ids,
  )


def loss_and_gradient(logits, model, prompts, ids, batch, visibility):
  def loss(prompts):
    found = jax.nn.log_softmax(logits(model, prompts, ids, batch, visibility))
    targets = batch["decoder_target_tokens"]
    taken = jnp.take_along_axis(found, jnp.asarray(targets)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(targets > 0, taken, 0.0))

  return jax.jit(jax.value_and_grad(loss))(prompts)


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_it_equals_the_masked_computation(
  tiny_config, batch, prompts, visibility, per_layer
):
  config = dataclasses.replace(tiny_config, relative_per_layer=per_layer)
  model, ids = T5.random(config, jax.random.key(0)), np.array([2, 0, 1, 2], np.int32)
  given = (model, prompts, ids, batch, VISIBILITIES[visibility])
  expected, expected_gradient = loss_and_gradient(masked_logits, *given)
  found, gradient = loss_and_gradient(blind_logits, *given)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_prompts_of_different_lengths_act_as_alone(tiny_t5, batch, prompts):
  visibility = VISIBILITIES["mutual"]
  bank = PromptBank.of([prompts[0], prompts[1][:2]])
  tokens, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
  both = PromptedT5(tiny_t5, bank, visibility=visibility)
  found = both.score(tokens, targets, np.array([0, 1, 1, 0], np.int32))
  for row, prompt in enumerate([prompts[0], prompts[1][:2], prompts[1][:2], prompts[0]]):
    alone = PromptedT5(tiny_t5, PromptBank(prompt), visibility=visibility)
    np.testing.assert_allclose(found[row], alone.score(tokens, targets)[row], rtol=1e-5)


def test_encoded_before_it_answers_alike(tiny_t5, batch, prompts):
  visibility, bank = VISIBILITIES["mutual"], PromptBank(prompts)
  anew = PromptedT5(tiny_t5, bank, visibility=visibility)
  # Of another bank, so that only what was encoded before can give these answers.
  other, context = PromptBank(jnp.zeros_like(prompts)), anew.encoded_prompts()
  before = PromptedT5(tiny_t5, other, visibility=visibility, context=context)
  ids = np.array([2, 0, 1, 2], np.int32)
  tokens, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
  np.testing.assert_array_equal(
    before.score(tokens, targets, ids), anew.score(tokens, targets, ids)
  )
  found, scores = before.generate(tokens, 6, ids)
  expected, expected_scores = anew.generate(tokens, 6, ids)
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_it_computes_less(tiny_t5, batch, prompts):
  def flops(visibility):
    def step(prompts, batch):
      return blind_logits(tiny_t5, prompts, None, batch, visibility)

    cost = jax.jit(step).lower(prompts[:1], batch).compile().cost_analysis()
    return cost["flops"]

  assert flops(VISIBILITIES["mutual"]) < 0.9 * flops(masks.FULL)


def test_it_goes_in_front_only(tiny_t5, prompts):
  with pytest.raises(checks.InputError, match=r"visibility.*expected combine=prefix"):
    PromptedT5(tiny_t5, PromptBank(prompts), combine.suffix, VISIBILITIES["mutual"])


def test_an_unknown_kind_is_refused(tiny_t5, prompts):
  with pytest.raises(checks.InputError, match="attention kind"):
    PromptedT5(tiny_t5, PromptBank(prompts), visibility={"prompt->inputs"})


def test_prompts_that_see_tokens_are_not_encoded_alone(tiny_t5, prompts):
  with pytest.raises(checks.InputError, match="visibility without 'prompt->input'"):
    PromptedT5(tiny_t5, PromptBank(prompts)).encoded_prompts()
