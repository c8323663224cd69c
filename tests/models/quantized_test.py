"""Weights in int8 and bfloat16: how far off they are, and that everything runs on them."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from prompt_tuning import trees
from prompt_tuning.models import quantized
from prompt_tuning.models.decoder_only import DecoderOnlyT5
from prompt_tuning.models.layers import Dense, Embedding
from prompt_tuning.models.parameters import Parameters, taken_from
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.prompted_decoder import PromptedDecoder
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

WEIGHTS = ("float32", "bfloat16", "int8")
ACTIVATIONS = ("float32", "bfloat16")
PROMPTS = np.random.default_rng(1).standard_normal((2, 3, 16)).astype(np.float32)
PROMPT_IDS = np.array([0, 1, 1, 0], np.int32)


def held(model, weights, activations="float32", **changes):
  """The same model with weights and activations of other dtypes."""
  config = dataclasses.replace(model.config, dtype=activations, **changes)
  hold = quantized.holder(trees.flat_variables(type(model).abstract(config, weights)))
  flat = {}
  for path, array in trees.values(model).items():
    flat |= hold(path, array.astype("float32" if weights == "int8" else weights))
  take = taken_from(flat)
  return type(model)(config, Parameters(take, int8=take if weights == "int8" else None))


def in_float(model):
  """The same model with every weight multiplied out, all in float32."""
  flat = {p: np.asarray(x, np.float32) for p, x in trees.values(model).items()}
  for path in [path for path in flat if quantized.scale_of(path) in flat]:
    scale = flat.pop(quantized.scale_of(path))
    flat[path] *= scale[:, None] if path.endswith("embedding") else scale
  return type(model)(dataclasses.replace(model.config, dtype="float32"), flat)


# Tied logits read a table in another dtype than activations; the rest is alike.
COMBINATIONS = [
  *((False, weights, dtype) for weights in WEIGHTS for dtype in ACTIVATIONS),
  (True, "bfloat16", "float32"),
  (True, "int8", "bfloat16"),
]


def drawn(kind, config, **changes):
  """A random model of one layer per tower."""
  config = dataclasses.replace(config, num_decoder_layers=1, **changes)
  return kind.random(config, jax.random.key(0))


def matrix(*shape):
  draw = np.random.default_rng(0)
  sizes = 10.0 ** draw.uniform(-4, 4, shape[1])
  return (draw.standard_normal(shape) * sizes).astype(np.float32)


# One matrix.


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_weight_is_off_by_half_a_scale_at_most(channel, dtype):
  weight = jnp.asarray(matrix(64, 48)).astype(dtype)
  found, scale = quantized.quantize(weight, channel)
  assert found.dtype == jnp.int8 and found.shape == weight.shape
  assert scale.dtype == jnp.float32 and scale.shape == (weight.shape[channel],)
  exact = np.asarray(weight, np.float64)
  by_channel = np.expand_dims(np.asarray(scale, np.float64), 1 - channel)
  off = np.abs(exact - np.asarray(found) * by_channel)
  assert (off <= by_channel * (0.5 + 1e-5)).all()
  np.testing.assert_array_equal(np.abs(np.asarray(found, int)).max(1 - channel), 127)


def test_rounding_is_half_to_even():
  weight = jnp.array([[127.0], [0.5], [1.5], [2.5], [-0.5], [-1.5]])
  found, scale = quantized.quantize(weight, 1)
  assert scale == 1 and found[:, 0].tolist() == [127, 0, 2, 2, 0, -2]


def test_a_channel_of_zeros_stays_one_and_a_tiny_one_is_finite():
  found, scale = map(np.asarray, quantized.quantize(jnp.array([[0.0, 1e-45, 1.0]] * 3), 1))
  assert (found[:, 0] == 0).all() and scale[0] == 1
  assert np.isfinite(scale).all() and (np.abs(found[:, 1] * scale[1]) <= 1e-44).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_visible(value):
  found, scale = quantized.quantize(jnp.array([[value, 1.0], [1.0, 2.0]]), 1)
  with np.errstate(invalid="ignore"):
    off = np.asarray(found) * np.asarray(scale)
  assert not np.isfinite(off[:, 0]).all() and np.isfinite(off[:, 1]).all()


# One layer.


def dense(weights, kernel):
  flat = {"kernel": jnp.asarray(kernel)}
  if weights == "int8":
    values = quantized.quantize(flat["kernel"], 1)
    flat = dict(zip(("kernel", "kernel_scale"), values, strict=True))
  take = taken_from(flat)
  params = Parameters(take, int8=take if weights == "int8" else None)
  return Dense(params, kernel.shape, ("embed", "mlp"), jax.nn.initializers.ones)


def test_scaling_the_product_is_scaling_the_matrix():
  layer = dense("int8", matrix(64, 48))
  x = np.random.default_rng(1).standard_normal((2, 5, 64)).astype(np.float32)
  whole = np.asarray(layer.kernel[...], np.float64) * np.asarray(layer.kernel_scale[...])
  expected = x.astype(np.float64) @ whole
  size = np.abs(x) @ np.abs(whole)  # of what is added up
  assert (np.abs(np.asarray(layer(x)) - expected) <= 1e-6 * size).all()
  x = x.astype(ml_dtypes.bfloat16)
  found, expected = layer(jnp.asarray(x)), x.astype(np.float64) @ whole
  assert found.dtype == jnp.bfloat16
  # The product and its multiple are rounded to 8 bits each, nothing else is.
  off = np.abs(np.asarray(found, np.float64) - expected)
  assert (off <= 2**-7 * np.abs(expected) + 1e-6 * size).all()


@pytest.mark.parametrize("dtype", ACTIVATIONS)
def test_rows_of_the_table_and_its_logits_have_the_scale_of_their_token(tiny_config, dtype):
  table = matrix(16, 64).T * 10.0 ** np.linspace(-2, 2, 64, dtype=np.float32)[:, None]
  values = quantized.quantize(jnp.asarray(table), 0)
  flat = dict(zip(("embedding", "embedding_scale"), values, strict=True))
  layer = Embedding(tiny_config, Parameters(taken_from(flat), int8=taken_from(flat)))
  whole = np.asarray(values[0], np.float32) * np.asarray(values[1])[:, None]
  tokens = np.array([[3, 60, 0], [63, 3, 17]])
  found = layer(tokens, jnp.dtype(dtype))
  assert found.dtype == dtype
  np.testing.assert_array_equal(np.asarray(found), whole[tokens].astype(dtype))
  x = np.random.default_rng(1).standard_normal((2, 3, 16)).astype(dtype)
  logits = layer.attend(jnp.asarray(x))
  assert logits.dtype == jnp.float32
  expected = x.astype(np.float64) @ whole.T
  off = np.abs(np.asarray(logits) - expected)
  assert (off <= 4e-6 * (np.abs(x.astype(np.float64)) @ np.abs(whole.T))).all()


# Whole models.


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("kind", [T5, DecoderOnlyT5])
def test_the_abstract_model_shows_what_lies_in_memory(tiny_config, kind, weights):
  layers = 0 if kind is DecoderOnlyT5 else 2
  config = dataclasses.replace(tiny_config, num_encoder_layers=layers)
  model = held(kind.random(config, jax.random.key(0)), weights)
  expected, found = (trees.describe(x) for x in (kind.abstract(config, weights), model))
  assert found == expected
  matrices = [line for line in found.splitlines() if weights in line]
  assert matrices


def test_norms_and_positions_stay_in_float32(tiny_t5):
  values = trees.values(held(tiny_t5, "int8"))
  for path, array in values.items():
    whole = path.endswith(("/kernel", "/embedding"))
    assert array.dtype == ("int8" if whole else "float32"), path
    assert (quantized.scale_of(path) in values) == whole


@jax.jit
def answers(model, batch):
  """Logits under teacher forcing, and what is decoded with a cache."""
  prompted = PromptedT5(model, PromptBank(PROMPTS))
  inputs, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
  logits = prompted.logits(inputs, batch["decoder_input_tokens"], targets, PROMPT_IDS)
  return logits, *prompted.generate(inputs, 4, PROMPT_IDS)


@pytest.mark.parametrize(("tied", "weights", "activations"), COMBINATIONS)
def test_answers_are_those_of_the_weights_multiplied_out(
  tiny_config, batch, tied, weights, activations
):
  model = drawn(T5, tiny_config, tied_logits=tied, num_encoder_layers=1)
  low, real = held(model, weights, activations), batch["decoder_target_tokens"] > 0
  (found, tokens, scores), expected = answers(low, batch), answers(in_float(low), batch)
  assert found.dtype == jnp.float32
  found = np.asarray(found)
  if activations == "float32":
    np.testing.assert_allclose(found[real], expected[0][real], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(tokens, expected[1])
    np.testing.assert_allclose(scores, expected[2], rtol=1e-4, atol=1e-4)
  else:  # where two tokens may be equally good
    np.testing.assert_allclose(found[real], expected[0][real], atol=0.15)
  off = np.abs(found - answers(model, batch)[0])[real].max()
  same = weights == activations == "float32"
  assert off == 0 if same else 1e-4 < off < 0.5, off


def test_candidates_are_ranked_alike(tiny_config, batch):
  low = held(drawn(T5, tiny_config, num_encoder_layers=1), "int8")
  targets = jnp.asarray(batch["decoder_target_tokens"])
  candidates = jnp.stack([targets, jnp.flip(targets, 0)], axis=1)

  @jax.jit
  def ranked(model, inputs):
    prompted = PromptedT5(model, PromptBank(PROMPTS))
    return prompted.score_candidates(inputs, candidates, PROMPT_IDS)

  found, expected = (ranked(x, batch["encoder_input_tokens"]) for x in (low, in_float(low)))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@jax.jit
def continued(model, tokens):
  """Logits of tokens behind a prompt, and what follows them."""
  prompted = PromptedDecoder(model, PromptBank(PROMPTS[0]))
  return prompted.logits(tokens, tokens), prompted.generate(tokens, 3)[0]


@pytest.mark.parametrize(
  ("tied", "weights", "activations"),
  [
    (False, "bfloat16", "float32"),
    (False, "int8", "float32"),
    (False, "int8", "bfloat16"),
    (True, "int8", "bfloat16"),
  ],
)
def test_a_decoder_alone_runs_on_all_of_them(tiny_config, tied, weights, activations):
  model = drawn(DecoderOnlyT5, tiny_config, tied_logits=tied, num_encoder_layers=0)
  low = held(model, weights, activations)
  tokens = np.random.default_rng(0).integers(3, 64, (2, 6)).astype(np.int32)
  (logits, out), (expected, all_out) = (continued(x, tokens) for x in (low, in_float(low)))
  if activations == "float32":
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(out, all_out)
  else:
    np.testing.assert_allclose(logits, expected, atol=0.15)


# Gradients.


@pytest.fixture(scope="module")
def model(tiny_config):
  return drawn(T5, tiny_config, num_encoder_layers=1)


@pytest.fixture(scope="module")
def exact(model, batch):
  return gradients(model, batch).ravel()


def gradients(model, batch, microbatches=None):
  """Of the prompts, by one step of plain descent, whose rate is one."""
  split = states.Split.of(PromptedT5(model, PromptBank(PROMPTS)))
  state = states.create(split, optax.sgd(1.0), jax.random.key(1))
  before = jax.tree.map(np.array, trees.values(split.frozen))
  step = steps.train_step(split, optax.sgd(1.0), Loss(), microbatches)
  state, _ = step(state, split.frozen, {**batch, "prompt_ids": PROMPT_IDS})
  for path, value in trees.values(split.frozen).items():
    np.testing.assert_array_equal(value, before[path])
  return PROMPTS - np.asarray(state.params["bank/prompts"])


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_gradients_are_those_of_the_weights_multiplied_out(model, batch, weights):
  low = held(model, weights)
  expected = gradients(in_float(low), batch)
  assert np.abs(expected).max() > 1e-3
  np.testing.assert_allclose(gradients(low, batch), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
  ("weights", "remat"),
  [
    ("float32", "none"),
    ("bfloat16", "none"),
    ("int8", "none"),
    ("int8", "minimal"),
    ("int8", "full"),
  ],
)
def test_gradients_through_bfloat16_activations_point_the_same_way(
  model, batch, exact, weights, remat
):
  found = gradients(held(model, weights, "bfloat16", remat=remat), batch, 2).ravel()
  cosine = found @ exact / np.linalg.norm(found) / np.linalg.norm(exact)
  assert cosine > 0.99
