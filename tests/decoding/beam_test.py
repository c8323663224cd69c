"""Beam search: against another one in plain Python, and against trying all sequences."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from histories import Tables, log_softmax, random_tables, until_end

from prompt_tuning import checks, trees
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5

NEVER = -1e7
HOPELESS = -1e6  # below, a score says that there is no such answer


class Search:
  """The search of one input, written with lists from the contract's section 6.4.

  Lists are sorted best first here. `finished` holds (score, tokens, whether it is one).
  """

  def __init__(self, tables: Tables, row: int, beam: Beam, eos_id: int, max_len: int):
    self.tables, self.row, self.beam = tables, row, beam
    self.eos_id, self.max_len = eos_id, max_len
    self.live = [(0.0, [])] + [(NEVER, [])] * (beam.num_decodes - 1)
    self.finished = [(NEVER, [], False)] * beam.num_decodes

  def penalty(self, length: int) -> float:
    return ((5 + length) / 6) ** self.beam.alpha

  def extend(self) -> None:
    longer = []
    for score, tokens in self.live:
      gains = log_softmax(self.tables.after(self.row, tokens))
      longer += [(score + gain, [*tokens, v]) for v, gain in enumerate(gains)]
    longer.sort(key=lambda each: -each[0])
    longer = longer[: 2 * self.beam.num_decodes]

    def ends(tokens):
      return tokens[-1] == self.eos_id

    live = [(score + NEVER * ends(tokens), tokens) for score, tokens in longer]
    self.live = sorted(live, key=lambda each: -each[0])[: self.beam.num_decodes]
    for score, tokens in longer:
      penalized = score / self.penalty(len(tokens)) + NEVER * (not ends(tokens))
      self.finished.append((penalized, tokens, ends(tokens)))
    self.finished.sort(key=lambda each: -each[0])
    self.finished = self.finished[: self.beam.num_decodes]

  def is_decided(self) -> bool:
    """Whether no live sequence can still enter the finished ones."""
    worst = min(score for score, _, _ in self.finished)
    worst = worst if all(is_one for _, _, is_one in self.finished) else NEVER
    return worst > self.live[0][0] / self.penalty(self.max_len + 1)

  def is_hopeless(self) -> bool:
    return self.live[0][0] <= NEVER / self.penalty(self.max_len + 1)

  def answers(self) -> list[tuple[float, list[int]]]:
    """Best last."""
    if any(is_one for _, _, is_one in self.finished):
      return [(score, tokens) for score, tokens, _ in reversed(self.finished)]
    return list(reversed(self.live))


def searched(tables, beam, eos_id, max_len):
  """The answers to each input, and the steps that all took together."""
  rows = [Search(tables, i, beam, eos_id, max_len) for i in range(len(tables.logits))]
  steps = 0
  while steps < max_len:
    if all(row.is_decided() for row in rows) or all(row.is_hopeless() for row in rows):
      break
    for row in rows:
      row.extend()
    steps += 1
  return [row.answers() for row in rows], steps


def counted_search(beam, batch, vocab, eos_id, max_len):
  """A compiled search over tables; gives tokens, scores and the steps it took."""
  steps = []

  @jax.jit
  def search(logits, following):
    tables = Tables(logits, following)

    def step(tokens, cache):
      jax.debug.callback(lambda: steps.append(1))
      return tables.step(tokens, cache)

    blank = dataclasses.replace(tables, logits=np.empty(batch))
    return beam(step, blank.start(beam.num_decodes), batch, max_len, eos_id)

  def run(tables):
    steps.clear()
    found = jax.device_get(search(tables.logits, tables.following))
    jax.effects_barrier()
    return *found, len(steps)

  return run


def assert_same(tokens, scores, expected):
  """Equal answers; of those that are none only that they are none."""
  np.testing.assert_allclose(scores, [score for score, _ in expected], rtol=3e-5, atol=1e-5)
  for found, (score, answer) in zip(tokens, expected, strict=True):
    if score > HOPELESS:
      np.testing.assert_array_equal(found, answer + [0] * (len(found) - len(answer)))


@pytest.mark.parametrize(
  ("num_decodes", "alpha", "vocab", "max_len", "eos_id"),
  [
    (1, 0.6, 6, 5, 1),
    (2, 1.0, 9, 7, 1),
    (4, 0.6, 12, 6, 1),
    (4, 0.0, 5, 5, 4),  # fewer tokens than 2 * num_decodes
    (3, 2.0, 3, 8, 2),
    (4, 0.6, 2, 4, 1),
    (3, 0.6, 30, 1, 0),
  ],
)
def test_it_equals_a_search_in_plain_python(num_decodes, alpha, vocab, max_len, eos_id):
  beam = Beam(num_decodes=num_decodes, alpha=alpha)
  ended = lasted = 0
  for batch, seeds in ((6, 12), (1, 12)):
    run = counted_search(beam, batch, vocab, eos_id, max_len)
    for seed in range(seeds):
      # Peaked tables end early, flat ones late.
      tables = random_tables(seed, batch, vocab, scale=0.5 + seed % 4)
      if seed % 3 == 0:
        tables.logits[..., eos_id] -= 6  # hardly ever ends
      tokens, scores, steps = run(tables)
      expected, expected_steps = searched(tables, beam, eos_id, max_len)
      assert steps == expected_steps
      for row in range(batch):
        assert_same(tokens[row], scores[row], expected[row])
        ended += eos_id in tokens[row, -1]
        lasted += eos_id not in tokens[row, -1]
  assert ended > 10
  assert lasted > 10 or vocab <= 2 * num_decodes  # EOS is among the best there


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_wide_beams_find_the_best_of_all_sequences(alpha):
  vocab, max_len, eos_id = 3, 4, 1
  beam = Beam(num_decodes=40, alpha=alpha)  # more than there are
  run = counted_search(beam, 3, vocab, eos_id, max_len)
  for seed in range(4):
    tables = random_tables(seed, 3, vocab)
    tokens, scores, _ = run(tables)
    for row in range(3):
      found = []
      for length in range(1, max_len + 1):
        for start in itertools.product([0, 2], repeat=length - 1):
          whole = [*start, eos_id]
          gains = [log_softmax(tables.after(row, whole[:i])) for i in range(length)]
          score = sum(gain[v] for gain, v in zip(gains, whole, strict=True))
          found.append((score / ((5 + length) / 6) ** alpha, whole))
      assert len(found) == 15
      assert_same(tokens[row, -15:], scores[row, -15:], sorted(found))
      assert np.all(scores[row, :-15] < HOPELESS)


def flat_tables(batch: int, vocab: int) -> Tables:
  """Tables in which no token ends an answer within sight; token t leads to history 1."""
  tables = random_tables(0, batch, vocab)
  tables.following[:] = 1
  tables.following[:, 0, 0] = 0  # BOS
  tables.logits[:, :, 1] = -20
  return tables


def test_an_input_without_a_finished_sequence_gets_its_live_ones():
  tables = flat_tables(2, 12)
  tables.logits[1, 0, 1] = 5.0  # the other may end at once
  tokens, scores, _ = counted_search(Beam(num_decodes=2), 2, 12, 1, 3)(tables)
  assert not np.any(tokens[0] == 1)
  for answer, score in zip(tokens[0], scores[0], strict=True):
    gains = [log_softmax(tables.after(0, list(answer[:i]))) for i in range(3)]
    expected = sum(gain[v] for gain, v in zip(gains, answer, strict=True))
    np.testing.assert_allclose(score, expected, rtol=1e-5)  # no penalty
  np.testing.assert_array_equal(tokens[1], [[0, 0, 0], [1, 0, 0]])


def test_too_few_finished_sequences_are_filled_with_zeros():
  tables = flat_tables(1, 12)
  tables.logits[0, 0, 1] = 5.0
  tokens, scores, _ = counted_search(Beam(num_decodes=3), 1, 12, 1, 4)(tables)
  np.testing.assert_array_equal(tokens[0], [[0] * 4, [0] * 4, [1, 0, 0, 0]])
  np.testing.assert_allclose(scores[0, :2], NEVER, rtol=1e-5)
  expected = log_softmax(tables.logits[0, 0])[1]
  np.testing.assert_allclose(scores[0, 2], expected, rtol=1e-5)  # of length 1: no penalty


def test_it_stops_when_no_live_sequence_can_win():
  tables = random_tables(0, 1, 12)
  tables.logits[..., 1] = 12.0  # whatever came before, EOS is next
  beam = Beam(num_decodes=1)
  _, _, steps = counted_search(beam, 1, 12, 1, 50)(tables)
  assert steps == 1
  tables.logits[..., 1] = -20.0
  _, _, steps = counted_search(beam, 1, 12, 1, 50)(tables)
  assert steps == 50


@pytest.mark.parametrize("wrong", [{"num_decodes": 0}, {"alpha": -0.1}, {"alpha": "high"}])
def test_numbers_that_make_no_sense_are_refused(wrong):
  with pytest.raises(checks.InputError, match=f"{next(iter(wrong))} is"):
    Beam(**wrong)


IDS = np.array([2, 0, 1, 2], np.int32)
ANSWER_LEN = 6


@pytest.fixture(scope="module")
def model(tiny_config, tiny_t5):
  """A model that ends some of its answers: EOS is more probable than by chance."""
  params = dict(trees.values(tiny_t5))
  kernel = np.array(params["decoder/logits_dense/kernel"])
  kernel[:, 1] *= 1.2
  params["decoder/logits_dense/kernel"] = kernel
  prompts = jax.random.normal(jax.random.key(3), (3, 4, 16))
  return PromptedT5(T5(tiny_config, params), PromptBank(prompts))


@pytest.fixture(scope="module")
def generated(model):
  @jax.jit
  def decode(tokens, ids):
    return model.generate_all(tokens, ANSWER_LEN, ids, Beam(num_decodes=4))

  return lambda *asked: jax.device_get(decode(*asked))


def test_every_score_is_that_of_teacher_forcing(model, generated, batch):
  tokens = batch["encoder_input_tokens"]
  answers, scores = generated(tokens, IDS)
  finished = {row: bool(np.any(answers[row] == 1)) for row in range(4)}
  assert set(finished.values()) == {True, False}, "choose another scale of EOS"
  # Zeros of an unfinished answer are tokens here, which `score` would take for padding.
  inputs = np.pad(answers, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  logits = jax.jit(model.logits)
  for place in range(4):
    every = np.ones((4, ANSWER_LEN), np.int32)
    log_probs = jax.nn.log_softmax(logits(tokens, inputs[:, place], every, IDS))
    likelihoods = model.score(tokens, answers[:, place], IDS)
    for row in range(4):
      answer = until_end(answers[row, place], 1)
      if scores[row, place] < HOPELESS:
        assert not any(answer)
        continue
      expected = sum(log_probs[row, i, token] for i, token in enumerate(answer))
      penalty = ((5 + len(answer)) / 6) ** 0.6 if finished[row] else 1.0
      np.testing.assert_allclose(scores[row, place], expected / penalty, rtol=1e-4)
      if all(answer):
        np.testing.assert_allclose(likelihoods[row], expected, rtol=1e-4)


def test_padding_and_the_order_of_rows_change_nothing(generated, batch):
  tokens = batch["encoder_input_tokens"]
  answers, scores = generated(tokens, IDS)
  order = [3, 1, 0, 2]
  padded = np.pad(tokens, ((0, 0), (0, 5)))[order]
  others, other_scores = generated(padded, IDS[order])
  np.testing.assert_array_equal(others, answers[order])
  np.testing.assert_allclose(other_scores, scores[order], rtol=1e-5)


def test_the_decodes_of_an_input_share_its_keys_and_values(model, batch):
  tokens = jnp.asarray(batch["encoder_input_tokens"])
  encoded, real = model.encode(tokens, IDS)
  cache = model.model.start_cache(encoded, real, ANSWER_LEN, 3)
  heads = (2, 8)
  for layer in cache.layers:
    assert layer.keys.shape == layer.values.shape == (12, ANSWER_LEN, *heads)
    assert layer.cross_keys.shape == layer.cross_values.shape == (4, 14, *heads)
  _, cache = model.model.decode_step(jnp.zeros(12, jnp.int32), cache)
  reordered = cache.reordered(jnp.arange(12)[::-1])
  for before, layer in zip(cache.layers, reordered.layers, strict=True):
    assert layer.cross_keys is before.cross_keys
    np.testing.assert_array_equal(layer.keys, before.keys[::-1])
