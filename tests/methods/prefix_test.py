"""Prefix tuning: keys and values in front act as those of real positions there would."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from given import features, given, logits

from prompt_tuning import checks
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.sampling import Sampling
from prompt_tuning.methods.prefix import Place, Prefix, PrefixTuning, of_prompt
from prompt_tuning.models.context import KeysValues
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.sequences import sequence_scores, shift_right
from prompt_tuning.prompts.start import Prompt, RandomUniform
from prompt_tuning.prompts.steering import Steering

LENGTH = 3
BLIND = masks.FULL - {masks.PROMPT_TO_INPUT}


@jax.jit
def step(model, tokens, cache):
  return model.decode_step(tokens, cache)


@pytest.fixture(scope="module")
def prompt():
  return jax.random.normal(jax.random.key(3), (LENGTH, 16))


def behind(model, found):
  """A model behind keys and values {path: each [1, length, num_heads, d_kv]}."""
  places = {path: Place(jax.tree.map(lambda x: x[0], kv)) for path, kv in found.items()}
  return PromptedT5(model, steering=Steering(fronts=Prefix(places, None)))


@pytest.fixture(scope="module")
def random(tiny_t5, prompt):
  """A prefix of which every place has other keys and values."""
  found = of_prompt(tiny_t5, prompt)
  leaves, tree = jax.tree.flatten(found)
  keys = jax.random.split(jax.random.key(4), len(leaves))
  drawn = [jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
  return behind(tiny_t5, jax.tree.unflatten(tree, drawn))


def test_a_prefix_acts_as_the_prompt_and_the_answer_that_it_is_made_of(
  tiny_t5, prompt, batch
):
  """What the blind prompt and the beginning of an answer leave, in front of the rest."""
  row = batch["encoder_input_tokens"][:1]
  targets = np.array([[7, 9, 11, 13, 15, 17]], np.int32)
  prompted = PromptedT5(tiny_t5, PromptBank(prompt), visibility=BLIND)
  expected = logits(prompted, row, shift_right(targets), targets)

  found = of_prompt(tiny_t5, prompt)
  encoded, real = prompted.encode(row)
  cache = tiny_t5.start_cache(encoded, real, LENGTH)
  for token in shift_right(targets)[0, :LENGTH]:
    _, cache = step(tiny_t5, token[None], cache)
  for number, layer in enumerate(cache.layers):
    path = f"decoder/layers_{number}/self_attention"
    found[path] = KeysValues(layer.keys, layer.values)
  rest = shift_right(targets)[:, LENGTH:]
  found = logits(behind(tiny_t5, found), row, rest, targets[:, LENGTH:])
  np.testing.assert_allclose(found, expected[:, LENGTH:], rtol=1e-5, atol=1e-5)


def test_the_decoder_s_prefix_starts_as_its_own_view_of_the_prompt(tiny_t5, batch):
  """A prompt of embedded tokens is an answer of these tokens to itself."""
  tokens = jnp.array([[5, 8, 13]], jnp.int32)
  found = of_prompt(tiny_t5, tiny_t5.embed(tokens)[0])
  alone = PromptedT5(tiny_t5)
  encoded, real = alone.encode(tokens)
  cache = tiny_t5.start_cache(encoded, real, LENGTH)
  for token in tokens[0]:
    _, cache = step(tiny_t5, token[None], cache)
  for number, layer in enumerate(cache.layers):
    own = found[f"decoder/layers_{number}/self_attention"]
    cross = found[f"decoder/layers_{number}/encoder_decoder_attention"]
    for one, other in (
      (own.keys, layer.keys),
      (own.values, layer.values),
      (cross.keys, layer.cross_keys),
      (cross.values, layer.cross_values),
    ):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_it_starts_as_what_is_made_of_the_prompt(tiny_t5):
  method = PrefixTuning(length=LENGTH)
  (prompt,) = given(tiny_t5).prompts(Prompt(length=LENGTH, start=method.start))
  places = method.steered(given(tiny_t5)).steering.fronts.places
  for path, found in of_prompt(tiny_t5, prompt).items():
    share = 0.1 if path.endswith("/self_attention") else 1.0
    for one, other in (
      (places[path].keys, found.keys),
      (places[path].values, found.values),
    ):
      np.testing.assert_allclose(one[...], share * other[0], rtol=1e-5, atol=1e-6)


def test_many_rows_share_one_prefix(random, batch):
  together = logits(random, *features(batch))
  for row in range(4):
    found = logits(random, *(x[row : row + 1] for x in features(batch)))[0]
    np.testing.assert_allclose(found, together[row], rtol=1e-5, atol=1e-5)
  context = random.steering.fronts.encoder()
  assert {layer.keys.shape for layer in context.layers} == {(1, LENGTH, 2, 8)}


@pytest.mark.parametrize(
  "decoding", [Greedy(), Beam(num_decodes=3), Sampling(num_decodes=2, topk=0)], ids=str
)
def test_cached_steps_are_teacher_forcing(random, decoding):
  """What decoding says of its answers is what one pass over them says."""
  inputs = np.random.default_rng(7).integers(3, 64, (8, 7)).astype(np.int32)
  tokens, scores = jax.jit(
    lambda model, inputs: model.generate_all(
      inputs, 6, decoding=decoding, key=jax.random.key(5)
    )
  )(random, inputs)
  tokens, scores = np.asarray(tokens), np.asarray(scores)
  assert tokens.shape == (8, decoding.num_decodes, 6)
  lengths = (tokens > 0).sum(axis=-1)
  compared = (tokens > 0)[..., 0] & (np.diff(tokens > 0, axis=-1).sum(axis=-1) <= 1)
  if isinstance(decoding, Beam):
    ended = (tokens == 1).any(axis=-1)  # the others have their log-likelihood
    scores = np.where(ended, scores * ((5 + lengths) / 6) ** decoding.alpha, scores)
  assert compared.sum() >= 2 and len({tuple(row) for row in tokens[compared]}) >= 2
  found = np.asarray(scored(random, inputs, tokens))
  np.testing.assert_allclose(scores[compared], found[compared], rtol=1e-4, atol=1e-4)


@jax.jit
def scored(model, inputs, candidates):
  return model.score_candidates(inputs, candidates)


def test_every_step_has_the_logits_of_teacher_forcing(random, batch):
  inputs, decoder_inputs, targets = features(batch)
  expected = logits(random, inputs, decoder_inputs, targets)
  encoded, real = random.encode(inputs)
  fronts = random.steering.fronts.decoder()
  cache = random.model.start_cache(encoded, real, 5, 2, fronts)
  for at in range(5):
    tokens = jnp.repeat(jnp.asarray(decoder_inputs[:, at]), 2)
    found, cache = step(random.model, tokens, cache)
    for row in np.flatnonzero(targets[:, at]):
      for decode in (0, 1):
        one = found[2 * row + decode]
        np.testing.assert_allclose(one, expected[row, at], rtol=1e-5, atol=1e-5)


def test_candidates_are_scored_as_alone(random, batch):
  inputs, decoder_inputs, targets = features(batch)
  found = logits(random, inputs, decoder_inputs, targets)
  both = np.stack([targets, np.full_like(targets, 5)], axis=1)
  scores = scored(random, inputs, both)[:, 0]
  np.testing.assert_allclose(scores, sequence_scores(found, targets), rtol=1e-5, atol=1e-5)


def test_a_perceptron_starts_as_the_prefix_without(tiny_t5, batch):
  plain = PrefixTuning(length=LENGTH, start=RandomUniform(scale=2.0))
  made = dataclasses.replace(plain, hidden=12)
  expected = logits(plain.steered(given(tiny_t5)), *features(batch))
  found = logits(made.steered(given(tiny_t5)), *features(batch))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  untuned = logits(PromptedT5(tiny_t5), *features(batch))
  assert np.abs(expected - untuned).max() > 1e-2


def test_layers_come_in_their_order_however_many():
  places = {
    f"{owner}/layers_{i}/{name}": Place(KeysValues(*[jnp.full((1, 1, 1), i + shift)] * 2))
    for i in range(12)
    for owner, name, shift in (
      ("encoder", "attention", 0.0),
      ("decoder", "self_attention", 100.0),
      ("decoder", "encoder_decoder_attention", 200.0),
    )
  }
  prefix = nnx.merge(*nnx.split(Prefix(places, None)))
  found = [prefix.encoder().layers, prefix.decoder().own, prefix.decoder().cross]
  for kind, layers in enumerate(found):
    keys = [float(layer.keys.reshape(())) for layer in layers]
    assert keys == [100 * kind + i for i in range(12)]


@pytest.mark.parametrize("hidden", [0, -1, 2.5, True])
def test_a_perceptron_without_units_is_refused(hidden):
  with pytest.raises(checks.InputError, match="expected a whole number from 1"):
    PrefixTuning(hidden=hidden)


def test_a_prefix_without_length_is_refused(tiny_t5):
  with pytest.raises(checks.InputError, match="PROMPT_LENGTH is 0"):
    PrefixTuning(length=0).steered(given(tiny_t5))
