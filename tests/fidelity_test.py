"""Agreement with the original system, file by file of its stored outputs.

A failure here means that numbers changed for every user: find out which, and why.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import (
  CONFIGS,
  ENDING,
  ENDLESS,
  TOLERANCE,
  assert_close,
  batch_of,
  of_names,
)

from prompt_tuning.decoding.ranking import rank
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.sequences import sequence_scores
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.adafactor import Adafactor, Slots
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule

CASES = [(size, kind) for size in CONFIGS for kind in ("noprompt", "prompt")]


@pytest.fixture(scope="module")
def models(golden):
  @functools.cache
  def model(size: str) -> T5:
    return T5(CONFIGS[size], golden(f"{size}_params"))

  return model


def prompted(models, stored, size):
  prompt = stored.get(f"trainable/{PATH}")
  return PromptedT5(models(size), None if prompt is None else PromptBank(prompt))


@pytest.mark.parametrize(("size", "kind"), CASES)
def test_outputs_loss_and_scores_agree(golden, models, size, kind):
  stored = golden(f"{size}_{kind}_A")
  batch, model = batch_of(stored), prompted(models, stored, size)
  encoded, _ = jax.jit(model.encode)(batch["encoder_input_tokens"])
  assert_close(encoded, stored["encoder_output"])

  logits = jax.jit(PromptedT5.logits)(model, **steps.features(batch))
  real = batch["decoder_loss_weights"] > 0
  assert_close(logits[real], stored["logits"][real])
  assert_close(
    sequence_scores(logits, batch["decoder_target_tokens"]), stored["sequence_scores"]
  )
  loss, _ = Loss()(logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"])
  assert_close(jnp.sum(loss), stored["loss"])


@pytest.mark.parametrize("size", CONFIGS)
def test_prompt_gradient_agrees(golden, models, size):
  stored = golden(f"{size}_prompt_A")
  split = states.Split.of(prompted(models, stored, size))

  def loss(prompts):
    model = split.merge({"bank/prompts": prompts}, split.frozen)
    return steps.loss_and_sums(model, batch_of(stored), Loss(), None)[0]

  gradient = jax.jit(jax.grad(loss))(jnp.asarray(stored[f"trainable/{PATH}"])[None])
  assert_close(gradient[0], stored[f"grad/{PATH}"])


def assert_decodes_agree(model, stored, prefix, name, decoding, eos_id):
  tokens = batch_of(stored)["encoder_input_tokens"]

  @jax.jit
  def decode(tokens):
    encoded, real = model.encode(tokens)
    cache = model.model.start_cache(encoded, real, 8, decoding.num_decodes)
    return decoding(model.model.decode_step, cache, len(tokens), 8, eos_id)

  found, scores = decode(tokens)
  np.testing.assert_array_equal(found, stored[f"{prefix}{name}/tokens"])
  expected = stored[f"{prefix}{name}/scores"]
  np.testing.assert_allclose(scores, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("size", "kind"), CASES)
@pytest.mark.parametrize(("name", "decoding"), of_names(ENDLESS))
def test_decoding_agrees(golden, models, size, kind, name, decoding):
  stored = golden(f"{size}_{kind}_A")
  model = prompted(models, stored, size)
  assert_decodes_agree(model, stored, "decode/", name, decoding, 1)


@pytest.mark.parametrize(("name", "decoding"), of_names(ENDING))
def test_decoding_that_ends_agrees(golden, models, name, decoding):
  stored = golden("mid_decode_eos_A")
  model = prompted(models, stored, "mid")
  assert_decodes_agree(model, stored, "", name, decoding, int(stored["eos_id"]))


def test_twenty_steps_of_training_agree(golden, models):
  stored = golden("tiny_prompt_traj20")
  batch = batch_of(golden("tiny_prompt_rank"))
  start = golden("tiny_prompt_A")[f"trainable/{PATH}"]
  split = states.Split.of(PromptedT5(models("tiny"), PromptBank(start)))
  optimizer = states.over_bank(
    Adafactor(multiply_by_parameter_scale=False, weight_decay_rate=1e-5).transformation(
      Schedule(factors="constant", base_learning_rate=0.3)
    )
  )
  state = states.create(split, optimizer, jax.random.key(0))
  step = steps.train_step(split, optimizer, Loss())
  for i in range(20):
    state, sums = step(state, split.frozen, batch)
    assert_close(sums["loss"], stored["loss_fn_at_step"][i])
    cross_entropy = Loss.metrics([jax.device_get(sums)])["cross_ent_loss"]
    assert_close(cross_entropy, stored["cross_ent_loss_metric"][i])
    assert_close(state.params["bank/prompts"][0], stored[f"traj/{PATH}"][i], 1e-3)
  slots: Slots = state.opt_state.slots["bank/prompts"]
  for name in Slots._fields:
    assert_close(getattr(slots, name)[0], stored[f"opt_state/{PATH}/{name}"], 1e-3)


def test_rank_classification_agrees(golden, models):
  stored = golden("tiny_prompt_rank")
  start = golden("tiny_prompt_A")[f"trainable/{PATH}"]
  model = PromptedT5(models("tiny"), PromptBank(start))
  tokens = batch_of(stored)["encoder_input_tokens"]
  candidates = jnp.asarray([[1465, 1, 0, 0], [2841, 1, 0, 0]], jnp.int32)

  best, scores = rank(
    lambda each: model.score_candidates(tokens, each),
    jnp.broadcast_to(candidates, (8, *candidates.shape)),
  )
  assert_close(scores, stored["scores"])
  np.testing.assert_array_equal(best, np.asarray(candidates)[stored["pred"]])


@pytest.mark.parametrize("length", [5, 127, 150])
@pytest.mark.parametrize("kind", ["prompt", "ia3"])
def test_adafactor_agrees(golden, kind, length):
  stored = golden("adafactor")
  optimizer, rate = Adafactor(), 3e-3
  if kind == "prompt":
    optimizer = Adafactor(multiply_by_parameter_scale=False, weight_decay_rate=1e-5)
    rate = 0.3
  transformation = optimizer.transformation(
    Schedule(factors="constant", base_learning_rate=rate)
  )
  params = jnp.asarray(stored[f"{kind}/L{length}/p0"])
  state = transformation.init(params)
  for i, grads in enumerate(stored[f"{kind}/L{length}/grads"]):
    updates, state = transformation.update(jnp.asarray(grads), state, params)
    params = params + updates
    assert_close(params, stored[f"{kind}/L{length}/params"][i], 1e-5)
  for name in ("v", "v_row", "v_col"):
    expected = stored[f"{kind}/L{length}/state_{name}"]
    assert_close(getattr(state.slots, name), expected, 1e-5)
