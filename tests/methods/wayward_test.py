"""Prompts that stay near a text: the price of distance, in the loss and in the numbers."""

import jax
import numpy as np
import optax
import pytest

from prompt_tuning import assembly, checks, trees
from prompt_tuning.data.vocabularies import Bytes
from prompt_tuning.method_tuning import MethodTuning
from prompt_tuning.methods.wayward import Wayward
from prompt_tuning.prompts.start import Prompt, Text
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

TEXT = "good"


def split_of(model, text=TEXT, length=4, gamma=0.5):
  prompt = Prompt(length=length, start=Text(text=text))
  learned = MethodTuning(method=Wayward(prompt=prompt, gamma=gamma))
  base = assembly.Base.of(model)
  return states.Split.of(learned.model(base, Bytes(), jax.random.key(0)))


def moved(model, batch, gamma, microbatches=None, count=1):
  """The prompt after some steps, and the sums of the last."""
  split = split_of(model, gamma=gamma)
  optimizer = optax.sgd(0.05)
  state = states.create(split, optimizer, jax.random.key(0))
  step = steps.train_step(split, optimizer, Loss(), microbatches)
  for _ in range(count):
    state, sums = step(state, split.frozen, batch)
  return state.params["bank/prompts"][0], jax.device_get(sums)


def text_of(model):
  table = trees.to_host(model.token_embedder.embedding[...])
  return table[Bytes().load().encode(TEXT)]


def test_it_starts_as_the_text(byte_t5):
  found = trees.values(split_of(byte_t5).tunable)["bank/prompts"][0]
  np.testing.assert_array_equal(found, text_of(byte_t5))


@pytest.mark.parametrize("microbatches", [None, 2])
def test_distance_has_its_price_once_a_batch(byte_t5, batch, microbatches):
  _, free = moved(byte_t5, batch, 0.0, microbatches)
  near, first = moved(byte_t5, batch, 0.5, microbatches)
  assert first["penalty"] == 0 and first["loss"] == pytest.approx(free["loss"])
  _, second = moved(byte_t5, batch, 0.5, microbatches, 2)
  expected = 0.5 * np.sum(np.square(near - text_of(byte_t5))) / 4
  assert second["penalty"] == pytest.approx(expected, rel=1e-5) and expected > 1e-4


def test_it_stands_apart_from_the_cross_entropy():
  rows = [{"loss": 9.0, "z_loss": 1.0, "right": 1.0, "tokens": 2.0, "penalty": 3.0}] * 2
  found = steps.metrics(Loss(), rows)
  assert found["penalty"] == 3 and found["cross_ent_loss"] == 5 and found["loss"] == 9
  without = [{k: v for k, v in row.items() if k != "penalty"} for row in rows]
  assert "penalty" not in steps.metrics(Loss(), without)


def test_the_dearer_it_is_the_nearer_it_stays(byte_t5, batch):
  far, _ = moved(byte_t5, batch, 0.0, count=5)
  near, _ = moved(byte_t5, batch, 5.0, count=5)
  text = text_of(byte_t5)
  assert np.linalg.norm(near - text) < 0.8 * np.linalg.norm(far - text)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"text": ""}, "TASK_STRING is ''"),
    ({"length": 7}, "PROMPT_LENGTH is 7 and TASK_STRING has 4 pieces.*PROMPT_LENGTH=4"),
    ({"gamma": -1.0}, "WAYWARD_GAMMA is -1.0"),
    ({"gamma": float("nan")}, "WAYWARD_GAMMA is nan"),
    ({"gamma": float("inf")}, "WAYWARD_GAMMA is inf"),
    ({"gamma": "a"}, "WAYWARD_GAMMA is 'a'"),
    ({"text": 3}, "TASK_STRING is 3, expected a text"),
  ],
)
def test_settings_that_cannot_be_are_refused(byte_t5, settings, message):
  with pytest.raises(checks.InputError, match=message):
    split_of(byte_t5, **settings)
