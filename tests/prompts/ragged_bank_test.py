"""Banks of prompts of different lengths: each prompt acts as it does alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.prompts import combine
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import steps

LENGTHS = (3, 6, 0, 1)
IDS = np.array([2, 0, 1, 3], np.int32)


@pytest.fixture(scope="module")
def prompts():
  rng = np.random.default_rng(5)
  return [rng.normal(size=(length, 16)).astype(np.float32) for length in LENGTHS]


def outputs(model, bank, batch, ids=None):
  return jax.device_get(compiled(model, bank, {**batch, "prompt_ids": ids}))


@jax.jit
def compiled(model, bank, batch):
  """Logits, likelihoods and beam search of one model."""
  prompted = PromptedT5(model, bank)
  tokens, targets, ids = (
    batch[name] for name in ("encoder_input_tokens", "decoder_target_tokens", "prompt_ids")
  )
  answers = prompted.generate_all(tokens, 4, ids, Beam(num_decodes=2))
  logits = prompted.logits(**steps.features(batch))
  return *answers, prompted.score(tokens, targets, ids), logits


def assert_rows_equal(found, row, alone, batch):
  np.testing.assert_array_equal(found[0][row], alone[0][0])
  real = batch["decoder_target_tokens"][row] > 0
  pairs = [(found[i][row], alone[i][0]) for i in (1, 2)]
  for one, other in [*pairs, (found[3][row][real], alone[3][0][real])]:
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_each_prompt_is_as_it_is_alone(tiny_t5, batch, prompts):
  mixed = outputs(tiny_t5, PromptBank.of(prompts), batch, IDS)
  for row, prompt_id in enumerate(IDS):
    bank = PromptBank(prompts[prompt_id]) if LENGTHS[prompt_id] else None
    one = {name: value[row : row + 1] for name, value in batch.items()}
    assert_rows_equal(mixed, row, outputs(tiny_t5, bank, one), batch)


def test_a_prompt_of_length_zero_is_the_untuned_model(tiny_t5, batch, prompts):
  zeros = np.full(4, 2, np.int32)
  found = outputs(tiny_t5, PromptBank.of(prompts), batch, zeros)
  plain = outputs(tiny_t5, None, batch)
  prompted = outputs(tiny_t5, PromptBank.of(prompts), batch, np.full(4, 1, np.int32))
  real = batch["decoder_target_tokens"] > 0
  np.testing.assert_allclose(found[3][real], plain[3][real], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(found[1], plain[1], rtol=1e-5, atol=1e-5)
  assert np.abs(prompted[3][real] - plain[3][real]).max() > 1e-2


def with_garbage(bank, garbage):
  """The bank with other numbers in the slots that its shorter prompts leave free."""
  lengths = np.asarray(bank.lengths.get_value())
  array = np.array(bank.prompts.get_value())
  for prompt, length in zip(array, lengths, strict=True):
    prompt[: len(prompt) - length] = garbage
  return PromptBank(array, lengths)


def test_free_slots_have_no_influence(tiny_t5, batch, prompts):
  bank = PromptBank.of(prompts)
  found = outputs(tiny_t5, bank, batch, IDS)
  for garbage in (1e3, -7.0):
    others = outputs(tiny_t5, with_garbage(bank, garbage), batch, IDS)
    real = batch["decoder_target_tokens"] > 0
    np.testing.assert_array_equal(others[0], found[0])
    np.testing.assert_allclose(others[1], found[1], rtol=1e-6)
    np.testing.assert_allclose(others[3][real], found[3][real], rtol=1e-6, atol=1e-6)


def test_free_slots_learn_nothing(tiny_t5, batch, prompts):
  bank = with_garbage(PromptBank.of(prompts), 1e3)
  lengths = np.asarray(bank.lengths.get_value())

  @jax.jit
  @jax.grad
  def gradient(array):
    model = PromptedT5(tiny_t5, PromptBank(array, lengths))
    tokens, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
    return jnp.sum(model.score(tokens, targets, IDS))

  found = gradient(bank.prompts.get_value())
  for each, length in zip(found, lengths, strict=True):
    np.testing.assert_array_equal(each[: 6 - length], 0.0)
    assert np.all(np.abs(each[6 - length :]).max(axis=1) > 0)


def test_prompts_end_together():
  bank = PromptBank.of([np.full((1, 2), 5.0), np.full((3, 2), 7.0), np.zeros((0, 2))])
  np.testing.assert_array_equal(
    bank.prompts.get_value()[..., 0], [[0, 0, 5], [7, 7, 7], [0, 0, 0]]
  )
  used = bank.used(np.array([2, 0, 1]), 3)
  np.testing.assert_array_equal(used, [[False] * 3, [False, False, True], [True] * 3])
  np.testing.assert_array_equal(PromptBank.of([np.ones((2, 2))]).used(None, 4), True)


def test_prompts_of_one_length_need_no_lengths():
  assert PromptBank.of([np.ones((3, 4)), np.zeros((3, 4))]).lengths is None
  assert PromptBank.of([np.ones((3, 4)), np.zeros((2, 4))]).lengths is not None


@pytest.mark.parametrize(
  "shapes", [[], [(3, 4), (3, 5)], [(4,)], [(1, 3, 4)], [(3, 4), (4,)]], ids=str
)
def test_what_cannot_be_one_bank_is_refused(shapes):
  with pytest.raises(checks.InputError, match="expected one or more") as caught:
    PromptBank.of([np.zeros(shape, np.float32) for shape in shapes])
  assert str([list(shape) for shape in shapes]) in str(caught.value)


@pytest.mark.parametrize("how", [combine.suffix, combine.suffix_before_eos])
def test_only_prefixes_may_differ_in_length(tiny_t5, prompts, how):
  refusal = "prompts of different lengths, expected combine=prefix"
  with pytest.raises(checks.InputError, match=refusal):
    PromptedT5(tiny_t5, PromptBank.of(prompts), how)
  PromptedT5(tiny_t5, PromptBank.of(prompts[:1]), how)


def test_a_ragged_bank_asks_for_ids(tiny_t5, batch, prompts):
  model = PromptedT5(tiny_t5, PromptBank.of(prompts))
  encode = functools.partial(model.encode, batch["encoder_input_tokens"])
  with pytest.raises(checks.InputError, match="holds 4 prompts and no prompt_ids"):
    encode()


def test_which_positions_are_real(tiny_t5, batch, prompts):
  model = PromptedT5(tiny_t5, PromptBank.of(prompts))
  encoded, real = jax.jit(model.encode)(batch["encoder_input_tokens"], IDS)
  lengths = np.asarray(LENGTHS)[IDS]
  np.testing.assert_array_equal(np.sum(real[:, :6], axis=1), lengths)
  np.testing.assert_array_equal(real[:, 6:], batch["encoder_input_tokens"] > 0)
  np.testing.assert_array_equal(encoded[~real], 0.0)
