"""Losses of candidates against their formulas in numpy, and that the margin matters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prompt_tuning import checks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.candidate_losses import Hinge, LabelCrossEntropy, as_rows
from prompt_tuning.training.losses import token_losses

WIDTH, VOCAB, LENGTH = 5, 11, 6
# tokens of each candidate, and which are right: one, several, all, none, padding in front
SIZES = [(2, 3, 1), (4, 4, 6), (1, 2, 0), (3, 1, 2), (0, 2, 5)]
RIGHT = [(0, 1, 0), (1, 0, 1), (1, 1, 0), (0, 0, 0), (1, 0, 1)]
CRITERIA = [
  Hinge(),
  Hinge(margin=1.5, length_normalize=False),
  LabelCrossEntropy(z_loss=0.01, label_smoothing=0.1),
  LabelCrossEntropy(z_loss=0.0, length_normalize=False),
]


def problem(seed=0):
  """Hidden states, the matrix of the logits, and a batch of five examples."""
  rng = np.random.default_rng(seed)
  shape = (len(SIZES), len(SIZES[0]), LENGTH)
  real = np.arange(LENGTH) < np.array(SIZES)[..., None]
  batch = {
    "decoder_target_tokens": (rng.integers(1, VOCAB, shape) * real).astype(np.int32),
    "decoder_loss_weights": real.astype(np.int32),
    "is_correct": np.array(RIGHT, bool),
  }
  rows = shape[0] * shape[1]
  hidden = rng.normal(size=(rows, LENGTH, WIDTH)).astype(np.float32)
  kernel = rng.normal(size=(WIDTH, VOCAB)).astype(np.float32)
  return hidden, kernel, batch


@functools.partial(jax.jit, static_argnums=0)
def found(loss, hidden, kernel, batch):
  return loss.of_hidden(hidden, lambda x: x @ kernel, batch)


@functools.partial(jax.jit, static_argnums=0)
def slopes(loss, hidden, kernel, batch):
  """The loss and its gradient by the hidden states."""
  return jax.value_and_grad(lambda x: found(loss, x, kernel, batch)[0])(hidden)


def scores_by_formula(loss, hidden, kernel, batch):
  """A list of the scores of each example, without padding, and which are right."""
  logits = np.float64(hidden) @ np.float64(kernel)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  log_p = log_p.reshape(*batch["decoder_target_tokens"].shape, VOCAB)
  examples = []
  for b, sizes in enumerate(SIZES):
    scores, right = [], []
    for c, size in enumerate(sizes):
      if size:
        tokens = batch["decoder_target_tokens"][b, c, :size]
        total = sum(log_p[b, c, t, token] for t, token in enumerate(tokens))
        scores.append(total / size if loss.length_normalize else total)
        right.append(bool(batch["is_correct"][b, c]))
    if any(right):
      examples.append((np.array(scores), np.array(right)))
  return examples


def by_formula(loss, hidden, kernel, batch):
  """(loss, right, examples)"""
  total, hits = 0.0, 0
  examples = scores_by_formula(loss, hidden, kernel, batch)
  for scores, right in examples:
    hits += right[scores.argmax()]
    if isinstance(loss, Hinge):
      if not right.all():
        gap = loss.margin + scores[~right].max() - scores[right].max()
        total += max(0.0, gap)
      continue
    smoothing = 0.0 if right.all() else loss.label_smoothing
    mass = np.where(right, (1 - smoothing) / right.sum(), 0.0)
    if not right.all():
      mass = np.where(right, mass, smoothing / (~right).sum())
    log_z = np.log(np.exp(scores).sum())
    entropy = -sum(p * np.log(p) for p in mass if p)
    total += -(mass * (scores - log_z)).sum() - entropy + loss.z_loss * log_z**2
  return total, hits, len(examples)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("loss", CRITERIA)
def test_loss_and_sums_follow_the_formula(loss, seed):
  given = problem(seed)
  total, sums = found(loss, *given)
  expected, hits, examples = by_formula(loss, *given)
  assert expected > 0.1
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  assert sums["loss"] == total
  assert (int(sums["right"]), int(sums["examples"])) == (hits, examples) == (hits, 4)


@pytest.mark.parametrize("loss", CRITERIA)
def test_gradients_are_the_differences_of_the_formula(loss):
  hidden, kernel, batch = problem()
  _, slope = slopes(loss, hidden, kernel, batch)
  rng, step = np.random.default_rng(1), 1e-4
  for _ in range(3):
    way = rng.normal(size=hidden.shape)
    ahead, behind = (
      by_formula(loss, np.float64(hidden) + sign * step * way, kernel, batch)[0]
      for sign in (1, -1)
    )
    np.testing.assert_allclose(
      np.sum(np.asarray(slope) * way), (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-4
    )
  unused = np.asarray(slope).reshape(len(SIZES), -1, LENGTH, WIDTH)[3]  # none is right
  np.testing.assert_array_equal(unused, np.zeros_like(unused))


# The margin.


@functools.partial(jax.jit, static_argnums=0)
def value_and_slope(loss, scores, right, wrong):
  return jax.value_and_grad(lambda x: loss.of_scores(x, right, wrong).sum())(scores)


def of_scores(loss, scores, right, wrong=None):
  """The loss of one example and its gradient by the scores."""
  right = np.array([right], bool)
  wrong = ~right if wrong is None else np.array([wrong], bool)
  value, slope = value_and_slope(loss, np.array([scores], np.float32), right, wrong)
  return float(value), np.asarray(slope)[0].tolist()


@pytest.mark.parametrize("right_score", [-1.0, -0.8, -0.5])
def test_the_hinge_and_its_gradient_are_zero_once_the_margin_is_kept(right_score):
  assert of_scores(Hinge(margin=0.25), [-1.5, right_score, -1.25], [0, 1, 0]) == (
    0.0,
    [0.0, 0.0, 0.0],
  )


def test_a_right_candidate_in_front_still_learns_until_the_margin_is_kept():
  value, slope = of_scores(Hinge(margin=0.5), [-1.0, -0.75, -2.0], [0, 1, 0])
  assert (value, slope) == (0.25, [1.0, -1.0, 0.0])  # the original: 0.5 and no gradient


def test_of_several_right_ones_the_best_has_to_lead():
  value, slope = of_scores(Hinge(margin=0.5), [-3.0, -1.0, -0.75], [1, 1, 0])
  assert (value, slope) == (0.75, [0.0, -1.0, 1.0])
  assert of_scores(Hinge(margin=0.5), [-3.0, -0.25, -0.75], [1, 1, 0]) == (0.0, [0.0] * 3)


def test_without_a_wrong_candidate_there_is_nothing_to_learn():
  assert of_scores(Hinge(), [-1.0, -2.0], [1, 1]) == (0.0, [0.0, 0.0])


# Cross entropy.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_right_candidate_is_t5x_s_cross_entropy_over_candidates(smoothing):
  scores = [-1.0, -0.5, -3.0]
  loss = LabelCrossEntropy(z_loss=0.01, label_smoothing=smoothing)
  expected, _ = token_losses(jnp.asarray([scores]), jnp.asarray([1]), 0.01, smoothing)
  assert of_scores(loss, scores, [0, 1, 0])[0] == pytest.approx(float(expected[0]), 1e-5)


def test_right_candidates_share_the_mass():
  loss = LabelCrossEntropy(z_loss=0.0)
  equal, slope = of_scores(loss, [-1.0, -1.0, -40.0], [1, 1, 0])
  assert equal == pytest.approx(0.0, abs=1e-6) and np.abs(slope).max() < 1e-6
  apart, slope = of_scores(loss, [-1.0, -3.0, -40.0], [1, 1, 0])
  assert apart > 0.1 and slope[0] > 0 > slope[1]


def test_what_is_neither_right_nor_wrong_does_not_count():
  loss = LabelCrossEntropy(label_smoothing=0.1)
  two = of_scores(loss, [-1.0, -0.5], [1, 0])
  three = of_scores(loss, [-1.0, -0.5, 0.0], [1, 0, 0], [0, 1, 0])
  assert three[0] == two[0] and three[1] == [*two[1], 0.0]


# Batches.


def test_padding_candidates_and_rows_change_nothing():
  hidden, kernel, batch = problem()
  total, sums = found(Hinge(), hidden, kernel, batch)
  rng, (examples, count) = np.random.default_rng(3), batch["is_correct"].shape
  more = hidden.reshape(examples, count, LENGTH, WIDTH)
  more = np.pad(more, ((0, 1), (0, 2), (0, 0), (0, 0)))
  more[examples:], more[:, count:] = (
    rng.normal(size=x.shape) for x in (more[examples:], more[:, count:])
  )
  padded = {
    name: np.pad(x, ((0, 1), (0, 2), *[(0, 0)] * (x.ndim - 2))) for name, x in batch.items()
  }
  again, padded_sums = found(Hinge(), more.reshape(-1, LENGTH, WIDTH), kernel, padded)
  np.testing.assert_allclose(again, total, rtol=1e-6)
  assert {k: float(v) for k, v in padded_sums.items() if k != "loss"} == {
    k: float(v) for k, v in sums.items() if k != "loss"
  }


def test_nothing_but_padding_costs_nothing_and_has_no_gradient():
  hidden, kernel, batch = problem()
  nothing = {name: np.zeros_like(x) for name, x in batch.items()}
  for loss in CRITERIA:
    total, slope = slopes(loss, hidden, kernel, nothing)
    assert float(total) == 0.0
    np.testing.assert_array_equal(slope, jnp.zeros_like(slope))


def test_metrics_are_of_steps_and_of_examples():
  rows = [
    {"loss": 3.0, "right": 2.0, "examples": 4.0},
    {"loss": 1.0, "right": 1.0, "examples": 1.0},
  ]
  assert Hinge.metrics(rows) == {"loss": 2.0, "accuracy": 0.6}
  assert Hinge.metrics([dict.fromkeys(rows[0], 0.0)]) == {"loss": 0.0, "accuracy": 0.0}


def candidates_of(batch):
  """The rows of the tests' batch as two examples of two candidates, first ones right."""
  ranked = {name: x.reshape(2, 2, -1) for name, x in batch.items()}
  return {**ranked, "is_correct": np.array([[True, False]] * 2)}


def test_candidates_of_an_example_share_its_prompt():
  batch = {
    "decoder_target_tokens": np.arange(12).reshape(2, 3, 2),
    "prompt_ids": np.array([7, 4]),
  }
  rows = as_rows(batch)
  assert rows["decoder_target_tokens"].tolist() == np.arange(12).reshape(6, 2).tolist()
  assert rows["prompt_ids"].tolist() == [7, 7, 7, 4, 4, 4]


def test_scores_are_those_of_the_model(tiny_t5, batch):
  """A loss of one nat for each by which the wrong candidate is nearer than the margin."""
  model = PromptedT5(tiny_t5, PromptBank(jnp.zeros((1, 3, 16))))
  targets = batch["decoder_target_tokens"]
  lengths = (targets > 0).sum(axis=1)
  score = jax.jit(PromptedT5.score)
  whole = np.asarray(score(model, batch["encoder_input_tokens"], targets))
  taken = jax.jit(steps.loss_and_sums, static_argnums=(2, 3))
  for normalize, scores in ((False, whole), (True, whole / lengths)):
    loss = Hinge(margin=100.0, length_normalize=normalize)
    total, _ = taken(model, candidates_of(batch), loss, None)
    gaps = 100.0 + scores[1::2] - scores[::2]
    np.testing.assert_allclose(total, gaps.sum(), rtol=1e-5)


@pytest.mark.parametrize("loss", [Hinge(margin=2.0), LabelCrossEntropy()])
def test_a_prompt_learns_to_rank_and_microbatches_add_up(tiny_t5, batch, loss):
  start = jax.random.normal(jax.random.key(1), (1, 4, 16))
  split = states.Split.of(PromptedT5(tiny_t5, PromptBank(start)))
  optimizer, examples = states.over_bank(optax.sgd(1.0)), candidates_of(batch)
  found = {}
  for count in (None, 2):
    state = states.create(split, optimizer, jax.random.key(0))
    step = steps.train_step(split, optimizer, loss, count)
    found[count] = []
    for _ in range(5):
      state, sums = step(state, split.frozen, examples)
      found[count].append(float(sums["loss"]))
  np.testing.assert_allclose(found[2], found[None], rtol=1e-3)
  assert found[None][-1] < 0.9 * found[None][0], found


# What cannot be used.


@pytest.mark.parametrize(
  ("make", "what"),
  [
    (lambda: Hinge(margin=-0.1), "MARGIN is -0.1, expected a number from 0"),
    (lambda: Hinge(margin="0.2"), "MARGIN is '0.2'"),
    (lambda: LabelCrossEntropy(label_smoothing=1.0), "LABEL_SMOOTHING is 1.0"),
    (lambda: LabelCrossEntropy(z_loss=None), "Z_LOSS is None"),
  ],
)
def test_settings_that_make_no_loss_are_refused(make, what):
  with pytest.raises(checks.InputError, match=what):
    make()
