"""Plain T5: shapes, names, causality, caching, and refusing what does not fit."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks, trees
from prompt_tuning.models import masks
from prompt_tuning.models.config import SIZES, T5Config
from prompt_tuning.models.dropout import Dropout
from prompt_tuning.models.t5 import T5
from prompt_tuning.types import Frozen


def shapes(config):
  variables = trees.flat_variables(T5.abstract(config))
  return {path: v.get_value().shape for path, v in variables.items()}


def logits(model, batch):
  valid = batch["encoder_input_tokens"] > 0
  targets = batch["decoder_target_tokens"] > 0
  encoded = model.encode(
    model.embed(batch["encoder_input_tokens"]), masks.outer_mask(valid, valid)
  )
  return model.decode(
    batch["decoder_input_tokens"],
    encoded,
    masks.decoder_mask(targets),
    masks.outer_mask(targets, valid),
  )


def test_parameter_names_are_t5x_s(fixtures, golden):
  config = T5Config(
    d_model=4,
    num_heads=2,
    d_kv=2,
    d_ff=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relative_buckets=4,
  )
  expected = {path: array.shape for path, array in golden("tiny_params").items()}
  assert shapes(config) == expected


@pytest.mark.parametrize(
  ("family", "size", "millions"),
  [
    ("t5_1_1", "base", 248),
    ("t5_1_1", "xxl", 11135),
    ("t5_1_0", "base", 223),
    ("mt5", "small", 300),
    ("byt5", "small", 300),
  ],
)
def test_published_sizes_have_their_parameters(family, size, millions):
  total = sum(int(np.prod(s)) for s in shapes(T5Config.of_size(family, size)).values())
  assert round(total / 1e6) == millions


def test_every_listed_size_builds_without_memory():
  for family, sizes in SIZES.items():
    for size in sizes:
      assert shapes(T5Config.of_size(family, size))


def test_an_unknown_size_names_the_nearest():
  with pytest.raises(checks.InputError, match="base"):
    T5Config.of_size("t5_1_1", "bse")


def test_t5_1_0_ties_logits_and_has_one_input_kernel(tiny_config, batch):
  config = dataclasses.replace(tiny_config, mlp_activations=("relu",), tied_logits=True)
  names = shapes(config)
  assert "encoder/layers_0/mlp/wi/kernel" in names
  assert "decoder/logits_dense/kernel" not in names
  model = T5.random(config, jax.random.key(1))
  found = logits(model, batch)
  table = trees.values(model)["token_embedder/embedding"]
  assert found.shape == (4, 5, 64)
  # Logits are bilinear in the table, up to what the table does to the inputs.
  np.testing.assert_allclose(
    model.logits(table), table @ table.T / np.sqrt(16), rtol=1e-5, atol=1e-5
  )


def test_future_targets_change_nothing(tiny_t5, batch):
  changed = {k: v.copy() for k, v in batch.items()}
  changed["decoder_input_tokens"][:, 3:] = 7
  before, after = logits(tiny_t5, batch), logits(tiny_t5, changed)
  np.testing.assert_array_equal(before[0, :3], after[0, :3])
  assert np.abs(before[0, 3:] - after[0, 3:]).max() > 1e-3


def test_padding_changes_nothing(tiny_t5, batch):
  padded = {k: np.pad(v, ((0, 0), (0, 6))) for k, v in batch.items()}
  real = batch["decoder_target_tokens"] > 0
  before, after = logits(tiny_t5, batch), logits(tiny_t5, padded)[:, :5]
  np.testing.assert_allclose(before[real], after[real], rtol=1e-5, atol=1e-5)


def test_cached_decoding_equals_teacher_forcing(tiny_t5, batch):
  row = {k: v[:1] for k, v in batch.items()}
  expected = logits(tiny_t5, row)
  tokens = jnp.asarray(row["encoder_input_tokens"])
  valid = tokens > 0
  encoded = tiny_t5.encode(tiny_t5.embed(tokens), masks.outer_mask(valid, valid))
  cache = tiny_t5.start_cache(encoded, valid, 5)
  for i in range(5):
    found, cache = tiny_t5.decode_step(
      jnp.asarray(row["decoder_input_tokens"][:, i]), cache
    )
    np.testing.assert_allclose(found, expected[:, i], rtol=1e-4, atol=1e-5)


def test_segments_of_a_packed_row_do_not_see_each_other(tiny_t5):
  first, second = [5, 9, 11], [7, 8]
  alone = jnp.asarray([[*first, 0, 0]], jnp.int32)
  packed = jnp.asarray([first + second], jnp.int32)
  segments = jnp.asarray([[1, 1, 1, 2, 2]])
  mask = masks.same_segment(segments, segments)
  together = tiny_t5.encode(tiny_t5.embed(packed), mask)
  apart = tiny_t5.encode(tiny_t5.embed(alone), masks.outer_mask(alone > 0, alone > 0))
  np.testing.assert_allclose(together[:, :3], apart[:, :3], rtol=1e-5, atol=1e-5)


def test_half_precision_gives_float32_logits_that_are_close(tiny_config, tiny_t5, batch):
  params = trees.values(tiny_t5)
  half = T5(dataclasses.replace(tiny_config, dtype="bfloat16"), params)
  found, expected = logits(half, batch), logits(tiny_t5, batch)
  assert found.dtype == jnp.float32
  real = batch["decoder_target_tokens"] > 0
  assert 0 < np.abs(found[real] - expected[real]).max() < 0.1


def test_weights_are_frozen_and_named_in_full(tiny_t5):
  for variable in trees.flat_variables(tiny_t5).values():
    assert isinstance(variable, Frozen)
    assert len(variable.get_metadata("axes")) == variable.get_value().ndim


def test_missing_and_unexpected_names_are_all_listed(tiny_config, tiny_t5):
  params = trees.values(tiny_t5)
  del params["encoder/encoder_norm/scale"], params["decoder/decoder_norm/scale"]
  params["encoder/extra"] = np.zeros(3)
  with pytest.raises(checks.InputError) as error:
    T5(tiny_config, params)
  found = set(re.findall(r"^  ([-+] \S+)$", str(error.value), re.MULTILINE))
  assert found == {
    "- encoder/encoder_norm/scale",
    "- decoder/decoder_norm/scale",
    "+ encoder/extra",
  }


def test_a_wrong_shape_is_refused(tiny_config, tiny_t5):
  params = trees.values(tiny_t5)
  params["encoder/encoder_norm/scale"] = np.zeros(5, np.float32)
  with pytest.raises(checks.InputError, match=r"has shape \[5\], expected \[16\]"):
    T5(tiny_config, params)


def test_dropout_is_shared_along_the_length_and_keeps_the_mean():
  ones = jnp.ones((4, 50, 64))
  dropped = Dropout(0.25, jax.random.key(0))(ones)
  np.testing.assert_array_equal(dropped[:, :1] > 0, dropped[:, 1:2] > 0)
  assert set(np.unique(dropped).round(5)) == {0.0, np.float32(1 / 0.75).round(5)}
  assert abs(float(dropped.mean()) - 1.0) < 0.15
  np.testing.assert_array_equal(Dropout(0.25, None)(ones), ones)


def test_a_table_in_every_layer_is_the_shared_one_where_they_are_equal(tiny_config, batch):
  shared = T5.random(tiny_config, jax.random.key(0))
  params = trees.values(shared)
  tables = {
    path.replace("relpos_bias", f"layers_{layer}/relpos_bias"): table
    for path, table in params.items()
    for layer in range(2)
    if "relpos_bias" in path
  }
  others = {path: value for path, value in params.items() if "relpos_bias" not in path}
  found = {path: value.shape for path, value in (others | tables).items()}
  config = T5Config.of_shapes(found)
  assert config == dataclasses.replace(tiny_config, relative_per_layer=True)
  expected = logits(shared, batch)
  np.testing.assert_array_equal(logits(T5(config, others | tables), batch), expected)
  name = "decoder/layers_1/relpos_bias/rel_embedding"
  changed = T5(config, others | tables | {name: np.ones((2, 32), np.float32)})
  assert not np.array_equal(logits(changed, batch), expected)


def test_a_cache_gives_each_layer_its_own_positions(tiny_config, batch):
  config = dataclasses.replace(tiny_config, relative_per_layer=True)
  model = T5.random(config, jax.random.key(1))
  valid = batch["encoder_input_tokens"] > 0
  encoded = model.encode(
    model.embed(batch["encoder_input_tokens"]), masks.outer_mask(valid, valid)
  )
  tokens = jnp.asarray(batch["decoder_input_tokens"][:1])
  cache = model.start_cache(encoded[:1], valid[:1], 5)
  everything = model.decode(
    tokens,
    encoded[:1],
    masks.decoder_mask(jnp.ones_like(tokens) > 0),
    masks.outer_mask(jnp.ones_like(tokens) > 0, valid[:1]),
  )
  for position in range(5):
    step, cache = model.decode_step(tokens[:, position], cache)
    np.testing.assert_allclose(step, everything[:, position], atol=1e-5)
