"""Plain decoder-only T5: names, causality, shared contexts, refusing what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks, trees
from prompt_tuning.models.attention import RelativeBias
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.decoder_only import DecoderOnlyT5
from prompt_tuning.models.masks import causal_mask
from prompt_tuning.models.parameters import Parameters, random_from
from prompt_tuning.types import Frozen

LENGTH = 12


@pytest.fixture(scope="module")
def config(tiny_config):
  """Few buckets, so that a dozen tokens reach the last one."""
  return dataclasses.replace(
    tiny_config, num_encoder_layers=0, relative_buckets=8, relative_max_distance=10
  )


@pytest.fixture(scope="module")
def model(config):
  return DecoderOnlyT5.random(config, jax.random.key(0))


@pytest.fixture(scope="module")
def tokens():
  return jax.random.randint(jax.random.key(1), (3, LENGTH), 3, 64)


def shapes(config):
  variables = trees.flat_variables(DecoderOnlyT5.abstract(config))
  return {path: v.get_value().shape for path, v in variables.items()}


@jax.jit
def causal_logits(model, tokens):
  mask = jnp.broadcast_to(causal_mask(LENGTH), (tokens.shape[0], 1, LENGTH, LENGTH))
  return model.decode(model.embed(tokens), mask)


@jax.jit
def prefilled(model, tokens, contexts=()):
  rows, length = tokens.shape
  mask = jnp.broadcast_to(causal_mask(length), (rows, 1, length, length))
  return model.prefill(model.embed(tokens), mask, jnp.ones((rows, length), bool), contexts)


@jax.jit
def step(model, tokens, cache):
  return model.decode_step(tokens, cache)


def test_parameter_names_are_t5x_s(golden):
  config = T5Config(
    vocab_size=1024,
    d_model=256,
    num_heads=4,
    d_ff=512,
    num_encoder_layers=0,
    num_decoder_layers=2,
  )
  params = golden("mid_deconly_params")
  assert shapes(config) == {path: array.shape for path, array in params.items()}


def test_t5_1_0_ties_logits_and_has_one_input_kernel(config, tokens):
  config = dataclasses.replace(config, mlp_activations=("relu",), tied_logits=True)
  names = shapes(config)
  assert "decoder/layers_0/mlp/wi/kernel" in names
  assert "decoder/logits_dense/kernel" not in names
  model = DecoderOnlyT5.random(config, jax.random.key(1))
  assert causal_logits(model, tokens).shape == (3, LENGTH, 64)


def test_an_abstract_model_allocates_nothing(config):
  huge = dataclasses.replace(config, d_ff=1 << 40)
  assert shapes(huge)["decoder/layers_0/mlp/wo/kernel"] == (1 << 40, 16)


def test_weights_are_frozen_and_named_in_full(model):
  for variable in trees.flat_variables(model).values():
    assert isinstance(variable, Frozen)
    assert len(variable.get_metadata("axes")) == variable.get_value().ndim


def test_missing_and_unexpected_names_are_all_listed(config, model):
  params = trees.values(model)
  del params["decoder/decoder_norm/scale"]
  params["decoder/extra"] = np.zeros(3)
  with pytest.raises(checks.InputError) as error:
    DecoderOnlyT5(config, params)
  assert "  - decoder/decoder_norm/scale" in str(error.value)
  assert "  + decoder/extra" in str(error.value)


def test_a_wrong_shape_is_refused(config, model):
  params = trees.values(model) | {"decoder/decoder_norm/scale": np.zeros(5, np.float32)}
  with pytest.raises(checks.InputError, match=r"has shape \[5\], expected \[16\]"):
    DecoderOnlyT5(config, params)


def test_a_config_with_an_encoder_is_refused(tiny_config):
  with pytest.raises(checks.InputError, match="num_encoder_layers is 2, expected 0"):
    DecoderOnlyT5.abstract(tiny_config)


def test_a_table_in_every_layer_is_the_shared_one_where_they_are_equal(
  config, model, tokens
):
  params = trees.values(model)
  table = params.pop("decoder/relpos_bias/rel_embedding")
  names = [f"decoder/layers_{i}/relpos_bias/rel_embedding" for i in range(2)]
  config = dataclasses.replace(config, relative_per_layer=True)
  equal = DecoderOnlyT5(config, params | dict.fromkeys(names, table))
  expected = causal_logits(model, tokens)
  np.testing.assert_array_equal(causal_logits(equal, tokens), expected)
  other = DecoderOnlyT5(config, params | {names[0]: table, names[1]: 2 * table})
  assert not np.array_equal(causal_logits(other, tokens), expected)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_bias_between_positions_is_that_of_their_distance(config, bidirectional):
  params = Parameters(random_from(jax.random.key(2)))
  bias = RelativeBias(config, params, bidirectional)
  expected = bias(40, 40, jnp.float32)[0]
  positions = jnp.arange(40, dtype=jnp.int32)[None]
  np.testing.assert_array_equal(
    bias.between(positions + 7, positions + 7, jnp.float32)[0], expected
  )
  queries = jnp.asarray([[3], [39]], jnp.int32)
  found = bias.between(queries, positions, jnp.float32)
  np.testing.assert_array_equal(
    found[:, :, 0], jnp.stack([expected[:, 3], expected[:, 39]])
  )


def test_future_tokens_change_nothing(model, tokens):
  before, after = (causal_logits(model, x) for x in (tokens, tokens.at[:, 6:].set(7)))
  np.testing.assert_array_equal(before[:, :6], after[:, :6])
  assert np.abs(before[:, 6:] - after[:, 6:]).max() > 1e-3


def test_steps_behind_contexts_equal_teacher_forcing(model, tokens):
  expected = causal_logits(model, tokens)
  first = prefilled(model, tokens[:, :4])
  second = prefilled(model, tokens[:, 4:7], (first,))
  cache = model.start_cache((first, second), jnp.full(3, 7), 3, 5)
  for i in range(7, LENGTH):
    found, cache = step(model, tokens[:, i], cache)
    np.testing.assert_allclose(found, expected[:, i], rtol=1e-4, atol=1e-5)


def test_a_shared_context_is_as_good_as_one_for_every_row(model, tokens):
  first = prefilled(model, tokens[:1, :4])
  shared = prefilled(model, tokens[:, 4:7], (first,))
  assert shared.layers[0].keys.shape == (3, 3, 2, 8)
  same = jnp.concatenate([jnp.broadcast_to(tokens[:1, :4], (3, 4)), tokens[:, 4:]], axis=1)
  expected = causal_logits(model, same)
  cache = model.start_cache((first, shared), jnp.full(3, 7), 3, 5)
  assert cache.contexts[0].layers[0].keys.shape == (1, 4, 2, 8)
  found, _ = step(model, tokens[:, 7], cache)
  np.testing.assert_allclose(found, expected[:, 7], rtol=1e-4, atol=1e-5)


def test_consecutive_rows_share_the_context_of_their_input(model, tokens):
  context = prefilled(model, tokens[:, :7])
  cache = model.start_cache((context,), jnp.full(3, 7), 6, 5)
  rows = jnp.repeat(tokens, 2, axis=0).at[:, 7].set(jnp.arange(10, 16))
  expected = causal_logits(model, rows)
  for i in range(7, LENGTH):
    found, cache = step(model, rows[:, i], cache)
    np.testing.assert_allclose(found, expected[:, i], rtol=1e-4, atol=1e-5)


def test_reordering_moves_rows_and_leaves_contexts_where_they_are(model, tokens):
  context = prefilled(model, tokens[:, :7])
  cache = model.start_cache((context,), jnp.full(3, 7), 6, 5)
  _, cache = step(model, jnp.arange(10, 16), cache)
  order = jnp.asarray([1, 1, 2, 3, 5, 4])
  moved = cache.reordered(order)
  assert moved.contexts is cache.contexts
  for before, after in zip(cache.decoded, moved.decoded, strict=True):
    np.testing.assert_array_equal(after.keys, before.keys[order])
    np.testing.assert_array_equal(after.values, before.values[order])


def test_half_precision_gives_float32_logits_that_are_close(config, model, tokens):
  half = DecoderOnlyT5(dataclasses.replace(config, dtype="bfloat16"), trees.values(model))
  found, expected = causal_logits(half, tokens), causal_logits(model, tokens)
  assert found.dtype == jnp.float32
  assert 0 < np.abs(found - expected).max() < 0.1
  context = prefilled(half, tokens[:, :7])
  assert context.layers[0].keys.dtype == jnp.bfloat16
  cache = half.start_cache((context,), jnp.full(3, 7), 3, 5)
  stepped, _ = step(half, tokens[:, 7], cache)
  assert np.abs(stepped - expected[:, 7]).max() < 0.1


def test_dropout_needs_a_key(config, model, tokens):
  config = dataclasses.replace(config, dropout_rate=0.5)
  model = DecoderOnlyT5(config, trees.values(model))
  embeddings, mask = model.embed(tokens), causal_mask(LENGTH)
  without = model.decode(embeddings, mask, model.dropout(None))
  np.testing.assert_array_equal(without, model.decode(embeddings, mask))
  dropped = model.decode(embeddings, mask, model.dropout(jax.random.key(3)))
  assert np.abs(without - dropped).max() > 1e-2
