"""Greedy decoding: against a loop in plain Python, on tables and on a real model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from histories import Memory, Tables, log_softmax, random_tables

from prompt_tuning import partitioning
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.sampling import Sampling
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5

# Row t holds the logits after token t: 0 -> 3 -> 4 -> 1 (EOS).
TABLE = np.full((6, 6), -4.0, np.float32)
TABLE[0, 3] = TABLE[3, 4] = TABLE[4, 1] = TABLE[5, 5] = TABLE[2, 5] = 2.0


def markov(tokens, cache):
  return jnp.asarray(TABLE)[tokens], cache


@pytest.fixture(scope="module")
def prompts():
  return jax.random.normal(jax.random.key(3), (3, 4, 16))


IDS = np.array([2, 0, 1, 2], np.int32)


@functools.partial(jax.jit, static_argnums=4)
def decode(model, prompts, tokens, ids, decoding):
  bank = None if prompts is None else PromptBank(prompts)
  return PromptedT5(model, bank).generate_all(tokens, 6, ids, decoding, jax.random.key(5))


def best(*asked):
  """The tokens [batch, 6] and scores [batch] of the best answers."""
  tokens, scores = jax.device_get(decode(*asked))
  return tokens[:, -1], scores[:, -1]


def walked(tables: Tables, row: int, max_len: int, eos_id: int):
  """The greedy answer of a row and its log-likelihood, token by token."""
  tokens, score = [], 0.0
  while len(tokens) < max_len and eos_id not in tokens:
    log_probs = log_softmax(tables.after(row, tokens))
    tokens.append(int(np.argmax(log_probs)))
    score += log_probs[tokens[-1]]
  return tokens + [0] * (max_len - len(tokens)), score


def test_it_follows_the_best_token_and_stops_at_eos():
  tokens, scores = jax.jit(lambda: Greedy()(markov, jnp.zeros(()), 2, 5))()
  np.testing.assert_array_equal(tokens, [[[3, 4, 1, 0, 0]]] * 2)
  log_probs = jax.nn.log_softmax(TABLE, axis=-1)
  expected = log_probs[0, 3] + log_probs[3, 4] + log_probs[4, 1]
  np.testing.assert_allclose(scores, [[expected]] * 2, rtol=1e-6)


def test_it_stops_at_the_longest_answer():
  tokens, _ = Greedy()(markov, jnp.zeros(()), 1, 2)
  np.testing.assert_array_equal(tokens, [[[3, 4]]])


def test_it_does_not_decode_after_the_last_row_has_ended():
  counted = []

  def counting(tokens, cache):
    jax.debug.callback(lambda: counted.append(1))
    return markov(tokens, cache)

  Greedy()(counting, jnp.zeros(()), 1, 50)
  jax.effects_barrier()
  assert len(counted) == 3


def test_another_token_may_end_an_answer():
  tokens, scores = Greedy()(markov, jnp.zeros(()), 1, 4, eos_id=3)
  np.testing.assert_array_equal(tokens, [[[3, 0, 0, 0]]])
  np.testing.assert_allclose(scores, [[jax.nn.log_softmax(TABLE[0])[3]]], rtol=1e-6)


@pytest.mark.parametrize(("vocab", "max_len", "eos_id"), [(5, 6, 1), (3, 9, 2), (40, 4, 1)])
def test_it_equals_a_loop_in_plain_python(vocab, max_len, eos_id):
  tables = random_tables(vocab, 20, vocab)

  @jax.jit
  def decoded(cache: Memory):
    return Greedy()(tables.step, cache, 20, max_len, eos_id)

  tokens, scores = decoded(tables.start())
  expected = [walked(tables, row, max_len, eos_id) for row in range(20)]
  np.testing.assert_array_equal(tokens[:, 0], [each for each, _ in expected])
  np.testing.assert_allclose(scores[:, 0], [each for _, each in expected], rtol=1e-5)


def test_one_beam_and_the_one_best_token_are_greedy(tiny_t5, prompts, batch):
  tokens = batch["encoder_input_tokens"]
  found, scores = best(tiny_t5, prompts, tokens, IDS, Greedy())
  # One beam differs only where EOS is second best: that answer counts as finished.
  assert not np.any(found == 1)
  one_beam, one_token = Beam(num_decodes=1), Sampling(topk=1, rescale_log_probs=False)
  for decoding in (one_beam, one_token):
    others, other_scores = best(tiny_t5, prompts, tokens, IDS, decoding)
    np.testing.assert_array_equal(others, found)
    np.testing.assert_allclose(other_scores, scores, rtol=1e-5)


def test_a_row_s_prompt_matters_and_its_neighbours_do_not(tiny_t5, prompts, batch):
  tokens = batch["encoder_input_tokens"]
  found, scores = best(tiny_t5, prompts, tokens, IDS, Greedy())
  for row, prompt_id in enumerate(IDS):
    one = prompts[prompt_id][None]
    alone, score = best(tiny_t5, one, tokens[row : row + 1], None, Greedy())
    np.testing.assert_array_equal(alone[0], found[row])
    np.testing.assert_allclose(score[0], scores[row], rtol=1e-5)
  _, untuned = best(tiny_t5, None, tokens, None, Greedy())
  assert np.abs(untuned - scores).min() > 1e-3


def test_padding_and_the_order_of_rows_change_nothing(tiny_t5, prompts, batch):
  tokens = batch["encoder_input_tokens"]
  found, scores = best(tiny_t5, prompts, tokens, IDS, Greedy())
  order = [3, 1, 0, 2]
  padded = np.pad(tokens, ((0, 0), (0, 5)))[order]
  others, other_scores = best(tiny_t5, prompts, padded, IDS[order], Greedy())
  np.testing.assert_array_equal(others, found[order])
  np.testing.assert_allclose(other_scores, scores[order], rtol=1e-5)


@pytest.mark.parametrize(
  "decoding",
  [Greedy(), Sampling(num_decodes=2, topk=0), Beam(num_decodes=4)],
  ids=lambda decoding: type(decoding).__name__,
)
def test_eight_devices_answer_as_one(tiny_t5, prompts, batch, decoding):
  rows = {"inputs": np.tile(batch["encoder_input_tokens"], (2, 1)), "ids": np.tile(IDS, 2)}
  one = jax.device_get(decode(tiny_t5, prompts, rows["inputs"], rows["ids"], decoding))
  shared = partitioning.shard_batch(rows, partitioning.Partitioner().mesh(8))
  assert len(shared["inputs"].sharding.device_set) == 8
  eight = decode(tiny_t5, prompts, shared["inputs"], shared["ids"], decoding)
  np.testing.assert_array_equal(eight[0], one[0])
  np.testing.assert_allclose(eight[1], one[1], rtol=1e-5, atol=1e-5)
