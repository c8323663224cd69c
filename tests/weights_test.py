"""Weights as they lie in memory: bytes, places, fingerprints, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest
from etils import epath

import prompt_tuning as pt
from prompt_tuning import assembly, axis_rules, checks, trees
from prompt_tuning.checkpoints import t5x
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import vocabularies
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts.start import Prompt, Text
from prompt_tuning.types import Tunable

EMBEDDED = "package://assets/t5_1_1_reviews"
FINGERPRINT = "265f17ccee09654d"  # of the embedded model; prompts are bound to it
FSDP = axis_rules.standard_logical_axis_rules(1, 2)
BOTH = axis_rules.standard_logical_axis_rules(2, 2)  # some scales lie unlike their channels


def layout(data, model, rules=None):
  partitioner = Partitioner(num_partitions=model, logical_axis_rules=rules)
  found = partitioner.layout(data)
  assert dict(found.mesh.shape) == {"data": data, "model": model}
  return found


def loaded(config, path, dtype, where=None, **settings):
  source = RestoreCheckpointConfig(path=str(path), dtype=dtype, **settings)
  return assembly.load_base(config, source, layout=where)


@pytest.fixture(scope="module")
def config(tiny_config):
  """Every axis divides over eight devices."""
  return dataclasses.replace(tiny_config, num_heads=8)


@pytest.fixture(scope="module")
def checkpoint(config, tmp_path_factory):
  """A random T5 on disk, in float32."""
  folder = tmp_path_factory.mktemp("model")
  t5x.save(epath.Path(folder), trees.values(pt.T5.random(config, jax.random.key(0))), 3)
  return folder


@pytest.fixture(scope="module")
def reviews():
  """The embedded model in every dtype."""
  config = pt.T5Config.from_gin("models/t5_1_1_reviews.gin")
  dtypes = (None, "float32", "bfloat16", "int8")
  return {dtype: loaded(config, EMBEDDED, dtype) for dtype in dtypes}


def on_devices(base):
  """Bytes of all weights, on all devices together."""
  values = trees.values(base.model).values()
  return sum(shard.data.nbytes for x in values for shard in x.addressable_shards)


def test_bytes_are_halved_and_quartered(reviews):
  whole, half, quarter = (
    on_devices(reviews[dtype]) for dtype in ("float32", "bfloat16", "int8")
  )
  assert whole == 23_608_320 and half == whole / 2
  # Scales are a 256th of the largest matrices and a 128th of the others.
  assert quarter == 6_000_640 and 0.25 < quarter / whole < 0.255


def test_the_embedded_model_keeps_its_fingerprint_in_every_dtype(reviews):
  assert {base.fingerprint for base in reviews.values()} == {FINGERPRINT}
  assert {dtype: base.weight_dtype for dtype, base in reviews.items()} == {
    None: "bfloat16",  # as it is stored
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "int8",
  }


def test_a_prompt_starts_from_the_table_multiplied_out(reviews):
  def start(dtype):
    prompt = Prompt(length=4, start=Text(text="a very good film"))
    model = assembly.with_prompt(
      reviews[dtype], prompt, vocabularies.EMBEDDED, jax.random.key(0)
    )
    return np.asarray(model.bank.prompts[...])[0]

  exact, found = start("float32"), start("int8")
  assert np.abs(exact).max() > 0.1
  assert (np.abs(found - exact).max(1) <= np.abs(exact).max(1) * (0.51 / 127)).all()
  assert (found != exact).any()


@pytest.mark.parametrize(
  "where",
  [(4, 2), (1, 8), (4, 2, FSDP), (2, 4, BOTH)],
  ids=["4x2", "1x8", "4x2 fsdp", "2x4 both"],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_split_weights_are_those_of_one_device(config, checkpoint, dtype, where):
  where = layout(*where)
  alone, split = (loaded(config, checkpoint, dtype, x) for x in (None, where))
  assert split.fingerprint == alone.fingerprint
  expected = trees.values(alone.model)
  for path, variable in trees.flat_variables(split.model).items():
    array = variable.get_value()
    np.testing.assert_array_equal(array, expected[path], err_msg=path)
    assert array.dtype == expected[path].dtype
    spec = axis_rules.spec(variable.get_metadata("axes"), where.rules)
    assert array.sharding.is_equivalent_to(
      jax.sharding.NamedSharding(where.mesh, spec), array.ndim
    ), path


def test_split_int8_answers_as_one_device(config, checkpoint, batch):
  @jax.jit
  def scores(model, batch):
    prompted = pt.PromptedT5(model, pt.PromptBank(np.ones((3, 16), np.float32)))
    return prompted.score(batch["encoder_input_tokens"], batch["decoder_target_tokens"])

  expected = scores(loaded(config, checkpoint, "int8").model, batch)
  split = loaded(config, checkpoint, "int8", layout(4, 2, FSDP))
  np.testing.assert_allclose(scores(split.model, batch), expected, rtol=1e-5)


def test_scales_are_split_with_their_channels(config, checkpoint):
  values = trees.values(loaded(config, checkpoint, "int8", layout(1, 8)).model)
  parts = {path: array.addressable_shards[0].data.shape for path, array in values.items()}
  layer = "encoder/layers_0/mlp/"
  assert parts[f"{layer}wi_0/kernel"] == (16, 4)
  assert parts[f"{layer}wi_0/kernel_scale"] == (4,)
  assert parts[f"{layer}wo/kernel"] == (4, 16)  # the largest of a column crosses devices
  assert parts[f"{layer}wo/kernel_scale"] == (16,)
  assert parts["token_embedder/embedding_scale"] == (8,)


def test_the_plan_is_what_lies_in_memory(config, checkpoint):
  for dtype in ("float32", "bfloat16", "int8"):
    found = trees.describe(loaded(config, checkpoint, dtype, layout(4, 2)).model)
    assert trees.describe(pt.T5.abstract(config, dtype)) == found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_drawn_weights_are_held_like_the_others(config, tmp_path, dtype):
  whole = trees.values(pt.T5.random(config, jax.random.key(0)))
  missing = {"decoder/logits_dense/kernel", "decoder/decoder_norm/scale"}
  t5x.save(epath.Path(tmp_path), {p: x for p, x in whole.items() if p not in missing}, 0)
  names = list(missing)
  for where in (None, layout(1, 8)):
    found = loaded(config, tmp_path, dtype, where, initialise=names)
    # They depend on their paths and the same key.
    assert found.fingerprint == trees.fingerprint(whole)
    assert trees.describe(found.model) == trees.describe(pt.T5.abstract(config, dtype))


def test_a_checkpoint_that_does_not_fit_is_refused_in_its_own_words(config, tmp_path):
  whole = trees.values(pt.T5.random(config, jax.random.key(0)))
  del whole["decoder/logits_dense/kernel"]
  t5x.save(epath.Path(tmp_path), whole, 0)
  with pytest.raises(checks.InputError) as error:
    loaded(config, tmp_path, "int8")
  assert "- decoder/logits_dense/kernel\n" in f"{error.value}\n"
  assert "kernel_scale" not in str(error.value)


def test_weights_that_learn_must_be_floats(config, checkpoint):
  source = RestoreCheckpointConfig(path=str(checkpoint), dtype="int8")
  with pytest.raises(checks.InputError, match=r"'int8', expected floats .*'float32'"):
    assembly.load_base(config, source, Tunable)


def test_what_is_no_dtype_is_refused():
  with pytest.raises(checks.InputError, match="int8"):
    RestoreCheckpointConfig(path="x", dtype="int4")
