"""One step: only the prompt changes, parts of a batch add up, prompts do not mix."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks, trees
from prompt_tuning.models.t5 import T5
from prompt_tuning.partitioning import Partitioner, replicated, shard_batch
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule

BANK = "bank/prompts"


def setup(model, prompts, first_step=0):
  split = states.Split.of(PromptedT5(model, PromptBank(prompts)))
  optimizer = states.over_bank(
    Adafactor(multiply_by_parameter_scale=False, weight_decay_rate=1e-5).transformation(
      Schedule(factors="constant", base_learning_rate=0.3), first_step
    )
  )
  state = states.create(split, optimizer, jax.random.key(1), first_step)
  return split, optimizer, state


@pytest.fixture(scope="module")
def prompts():
  return jax.random.normal(jax.random.key(3), (2, 4, 16))


def test_only_the_prompt_changes(tiny_t5, prompts, batch):
  split, optimizer, state = setup(tiny_t5, prompts[:1])
  before = jax.tree.map(np.array, trees.values(split.frozen))
  step = steps.train_step(split, optimizer, Loss())
  for _ in range(3):
    state, _ = step(state, split.frozen, batch)
  for path, value in trees.values(split.frozen).items():
    np.testing.assert_array_equal(value, before[path])
  assert list(state.params) == [BANK]
  assert np.abs(state.params[BANK] - prompts[:1]).min() > 0
  assert int(state.step) == 3


def test_training_lowers_the_loss(tiny_t5, prompts, batch):
  split, optimizer, state = setup(tiny_t5, prompts[:1])
  step = steps.train_step(split, optimizer, Loss())
  losses = []
  for _ in range(30):
    state, sums = step(state, split.frozen, batch)
    losses.append(float(sums["loss"]))
  assert losses[-1] < 0.9 * losses[0]


def test_microbatches_add_up_to_the_batch(tiny_t5, prompts, batch):
  results = []
  for count in (None, 2, 4):
    split, optimizer, state = setup(tiny_t5, prompts[:1])
    step = steps.train_step(split, optimizer, Loss(), count)
    state, sums = step(state, split.frozen, batch)
    results.append((state.params[BANK], sums["loss"], sums["tokens"]))
  for params, loss, tokens in results[1:]:
    np.testing.assert_allclose(params, results[0][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, results[0][1], rtol=1e-5)
    assert tokens == results[0][2]


def test_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(checks.InputError, match="microbatches"):
    steps.check_microbatches(10, 4)


def test_prompts_of_a_bank_train_as_if_alone(tiny_t5, prompts, batch):
  together = {
    **{k: np.concatenate([v, v]) for k, v in batch.items()},
    "prompt_ids": np.repeat(np.arange(2, dtype=np.int32), 4),
  }
  split, optimizer, state = setup(tiny_t5, prompts)
  step = steps.train_step(split, optimizer, Loss())
  for _ in range(3):
    state, _ = step(state, split.frozen, together)
  for i in range(2):
    alone_split, alone_optimizer, alone = setup(tiny_t5, prompts[i])
    alone_step = steps.train_step(alone_split, alone_optimizer, Loss())
    for _ in range(3):
      alone, _ = alone_step(alone, alone_split.frozen, batch)
    np.testing.assert_allclose(
      state.params[BANK][i], alone.params[BANK][0], rtol=1e-4, atol=1e-4
    )


def test_a_batch_split_over_eight_devices_gives_the_same_step(tiny_t5, prompts, batch):
  doubled = {k: np.concatenate([v, v]) for k, v in batch.items()}
  results = []
  for batch_size in (8, 1):  # one row fits one device only
    mesh = Partitioner().mesh(batch_size)
    assert mesh.size == batch_size
    split, optimizer, state = setup(tiny_t5, prompts[:1])
    step = steps.train_step(split, optimizer, Loss())
    state, frozen = jax.device_put((state, split.frozen), replicated(mesh))
    for _ in range(3):
      state, sums = step(state, frozen, shard_batch(doubled, mesh))
    results.append((jax.device_get(state.params[BANK]), float(sums["loss"])))
  np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def test_a_restored_step_makes_every_update_as_large_as_the_learning_rate(
  tiny_t5, prompts, batch
):
  split, optimizer, state = setup(tiny_t5, prompts[:1], first_step=1_100_000)
  step = steps.train_step(split, optimizer, Loss())
  new, _ = step(state, split.frozen, batch)
  moved = new.params[BANK] - prompts[:1] * (1 - 1e-5)
  np.testing.assert_allclose(jnp.sqrt(jnp.mean(moved**2)), 0.3, rtol=1e-3)
  assert int(new.step) == 1_100_001


def test_each_step_drops_something_else(tiny_config, batch, prompts):
  config = dataclasses.replace(tiny_config, dropout_rate=0.3)
  model = T5.random(config, jax.random.key(0))
  losses = []
  for first_step in (0, 0, 1):
    split, optimizer, state = setup(model, prompts[:1], first_step)
    _, sums = steps.train_step(split, optimizer, Loss())(state, split.frozen, batch)
    losses.append(float(sums["loss"]))  # before the update, so of the same prompt
  assert losses[0] == losses[1] != losses[2]


def test_dropout_depends_on_the_step_only(tiny_config, batch, prompts):
  config = dataclasses.replace(tiny_config, dropout_rate=0.3)
  model = T5.random(config, jax.random.key(0))
  losses = []
  for _ in range(2):
    split, optimizer, state = setup(model, prompts[:1])
    step = steps.train_step(split, optimizer, Loss())
    for _ in range(2):
      state, sums = step(state, split.frozen, batch)
      losses.append(float(sums["loss"]))
  assert losses[:2] == losses[2:]
  plain = steps.eval_step(split, Loss())(state.params, split.frozen, batch)
  assert float(plain["loss"]) != losses[-1]
