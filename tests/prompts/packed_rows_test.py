"""Packed rows: each segment acts as its example does alone, prompt and all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import LENGTHS, ROWS, packed, per_example

from prompt_tuning import checks
from prompt_tuning.prompts import combine, masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import steps

BLIND = masks.FULL - {masks.PROMPT_TO_INPUT}


def loss(model, batch):
  logits = model.logits(**steps.features(batch))
  log_probs = jax.nn.log_softmax(logits, axis=-1)
  targets = jnp.asarray(batch["decoder_target_tokens"])
  taken = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  return -jnp.sum(jnp.where(targets > 0, taken, 0.0)), logits


@pytest.mark.parametrize(
  ("how", "visibility"),
  [
    ("prefix", masks.FULL),
    ("prefix", masks.ALWAYS | {masks.PROMPT_TO_PROMPT_CAUSAL, masks.PROMPT_TO_INPUT}),
    ("suffix", masks.FULL),
    ("suffix_before_eos", masks.FULL),
    ("prefix", BLIND),
  ],
)
def test_packed_is_unpacked(tiny_t5, batch, how, visibility):
  prompt = jax.random.normal(jax.random.key(3), (3, 16))
  blind = masks.is_input_blind(visibility)
  rows = packed(batch, 0 if blind else 3, how)

  def of(batch):
    def total(prompt):
      place = getattr(combine, how)
      model = PromptedT5(tiny_t5, PromptBank(prompt), place, visibility)
      return loss(model, batch)

    return jax.jit(jax.value_and_grad(total, has_aux=True))(prompt)

  (expected, alone), expected_gradient = of(batch)
  (found, together), gradient = of(rows)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
  for example, logits in per_example(together).items():
    real = alone[example, : LENGTHS[example][1]]
    np.testing.assert_allclose(logits, real, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("visibility", [masks.FULL, BLIND])
def test_rows_of_different_prompts(tiny_t5, batch, visibility):
  prompts = jax.random.normal(jax.random.key(3), (2, 3, 16))
  rows = packed(batch, 0 if masks.is_input_blind(visibility) else 3, "prefix")
  both = PromptedT5(tiny_t5, PromptBank(prompts), visibility=visibility)
  ids = {"prompt_ids": np.array([1, 0], np.int32)}
  together = per_example(both.logits(**steps.features({**rows, **ids})))
  for prompt_id, row in enumerate([1, 0]):
    alone = PromptedT5(tiny_t5, PromptBank(prompts[prompt_id]), visibility=visibility)
    expected = alone.logits(**steps.features(batch))
    for example in ROWS[row]:
      real = expected[example, : LENGTHS[example][1]]
      np.testing.assert_allclose(together[example], real, rtol=1e-5, atol=1e-5)


def test_prompts_of_different_lengths(tiny_t5, batch):
  prompts = [jax.random.normal(jax.random.key(i), (n, 16)) for i, n in [(0, 3), (1, 2)]]
  rows = {**packed(batch, 3, "prefix"), "prompt_ids": np.array([0, 1], np.int32)}
  together = per_example(
    PromptedT5(tiny_t5, PromptBank.of(prompts)).logits(**steps.features(rows))
  )
  alone = PromptedT5(tiny_t5, PromptBank(prompts[1])).logits(**steps.features(batch))
  for example in ROWS[1]:
    real = alone[example, : LENGTHS[example][1]]
    np.testing.assert_allclose(together[example], real, rtol=1e-5, atol=1e-5)


def test_without_room_for_the_prompt_they_are_refused(tiny_t5, batch):
  rows = packed(batch, 0, "prefix")
  model = PromptedT5(tiny_t5, PromptBank(np.zeros((3, 16), np.float32)))
  with pytest.raises(checks.InputError, match="leave no room for the prompt"):
    model.logits(**steps.features(rows))


def test_room_that_a_prompt_does_not_need_is_refused(tiny_t5, batch):
  bank = PromptBank(np.zeros((3, 16), np.float32))
  model = PromptedT5(tiny_t5, bank, visibility=BLIND)
  with pytest.raises(checks.InputError, match="pack them with prompt_len=0"):
    model.logits(**steps.features(packed(batch, 3, "prefix")))


@pytest.mark.parametrize("missing", ["encoder_segment_ids", "decoder_segment_ids"])
def test_half_of_the_packing_is_refused(tiny_t5, batch, missing):
  rows = packed(batch, 3, "prefix")
  del rows[missing]
  model = PromptedT5(tiny_t5, PromptBank(np.zeros((3, 16), np.float32)))
  with pytest.raises(checks.InputError, match="give both"):
    model.logits(**steps.features(rows))
