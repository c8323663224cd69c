"""Sampling: what can be drawn, how often, with what score and in what order of draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from histories import log_softmax, random_tables, until_end
from scipy import stats

from prompt_tuning import checks
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.sampling import Sampling
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5

DRAWS = 20_000
LOGITS = np.array(
  [0.5, 2.0, -1.0, 1.0, 2.0, 0.0, -3.0, 1.0], np.float32
)  # 1, 4 and 3, 7 tie


def drawn(sampling, logits, rows=DRAWS, key=0):
  """One token for each row, with its score; the logits are [vocab] or [rows, vocab]."""

  def step(tokens, cache):
    return jnp.broadcast_to(logits, (tokens.shape[0], logits.shape[-1])), cache

  @jax.jit
  def draw(key):
    return sampling(step, jnp.zeros(()), rows, 1, key=key)

  tokens, scores = jax.device_get(draw(jax.random.key(key)))
  return tokens[..., 0].reshape(-1), scores.reshape(-1)


def kept(logits, topk, topp):
  """Which tokens can be drawn: [vocab] bool."""
  order = np.sort(logits)[::-1]
  if topk:
    return logits >= order[min(topk, len(logits)) - 1]
  if topp:
    mass, count = 0.0, 0
    while mass < topp and count < len(order):
      mass += np.exp(order[count] - np.logaddexp.reduce(order))
      count += 1
    return logits >= order[count - 1]
  return np.ones(len(logits), bool)


@pytest.mark.parametrize(
  ("temperature", "topk", "topp"),
  [
    (1.0, 0, 0.0),
    (0.5, 0, 0.0),
    (2.0, 3, 0.0),
    (1.0, 20, 0.0),  # more than there are
    (1.0, 0, 0.3),
    (0.5, 0, 0.95),
    (2.0, 0, 0.7),
    (1.0, 0, 1.0),
  ],
)
def test_draws_follow_the_probabilities_of_those_that_remain(temperature, topk, topp):
  sampling = Sampling(temperature=temperature, topk=topk, topp=topp)
  tokens, scores = drawn(sampling, LOGITS)
  scaled = LOGITS.astype(np.float64) / temperature
  remain = kept(scaled, topk, topp)
  log_probs = np.where(remain, scaled, -np.inf)
  log_probs -= np.logaddexp.reduce(log_probs)
  counts = np.bincount(tokens, minlength=len(LOGITS))
  np.testing.assert_array_equal(counts[~remain], 0)
  expected = DRAWS * np.exp(log_probs[remain])
  distance = np.sum((counts[remain] - expected) ** 2 / expected)
  # One in a million by chance, were the key not fixed.
  assert distance < stats.chi2.ppf(1 - 1e-6, max(remain.sum() - 1, 1))
  np.testing.assert_allclose(scores, log_probs[tokens], rtol=1e-5, atol=1e-6)


def test_equals_of_the_last_of_the_best_remain():
  for topk, expected in ((1, {1, 4}), (2, {1, 4}), (3, {1, 3, 4, 7}), (4, {1, 3, 4, 7})):
    tokens, _ = drawn(Sampling(topk=topk), LOGITS)
    assert set(tokens) == expected


def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass():
  probabilities = np.array([0.5, 0.2, 0.2 - 1e-3, 0.1 + 1e-3], np.float32)
  for topp, size in ((0.01, 1), (0.499, 1), (0.51, 2), (0.69, 2), (0.71, 3), (0.9, 4)):
    tokens, _ = drawn(Sampling(topk=0, topp=topp), np.log(probabilities))
    assert set(tokens) == set(range(size)), topp


def test_every_row_has_its_own_temperature():
  temperatures = (0.0, 1e-4, 0.25, 4.0)
  tokens, scores = drawn(Sampling(temperature=temperatures, topk=0), LOGITS, rows=4)
  assert tokens.shape == (4,)
  rows = Sampling(temperature=np.repeat(np.float32(temperatures), 5000), topk=0)
  tokens, scores = drawn(rows, LOGITS)
  tokens, scores = tokens.reshape(4, 5000), scores.reshape(4, 5000)
  for row in (0, 1):  # greedy takes the first of equals, with certainty
    assert set(tokens[row]) == {1}
    assert set(scores[row]) == {0.0}
  for row in (2, 3):
    log_probs = log_softmax(LOGITS / temperatures[row])
    np.testing.assert_allclose(scores[row], log_probs[tokens[row]], rtol=1e-4)
  assert (
    np.mean(np.isin(tokens[2], [1, 4])) > 0.9 > 0.5 > np.mean(np.isin(tokens[3], [1, 4]))
  )


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_scores_may_be_the_model_s_own(temperature):
  sampling = Sampling(temperature=temperature, topk=3, rescale_log_probs=False)
  tokens, scores = drawn(sampling, LOGITS)
  np.testing.assert_allclose(scores, log_softmax(LOGITS)[tokens], rtol=1e-5)


def by_hand(tables, sampling, max_len, eos_id, key):
  """T5X's loop: one key for the draw, one for all that follows; rows draw together."""
  rows = len(tables.logits) * sampling.num_decodes
  answers, scores = [[] for _ in range(rows)], np.zeros(rows)
  for _ in range(max_len):
    now, key = jax.random.split(key)
    logits = np.stack(
      [tables.after(row // sampling.num_decodes, each) for row, each in enumerate(answers)]
    )
    scaled = logits / np.float32(sampling.temperature)
    remain = np.stack([kept(row, sampling.topk, sampling.topp) for row in scaled])
    scaled = np.where(remain, scaled, np.float32(-1e7))
    tokens = np.asarray(jax.random.categorical(now, scaled))
    for row, token in enumerate(tokens):
      if eos_id not in answers[row]:
        answers[row].append(int(token))
        scores[row] += log_softmax(scaled[row])[token]
      elif len(answers[row]) < max_len:
        answers[row].append(0)
  return np.array(answers), scores


@pytest.mark.parametrize(
  "sampling",
  [
    Sampling(topk=0),
    Sampling(topk=0, num_decodes=3, temperature=0.7),
    Sampling(topk=3, num_decodes=2),
    Sampling(topk=0, topp=0.8, temperature=1.5),
  ],
)
def test_the_order_of_draws_is_t5x_s(sampling):
  batch, max_len, eos_id = 4, 8, 2
  tables = random_tables(1, batch, 6)
  key = jax.random.key(9)

  @jax.jit
  def sample(key):
    cache = tables.start(sampling.num_decodes)
    return sampling(tables.step, cache, batch, max_len, eos_id, key)

  tokens, scores = sample(key)
  answers, expected = by_hand(tables, sampling, max_len, eos_id, key)
  assert np.any(answers == eos_id)
  answers = answers.reshape(batch, sampling.num_decodes, max_len)
  expected = expected.reshape(batch, sampling.num_decodes)
  order = np.argsort(expected, axis=1, kind="stable")
  answers = np.take_along_axis(answers, order[..., None], axis=1)
  np.testing.assert_array_equal(tokens, answers)
  expected = np.take_along_axis(expected, order, axis=1)
  np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_answers_end_with_eos_and_the_best_is_last():
  tables = random_tables(2, 30, 6)
  sampling = Sampling(topk=0, num_decodes=4, rescale_log_probs=False)
  cache = tables.start(4)
  tokens, scores = jax.jit(lambda key: sampling(tables.step, cache, 30, 7, 2, key))(
    jax.random.key(0)
  )
  assert np.all(np.diff(scores, axis=1) >= 0)
  for row, place in np.ndindex(30, 4):
    answer = until_end(tokens[row, place], 2)
    np.testing.assert_array_equal(tokens[row, place, len(answer) :], 0)
    gains = [log_softmax(tables.after(row, answer[:i])) for i in range(len(answer))]
    expected = sum(gain[v] for gain, v in zip(gains, answer, strict=True))
    np.testing.assert_allclose(scores[row, place], expected, rtol=1e-4)


def test_it_does_not_draw_after_the_last_row_has_ended():
  counted = []

  def step(tokens, cache):
    jax.debug.callback(lambda: counted.append(1))
    return jnp.where(jnp.arange(5) == 1, 100.0, jnp.zeros((tokens.shape[0], 5))), cache

  Sampling(topk=0)(step, jnp.zeros(()), 3, 50)
  jax.effects_barrier()
  assert len(counted) == 1


def test_the_same_key_draws_the_same():
  sampling = Sampling(topk=0)
  first, _ = drawn(sampling, LOGITS, rows=100)
  again, _ = drawn(sampling, LOGITS, rows=100)
  other, _ = drawn(sampling, LOGITS, rows=100, key=1)
  np.testing.assert_array_equal(first, again)
  assert np.any(first != other)

  def step(tokens, cache):
    return jnp.broadcast_to(LOGITS, (tokens.shape[0], 8)), cache

  unsaid, _ = sampling(step, jnp.zeros(()), 100, 1)
  np.testing.assert_array_equal(unsaid[:, 0, 0], first)  # without a key it is key(0)


def test_t5x_s_defaults_are_greedy_with_score_zero():
  tables = random_tables(3, 10, 6)
  cache = tables.start()
  tokens, scores = Sampling()(tables.step, cache, 10, 6, 1)
  greedy, _ = Greedy()(tables.step, cache, 10, 6, 1)
  np.testing.assert_array_equal(tokens, greedy)
  np.testing.assert_array_equal(scores, 0.0)


def test_the_best_tokens_and_a_nucleus_are_not_taken_together():
  with pytest.raises(checks.InputError, match=r"topk=1 and topp=0\.9 are both given"):
    Sampling(topp=0.9)


@pytest.mark.parametrize(
  "wrong",
  [
    {"num_decodes": 0},
    {"topk": -1},
    {"topk": 2.5},
    {"topk": 0, "topp": -1},
    {"topk": 0, "topp": 90},
    {"temperature": -0.5},
    {"temperature": float("nan")},
    {"temperature": "hot"},
    {"temperature": [1.0, -1.0]},
  ],
)
def test_numbers_that_make_no_sense_are_refused(wrong):
  with pytest.raises(
    checks.InputError, match=r"expected a (whole )?number from|probability"
  ):
    Sampling(**wrong)


def test_a_real_model_scores_its_draws_as_under_teacher_forcing(tiny_t5, batch):
  prompts = jax.random.normal(jax.random.key(3), (3, 4, 16))
  model = PromptedT5(tiny_t5, PromptBank(prompts))
  tokens, ids = batch["encoder_input_tokens"], np.array([2, 0, 1, 2], np.int32)
  sampling = Sampling(topk=0, num_decodes=3, rescale_log_probs=False)

  @functools.partial(jax.jit, static_argnums=0)
  def sample(max_len, tokens, ids, key):
    return model.generate_all(tokens, max_len, ids, sampling, key)

  answers, scores = jax.device_get(sample(6, tokens, ids, jax.random.key(1)))
  assert len({answer.tobytes() for answer in answers.reshape(12, 6)}) == 12
  inputs = np.pad(answers, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  logits = jax.jit(model.logits)
  for place in range(3):
    found = logits(tokens, inputs[:, place], np.ones((4, 6), np.int32), ids)
    log_probs = jax.device_get(jax.nn.log_softmax(found, axis=-1))
    for row in range(4):
      answer = until_end(answers[row, place], 1)
      expected = sum(log_probs[row, i, token] for i, token in enumerate(answer))
      np.testing.assert_allclose(scores[row, place], expected, rtol=1e-4)
