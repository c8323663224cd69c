"""Recyclers: what each of them recovers, and what it refuses."""

import jax
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.methods import recycling
from prompt_tuning.methods.recycling import RECYCLERS, Combination, Linear
from prompt_tuning.methods.recycling_network import Network

RNG = np.random.default_rng(0)
SOURCE = RNG.normal(size=(200, 12)).astype(np.float32)
MATRIX = RNG.normal(size=(12, 7)).astype(np.float32)
PROMPT = RNG.normal(size=(5, 12)).astype(np.float32)
QUICK = {"v2v-nn": {"epochs": 2}}


def made(name):
  return RECYCLERS[name](**QUICK.get(name, {}))


@pytest.mark.parametrize("recycler", [Linear(), Combination()])
def test_a_linear_relation_is_recovered(recycler):
  mapping = recycler.fit(SOURCE, SOURCE @ MATRIX)
  np.testing.assert_allclose(mapping(PROMPT), PROMPT @ MATRIX, atol=1e-5)


@pytest.mark.parametrize("recycler", [Linear(), Combination()])
def test_between_equal_models_a_prompt_stays_as_it_is(recycler):
  np.testing.assert_allclose(recycler.fit(SOURCE, SOURCE)(PROMPT), PROMPT, atol=1e-5)


def test_the_matrix_has_the_least_squares():
  target = np.tanh(SOURCE @ MATRIX)
  matrix = Linear().fit(SOURCE, target).matrix
  residual = SOURCE @ matrix - target
  assert np.abs(residual).max() > 0.1
  np.testing.assert_allclose(SOURCE.T @ residual, np.zeros((12, 7)), atol=1e-4)


def test_of_several_matrices_it_is_the_smallest():
  few, target = SOURCE[:6], SOURCE[:6] @ MATRIX  # 6 equations for 12 unknowns
  matrix = Linear().fit(few, target).matrix
  np.testing.assert_allclose(few @ matrix, target, atol=1e-4)
  np.testing.assert_allclose(matrix, np.linalg.pinv(few) @ target, atol=1e-4)


@pytest.mark.parametrize("words", [6, 12, 200])
def test_a_combination_of_words_is_the_matrix_in_another_order(words):
  source, target = SOURCE[:words], np.tanh(SOURCE @ MATRIX)[:words]
  weighed = Combination().fit(source, target)(PROMPT)
  np.testing.assert_allclose(weighed, Linear().fit(source, target)(PROMPT), atol=1e-4)


def test_the_weights_of_a_combination_make_up_the_prompt():
  target = np.eye(200, dtype=np.float32)  # the summed vectors are then the weights
  weights = Combination().fit(SOURCE, target)(PROMPT)
  np.testing.assert_allclose(weights @ SOURCE, PROMPT, atol=1e-5)
  np.testing.assert_allclose(weights, PROMPT @ np.linalg.pinv(SOURCE), atol=1e-5)


def test_the_network_learns_what_no_matrix_can():
  source = RNG.normal(size=(1200, 8)).astype(np.float32)
  target = np.abs(source) @ RNG.normal(size=(8, 6)).astype(np.float32)
  train, test = slice(0, 1000), slice(1000, None)
  network = Network(hidden_scale=16, learning_rate=3e-3, epochs=50)
  errors = {}
  for name, recycler in (("lin", Linear()), ("nn", network)):
    mapping = recycler.fit(source[train], target[train])
    mean = target[train].mean(0, keepdims=True)
    errors[name] = recycling.relative_error(mapping(source[test]), target[test], mean)
  assert errors["nn"] < 0.4 < 0.9 < errors["lin"]


def test_the_network_is_the_original_s_by_default():
  defaults = Network(hidden_scale=4, batch_size=50, learning_rate=3e-4, epochs=25, seed=0)
  assert Network() == defaults
  params = Network(epochs=1).fit(SOURCE, SOURCE @ MATRIX).params
  shapes = jax.tree.map(np.shape, params)
  assert shapes["Dense_0"] == {"kernel": (12, 28), "bias": (28,)}
  assert shapes["Dense_1"] == {"kernel": (28, 7), "bias": (7,)}


def test_a_step_of_the_network_is_adam_on_the_mean_of_half_the_squared_error():
  """One batch of pairs so short that Adam's epsilon shows the scale, against numpy."""
  source = SOURCE * np.float32(3e-4)
  target = source @ MATRIX
  still = Network(epochs=1, batch_size=200, learning_rate=0.0).fit(source, target).params
  moved = Network(epochs=1, batch_size=200, learning_rate=0.01).fit(source, target).params
  hidden = np.maximum(source @ still["Dense_0"]["kernel"], 0)
  gradient = (hidden @ still["Dense_1"]["kernel"] - target) / target.size
  expected = hidden.T @ gradient
  step = -0.01 * expected / (np.abs(expected) + 1e-8)
  assert np.abs(step).min() < 0.005
  found = moved["Dense_1"]["kernel"] - still["Dense_1"]["kernel"]
  np.testing.assert_allclose(found, step, atol=2e-5)


def test_a_rest_of_pairs_is_learned_from_too():
  """3 pairs in batches of 2: the last one alone still moves the weights."""
  whole = Network(epochs=1, batch_size=2).fit(SOURCE[:2], SOURCE[:2] @ MATRIX)
  more = Network(epochs=1, batch_size=2).fit(SOURCE[:3], SOURCE[:3] @ MATRIX)
  moved = [np.abs(m.params["Dense_1"]["bias"]).max() for m in (whole, more)]
  assert moved[1] > 1.5 * moved[0]  # two steps of Adam instead of one


def test_the_seed_decides():
  prompts = [
    Network(epochs=2, seed=seed).fit(SOURCE, SOURCE @ MATRIX)(PROMPT) for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(prompts[0], prompts[1])
  assert np.abs(prompts[0] - prompts[2]).max() > 1e-3


@pytest.mark.parametrize("name", list(RECYCLERS))
def test_prompts_are_as_wide_as_the_target_and_float32(name):
  prompt = made(name).fit(SOURCE, SOURCE @ MATRIX)(PROMPT)
  assert prompt.shape == (5, 7) and prompt.dtype == np.float32


@pytest.mark.parametrize("name", list(RECYCLERS))
def test_a_prompt_of_another_width_is_refused(name):
  mapping = made(name).fit(SOURCE, SOURCE @ MATRIX)
  for shape in ((5, 7), (12,), (1, 5, 12)):
    with pytest.raises(checks.InputError, match="the prompt has shape") as told:
      mapping(np.ones(shape, np.float32))
    assert "12]; choose a prompt of the source model" in str(told.value)


@pytest.mark.parametrize("name", list(RECYCLERS))
def test_pairs_that_are_none_are_refused(name):
  with pytest.raises(checks.InputError, match=r"\[\[200, 12\], \[199, 7\]\], expected"):
    made(name).fit(SOURCE, np.ones((199, 7), np.float32))
  with pytest.raises(checks.InputError, match="there are no pairs"):
    made(name).fit(SOURCE[:0], SOURCE[:0])


def test_a_fit_that_diverges_is_refused():
  with pytest.raises(checks.InputError, match=r"not finite.*lower learning_rate"):
    Network(learning_rate=1e30, epochs=3).fit(SOURCE, SOURCE @ MATRIX)


@pytest.mark.parametrize(
  "setting",
  [{"epochs": 0}, {"batch_size": 0}, {"hidden_scale": 1.5}, {"seed": -1}]
  + [{"learning_rate": value} for value in (-1e-3, float("nan"), "0.1")],
)
def test_a_setting_that_makes_no_sense_is_refused(setting):
  (name,) = setting
  with pytest.raises(checks.InputError, match=f"{name} is .*, expected a"):
    Network(**setting)


def test_the_relative_error_is_0_for_the_right_vectors_and_1_for_their_mean():
  target = SOURCE @ MATRIX
  mean = target.mean(0, keepdims=True)
  assert recycling.relative_error(target, target, mean) == 0
  answered = np.repeat(mean, len(target), axis=0)
  assert recycling.relative_error(answered, target, mean) == pytest.approx(1)
  halfway = (answered + target) / 2
  assert recycling.relative_error(halfway, target, mean) == pytest.approx(0.5)
