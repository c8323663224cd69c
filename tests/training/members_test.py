"""Members of one step: each learns as if it were alone with the frozen model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import members, steps
from prompt_tuning.training import state as states
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule

pytestmark = pytest.mark.usefixtures("compiled_as_for_users")

BANK = "bank/prompts"
RATES = [
  Schedule(factors="constant", base_learning_rate=0.3),
  Schedule(factors="constant * rsqrt_decay", base_learning_rate=0.1, warmup_steps=2),
  Schedule(factors="constant", base_learning_rate=0.01),
]
LOSS = Loss(normalizing_factor="NUM_REAL_TARGET_TOKENS")


def optimizer(rate):
  found = Adafactor(multiply_by_parameter_scale=False, weight_decay_rate=1e-5)
  return states.over_bank(found.transformation(rate))


@pytest.fixture(scope="module")
def started(tiny_config):
  """A model with dropout, and three members before their first update."""
  model = T5.random(dataclasses.replace(tiny_config, dropout_rate=0.3), jax.random.key(0))
  found = []
  for seed, rate in enumerate(RATES):
    prompt = jax.random.normal(jax.random.key(seed), (4, 16))
    split = states.Split.of(PromptedT5(model, PromptBank(prompt)))
    found.append(states.create(split, optimizer(rate), jax.random.key(10 + seed)))
  return split, found


@pytest.fixture(scope="module")
def batches(batch):
  """Rows of each member: of different targets, and of different numbers of them."""
  found = []
  for member in range(len(RATES)):
    weights = batch["decoder_loss_weights"].copy()
    weights[:, member + 1 :] = 0
    found.append({**batch, "decoder_loss_weights": weights})
  return found


@pytest.fixture(scope="module")
def alone(started, batches):
  """Four updates of each member alone: prompts after each, and the sums."""
  split, starts = started
  found = []
  for rate, start, batch in zip(RATES, starts, batches, strict=True):
    step = steps.train_step(split, optimizer(rate), LOSS)
    state, prompts, sums = jax.tree.map(jnp.copy, start), [], []
    for _ in range(4):
      state, of_step = step(state, split.frozen, batch)
      prompts.append(np.array(state.params[BANK]))
      sums.append({name: float(value) for name, value in of_step.items()})
    found.append((prompts, sums))
  return found


def stacked(batches):
  return {name: np.stack([one[name] for one in batches]) for name in batches[0]}


def test_members_learn_as_if_alone_and_after_others_left(started, batches, alone):
  """Two at once of three; then the first and the last, both at once."""
  split, starts = started
  state, found = members.stack(starts), []
  for here in ([0, 1, 2], [0, 2]):
    rates = [RATES[member] for member in here]
    step = members.train_step(split, optimizer, rates, LOSS, at_once=2)
    batch = stacked([batches[member] for member in here])
    for _ in range(2):
      state, sums = step(state, split.frozen, batch)
      found.append(dict(zip(here, zip(*sums.values(), strict=True), strict=True)))
    if here == [0, 1, 2]:
      state = members.take(state, [0, 2])
  for place, member in enumerate([0, 2]):
    prompts, sums = alone[member]
    ours = state.params[BANK][place]
    np.testing.assert_allclose(ours, prompts[-1], rtol=1e-4, atol=1e-5)
    for row, expected in zip(found, sums, strict=True):
      np.testing.assert_allclose(row[member], list(expected.values()), rtol=1e-4)
  assert state.step.tolist() == [4, 4]


def test_one_after_another_is_bit_for_bit_what_each_is_alone(started, batches, alone):
  split, starts = started
  step = members.train_step(split, optimizer, RATES, LOSS, at_once=1)
  state = members.stack(starts)
  for number in range(3):
    state, _ = step(state, split.frozen, stacked(batches))
    for member, (prompts, _) in enumerate(alone):
      np.testing.assert_array_equal(state.params[BANK][member], prompts[number])


def test_a_member_that_is_no_number_spoils_no_other(started, batches):
  split, starts = started
  step = members.train_step(split, optimizer, RATES, LOSS, at_once=3)
  state = members.stack(starts)
  spoilt = state.params[BANK].at[1].set(jnp.nan)
  state = dataclasses.replace(state, params={BANK: spoilt})
  state, sums = step(state, split.frozen, stacked(batches))
  assert np.isfinite(sums["loss"]).tolist() == [True, False, True]
  assert np.isfinite(state.params[BANK]).all((1, 2, 3)).tolist() == [True, False, True]


def test_microbatches_of_a_member_add_up(started, batches):
  split, starts = started
  plain = Loss()
  step = members.train_step(split, optimizer, RATES[:1], plain, 1, num_microbatches=2)
  state, sums = step(members.stack(starts[:1]), split.frozen, stacked(batches[:1]))
  one = steps.train_step(split, optimizer(RATES[0]), plain, 2)
  expected, whole = one(jax.tree.map(jnp.copy, starts[0]), split.frozen, batches[0])
  np.testing.assert_allclose(state.params[BANK][0], expected.params[BANK], rtol=1e-5)
  assert float(sums["loss"][0]) == pytest.approx(float(whole["loss"]), rel=1e-5)
