"""A prompt in the decoder: the original's numbers, and promises about the caches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks, trees
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.decoding.sampling import Sampling
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.decoder_only import DecoderOnlyT5
from prompt_tuning.models.masks import decoder_mask
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted_decoder import PromptedDecoder
from prompt_tuning.prompts.sequences import shift_right
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.state import Split

PATH = "decoder/prompt/prompt/prompt"  # of the prompt in a T5X parameter tree
KINDS = ("prefix", "causal")
LENGTHS = ((6, 5), (3, 4), (0, 3), (4, 1))  # input and target tokens of each row
STEPS = 6


@pytest.fixture(scope="module")
def original(golden):
  """The original's prefix-LM: the model with its prompt, and its outputs."""
  config = T5Config(
    vocab_size=1024,
    d_model=256,
    num_heads=4,
    d_ff=512,
    num_encoder_layers=0,
    num_decoder_layers=2,
  )
  stored = golden("mid_deconly_prefixlm_A")
  model = DecoderOnlyT5(config, golden("mid_deconly_params"))
  bank = PromptBank(stored[f"trainable/{PATH}"])
  return PromptedDecoder(model, bank), stored


@pytest.fixture(scope="module")
def model(tiny_config):
  """Few buckets, so that a dozen tokens reach the last one."""
  config = dataclasses.replace(
    tiny_config, num_encoder_layers=0, relative_buckets=8, relative_max_distance=10
  )
  return DecoderOnlyT5.random(config, jax.random.key(0))


@pytest.fixture(scope="module")
def talker(model):
  """`model` for which neither padding nor EOS is ever among the best tokens.

  A single beam otherwise returns a sequence that ended as second best.
  """
  params = trees.values(model)
  name = "decoder/logits_dense/kernel"
  silenced = params[name].at[:, :2].set(0.0)
  return DecoderOnlyT5(model.config, params | {name: silenced})


@pytest.fixture(scope="module")
def prompts():
  return jax.random.normal(jax.random.key(3), (3, 4, 16))


@pytest.fixture(scope="module")
def batch():
  """Four rows as the feature converter of a prefix-LM gives them."""
  rng = np.random.default_rng(0)
  targets = rng.integers(3, 64, (4, 12)).astype(np.int32)
  causal = np.zeros_like(targets)
  for row, (input_len, target_len) in enumerate(LENGTHS):
    targets[row, input_len + target_len :] = 0
    causal[row, : input_len + 1] = 1
  inputs = np.asarray(shift_right(targets))
  return {"inputs": inputs, "targets": targets, "causal": causal}


@jax.jit
def forward(model, *features):
  return model.logits(*features)


@jax.jit
def score(model, *features):
  return model.score(*features)


@jax.jit
def step(model, tokens, cache):
  return model.model.decode_step(tokens, cache)


@functools.partial(jax.jit, static_argnames=("num_decodes",))
def start(model, tokens, causal=None, prompt_ids=None, num_decodes=1):
  return model.start(tokens, STEPS, causal, prompt_ids, num_decodes)


def assert_close(found, expected, tolerance=1e-5):
  scale = np.max(np.abs(expected))
  np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def features(stored):
  names = ("input_tokens", "target_tokens", "causal_attention", "loss_weights")
  return [stored[f"batch/decoder_{name}"] for name in names]


def teacher_forced(model, batch, kind, prompt_ids=None):
  causal = batch["causal"] if kind == "prefix" else None
  return forward(model, batch["inputs"], batch["targets"], causal, prompt_ids)


def starting(batch, kind):
  """What decoding starts from: (tokens, decoder_causal_attention)."""
  if kind == "prefix":
    return jnp.asarray(batch["inputs"]), batch["causal"]
  return jnp.asarray(batch["inputs"] * batch["causal"]), None


def generated(model, batch, kind, **extra):
  tokens, causal = starting(batch, kind)
  return jax.jit(lambda t, c: model.generate_all(t, STEPS, c, **extra))(tokens, causal)


def stepped(model, batch, kind, prompt_ids=None):
  """Logits of the first steps, fed with the batch's own tokens: [rows, steps, vocab]."""
  tokens, causal = starting(batch, kind)
  (last, cache), found = start(model, tokens, causal, prompt_ids), []
  for i in range(5):
    logits, cache = step(model, last, cache)
    found.append(logits)
    at = np.minimum(batch["causal"].sum(axis=1) + i, 11)
    last = jnp.asarray(batch["inputs"][np.arange(len(at)), at])
  return jnp.stack(found, axis=1)


def test_logits_loss_and_scores_are_the_original_s(original):
  model, stored = original
  inputs, targets, causal, weights = features(stored)
  logits = forward(model, inputs, targets, causal)
  for real in (weights > 0, targets > 0):
    assert_close(logits[real], stored["logits"][real])
  loss, _ = Loss()(logits, targets, weights)
  assert_close(jnp.sum(loss), stored["loss"])
  scores = score(model, inputs, targets, weights, causal)
  assert_close(scores, stored["sequence_scores"])


def test_the_gradient_of_the_prompt_is_the_original_s(original):
  model, stored = original
  inputs, targets, causal, weights = features(stored)
  split = Split.of(model)

  def loss(prompts):
    prompted = split.merge({"bank/prompts": prompts}, split.frozen)
    logits = prompted.logits(inputs, targets, causal)
    return jnp.sum(Loss()(logits, targets, weights)[0])

  start = jnp.asarray(stored[f"trainable/{PATH}"])[None]
  assert_close(jax.jit(jax.grad(loss))(start)[0], stored[f"grad/{PATH}"])


def test_greedy_continuations_are_the_original_s(original):
  model, stored = original
  inputs, _, causal, _ = features(stored)
  expected = stored["decode/greedy_topk1/tokens"]
  found, _ = jax.jit(lambda x, c: model.generate(x, 24, c))(inputs, causal)
  # The original stops a row when it fills the batch's length, inputs included.
  room = 24 - (causal.sum(axis=1, keepdims=True) - 1)
  np.testing.assert_array_equal(np.where(np.arange(24)[None] < room, found, 0), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_prompts", [0, 1, 3, 5])
def test_cached_steps_equal_teacher_forcing(model, prompts, batch, kind, num_prompts):
  several = jnp.concatenate([prompts, prompts + 1])[:num_prompts]
  prompted = PromptedDecoder(model, PromptBank(several) if num_prompts else None)
  ids = np.array([2, 0, 1, 2], np.int32) if num_prompts > 1 else None
  expected = teacher_forced(prompted, batch, kind, ids)
  found = stepped(prompted, batch, kind, ids)
  for row, (input_len, target_len) in enumerate(LENGTHS):
    assert_close(found[row, :target_len], expected[row, input_len:][:target_len], 2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_continuations_equal_teacher_forcing(talker, prompts, batch, kind):
  prompted = PromptedDecoder(talker, PromptBank(prompts[0]))
  tokens, scores = generated(prompted, batch, kind)
  targets = batch["targets"].copy()
  for row, (input_len, _) in enumerate(LENGTHS):
    targets[row, input_len:] = 0
    targets[row, input_len : input_len + STEPS] = tokens[row, 0]
  whole = {**batch, "targets": targets, "inputs": shift_right(targets)}
  logits = teacher_forced(prompted, whole, kind)
  for row, (input_len, _) in enumerate(LENGTHS):
    answer = logits[row, input_len : input_len + STEPS]
    np.testing.assert_array_equal(jnp.argmax(answer, axis=-1), tokens[row, 0])
    likelihood = jnp.sum(jnp.max(jax.nn.log_softmax(answer, axis=-1), axis=-1))
    np.testing.assert_allclose(scores[row, 0], likelihood, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_follows_the_end_of_a_sequence(model, prompts, batch, kind):
  params = trees.values(model)
  name = "decoder/logits_dense/kernel"
  eager = params[name].at[:, 1].multiply(4.0)
  prompted = PromptedDecoder(
    DecoderOnlyT5(model.config, params | {name: eager}), PromptBank(prompts[0])
  )
  tokens, _ = generated(prompted, batch, kind)
  ended = np.cumsum(tokens[:, 0] == 1, axis=1)
  assert ended.max() == 1
  np.testing.assert_array_equal(tokens[:, 0][(ended == 1) & (tokens[:, 0] != 1)], 0)


def test_one_prompt_is_cached_once_for_all_rows(model, prompts, batch):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  tokens, _ = starting(batch, "causal")
  _, cache = start(prompted, tokens, num_decodes=2)
  shared, inputs = cache.contexts
  for layer in range(2):
    assert shared.layers[layer].keys.shape == (1, 4, 2, 8)
    assert shared.layers[layer].values.shape == (1, 4, 2, 8)
    assert inputs.layers[layer].keys.shape == (4, 12, 2, 8)
    assert cache.decoded[layer].keys.shape == (8, STEPS, 2, 8)


def test_inputs_that_see_each_other_are_cached_once_for_all_decodes(model, prompts, batch):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  _, cache = start(prompted, *starting(batch, "prefix"), num_decodes=3)
  assert [x.layers[0].keys.shape for x in cache.contexts] == [(4, 4 + 12, 2, 8)]
  assert cache.decoded[0].keys.shape == (12, STEPS, 2, 8)


def test_a_shared_prompt_is_as_good_as_one_for_every_row(model, prompts, batch):
  shared = PromptedDecoder(model, PromptBank(prompts[0]))
  same = PromptedDecoder(model, PromptBank(jnp.stack([prompts[0]] * 2)))
  ids = np.array([0, 1, 1, 0], np.int32)
  found = stepped(same, batch, "causal", ids)
  assert_close(stepped(shared, batch, "causal"), found)
  _, cache = start(same, *starting(batch, "causal"), ids)
  assert cache.contexts[0].layers[0].keys.shape == (4, 4, 2, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_gets_its_own_prompt(model, prompts, batch, kind):
  ids = np.array([2, 0, 1, 2], np.int32)
  mixed = PromptedDecoder(model, PromptBank(prompts))
  logits, steps = teacher_forced(mixed, batch, kind, ids), stepped(mixed, batch, kind, ids)
  real = batch["targets"] > 0
  for row, prompt_id in enumerate(ids):
    alone = PromptedDecoder(model, PromptBank(prompts[prompt_id]))
    one = {name: x[row : row + 1] for name, x in batch.items()}
    assert_close(logits[row][real[row]], teacher_forced(alone, one, kind)[0][real[row]])
    assert_close(steps[row], stepped(alone, one, kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_different_lengths_act_as_they_do_alone(model, prompts, batch, kind):
  several = [np.asarray(prompts[i, : 4 - i]) for i in range(3)]
  mixed = PromptedDecoder(model, PromptBank.of(several))
  ids = np.array([2, 0, 1, 2], np.int32)
  logits, steps = teacher_forced(mixed, batch, kind, ids), stepped(mixed, batch, kind, ids)
  real = batch["targets"] > 0
  for row, prompt_id in enumerate(ids):
    alone = PromptedDecoder(model, PromptBank(several[prompt_id]))
    one = {name: x[row : row + 1] for name, x in batch.items()}
    assert_close(logits[row][real[row]], teacher_forced(alone, one, kind)[0][real[row]])
    assert_close(steps[row], stepped(alone, one, kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_changes_nothing(model, prompts, batch, kind):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  order = [2, 0, 3, 1]
  turned = {name: x[order] for name, x in batch.items()}
  real = turned["targets"] > 0
  before, after = (teacher_forced(prompted, x, kind) for x in (batch, turned))
  assert_close(after[real], before[jnp.asarray(order)][real])
  before, after = (stepped(prompted, x, kind) for x in (batch, turned))
  assert_close(after, before[jnp.asarray(order)])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(model, prompts, batch, kind):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  padded = {name: np.pad(x, ((0, 0), (0, 5))) for name, x in batch.items()}
  real = batch["targets"] > 0
  before, after = (teacher_forced(prompted, x, kind) for x in (batch, padded))
  assert_close(after[:, :12][real], before[real])
  before, after = (stepped(prompted, x, kind) for x in (batch, padded))
  assert_close(after, before)


@pytest.mark.parametrize("kind", KINDS)
def test_one_beam_the_best_token_and_greedy_are_the_same(talker, prompts, batch, kind):
  prompted = PromptedDecoder(talker, PromptBank(prompts[0]))
  tokens, scores = generated(prompted, batch, kind)
  beam, beam_scores = generated(
    prompted, batch, kind, decoding=Beam(num_decodes=1, alpha=0)
  )
  np.testing.assert_array_equal(beam, tokens)
  np.testing.assert_allclose(beam_scores, scores, rtol=1e-5)
  # Decodes of one input share what is cached of it.
  sampling = Sampling(num_decodes=3, topk=1)
  drawn, _ = generated(prompted, batch, kind, decoding=sampling, key=jax.random.key(1))
  np.testing.assert_array_equal(drawn, jnp.repeat(tokens, 3, axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_beams_have_the_likelihood_of_their_tokens(talker, prompts, batch, kind):
  prompted = PromptedDecoder(talker, PromptBank(prompts[0]))
  tokens, scores = generated(prompted, batch, kind, decoding=Beam(num_decodes=3, alpha=0))
  assert (np.diff(scores, axis=1) >= 0).all()
  for row, (input_len, _) in enumerate(LENGTHS):
    targets = np.zeros((3, 12), np.int32)
    targets[:, :input_len] = batch["targets"][row, :input_len]
    targets[:, input_len : input_len + STEPS] = tokens[row]
    inputs = shift_right(targets)
    at = np.broadcast_to(np.arange(12), targets.shape)
    weights = ((at >= input_len) & (targets > 0)).astype(np.int32)
    causal = (at <= input_len).astype(np.int32) if kind == "prefix" else None
    found = score(prompted, inputs, targets, weights, causal)
    np.testing.assert_allclose(scores[row], found, rtol=1e-4)


def test_a_row_that_pads_the_batch_does_no_harm(model, prompts, batch):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  padded = {name: np.concatenate([x, x[:1] * 0]) for name, x in batch.items()}
  tokens, scores = generated(prompted, padded, "prefix")
  assert np.isfinite(scores).all()
  np.testing.assert_array_equal(tokens[:4], generated(prompted, batch, "prefix")[0])


def test_inputs_see_each_other_only_where_they_are_marked(model, prompts, batch):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  changed = {name: x.copy() for name, x in batch.items()}
  changed["inputs"][0, 6] = 7  # the last input of the first row
  for kind, seen in (("prefix", True), ("causal", False)):
    before, after = (teacher_forced(prompted, x, kind)[0, :6] for x in (batch, changed))
    assert (np.abs(before - after).max() > 1e-3) == seen


def test_targets_are_not_read_when_decoding(model, prompts, batch):
  prompted = PromptedDecoder(model, PromptBank(prompts[0]))
  changed = {**batch, "inputs": np.where(batch["causal"] > 0, batch["inputs"], 9)}
  expected, found = (generated(prompted, x, "prefix") for x in (batch, changed))
  np.testing.assert_array_equal(found[0], expected[0])
  np.testing.assert_array_equal(found[1], expected[1])


def test_without_a_bank_it_is_the_plain_model(model, prompts, batch):
  plain = teacher_forced(PromptedDecoder(model), batch, "causal")
  mask = decoder_mask(jnp.asarray(batch["targets"] > 0))
  expected = model.decode(model.embed(batch["inputs"]), mask)
  real = batch["targets"] > 0
  assert_close(plain[real], expected[real])
  prompted = teacher_forced(PromptedDecoder(model, PromptBank(prompts[0])), batch, "causal")
  assert np.abs(plain - prompted)[real].max() > 1e-3


def test_only_the_bank_is_tunable(model, prompts):
  split = Split.of(PromptedDecoder(model, PromptBank(prompts)))
  assert list(trees.values(split.tunable)) == ["bank/prompts"]
  names = {path.removeprefix("model/") for path in trees.values(split.frozen)}
  assert names == set(trees.values(model))


def test_a_prompt_of_another_width_is_refused(model):
  with pytest.raises(checks.InputError, match=r"\[1, 4, 8\], expected \[1, 4, 16\]"):
    PromptedDecoder(model, PromptBank(np.zeros((4, 8), np.float32)))


@pytest.mark.parametrize("kind", KINDS)
def test_several_prompts_without_a_choice_are_refused(model, prompts, batch, kind):
  prompted = PromptedDecoder(model, PromptBank(prompts))
  with pytest.raises(checks.InputError, match="the bank holds 3 prompts"):
    generated(prompted, batch, kind)
