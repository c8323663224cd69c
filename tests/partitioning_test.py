"""Meshes and rules: nothing that is computed depends on how it is shared out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from prompt_tuning import axis_rules, checks, partitioning, trees
from prompt_tuning.axis_rules import standard_logical_axis_rules
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.parameters import Parameters, random_from
from prompt_tuning.models.t5 import T5
from prompt_tuning.partitioning import Layout, Partitioner
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.adafactor import Adafactor
from prompt_tuning.training.losses import Loss
from prompt_tuning.training.schedules import Schedule
from prompt_tuning.types import Frozen, Tunable

BANK = "bank/prompts"
RULE_SETS = [(1, 1), (2, 1), (1, 2), (2, 2)]
PARTITIONS = [1, 2, 4, 8]  # meshes (8, 1), (4, 2), (2, 4), (1, 8)
ROWS = 8
CONFIG = T5Config(
  vocab_size=64,
  d_model=16,
  num_heads=8,
  d_kv=4,
  d_ff=32,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
OPTIMIZER = states.over_bank(
  Adafactor(multiply_by_parameter_scale=False).transformation(
    Schedule(factors="constant", base_learning_rate=0.3), 0
  )
)


def layout_of(partitions: int, dims: tuple[int, int] = (1, 1), batch: int = ROWS) -> Layout:
  rules = standard_logical_axis_rules(*dims)
  return Partitioner(num_partitions=partitions, logical_axis_rules=rules).layout(batch)


@pytest.fixture(scope="module")
def rows(batch):
  """The four rows of `batch`, twice."""
  return {name: np.concatenate([x, x]) for name, x in batch.items()}


def model_on(layout: Layout, kind: type = Frozen) -> PromptedT5:
  source = Parameters(random_from(jax.random.key(0)), kind, constrain=layout.constrain)
  bank = PromptBank(jax.random.normal(jax.random.key(1), (3, CONFIG.d_model)))
  return PromptedT5(T5(CONFIG, source), bank if kind is Frozen else None)


@dataclasses.dataclass(frozen=True)
class Learnt:
  """What five steps on some devices gave."""

  losses: np.ndarray
  gradient: np.ndarray
  prompt: np.ndarray


def learnt(layout: Layout, rows, num_microbatches: int | None = None) -> Learnt:
  split = states.Split.of(model_on(layout))
  frozen = layout.place(split.frozen)
  state = states.create(split, OPTIMIZER, jax.random.key(2))
  shardings = layout.like(state, trees.flat_variables(split.tunable))
  state = partitioning.put(state, shardings)
  placed = partitioning.shard_batch(rows, layout.mesh)

  @jax.jit
  def gradient(params, frozen, batch):
    def loss(params):
      return steps.loss_and_sums(split.merge(params, frozen), batch, Loss(), None)[0]

    return jax.grad(loss)(params)[BANK]

  first = np.asarray(gradient(state.params, frozen, placed))
  step = steps.train_step(
    split, OPTIMIZER, Loss(), num_microbatches, layout.constrain, shardings
  )
  losses = []
  for _ in range(5):
    state, sums = step(state, frozen, placed)
    losses.append(float(sums["loss"]))
  assert state.params[BANK].sharding.is_fully_replicated
  return Learnt(np.array(losses), first, np.asarray(state.params[BANK]))


@pytest.fixture(scope="module")
def alone(rows):
  """What one device learns."""
  layout = layout_of(1, batch=1)
  assert layout.mesh.size == 1
  return learnt(layout, rows)


@pytest.mark.parametrize("dims", RULE_SETS, ids=str)
@pytest.mark.parametrize("partitions", PARTITIONS)
def test_every_mesh_and_rule_set_learns_what_one_device_learns(
  rows, alone, partitions, dims
):
  layout = layout_of(partitions, dims)
  assert dict(layout.mesh.shape) == {"data": 8 // partitions, "model": partitions}
  found = learnt(layout, rows)
  np.testing.assert_allclose(found.losses, alone.losses, rtol=1e-5)
  scale = np.abs(alone.gradient).max()
  np.testing.assert_allclose(found.gradient / scale, alone.gradient / scale, atol=1e-5)
  np.testing.assert_allclose(found.prompt, alone.prompt, rtol=1e-5, atol=1e-5)
  assert np.abs(alone.prompt).max() > 1  # and it did learn


def test_microbatches_are_shared_out_as_batches_are(rows, alone):
  found = learnt(layout_of(2), rows, num_microbatches=2)
  np.testing.assert_allclose(found.prompt, alone.prompt, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("partitions", PARTITIONS)
def test_every_mesh_decodes_what_one_device_decodes(rows, partitions):
  def answers(layout):
    split = states.Split.of(model_on(layout))
    frozen = layout.place(split.frozen)

    @jax.jit
    def decode(frozen, inputs, candidates):
      model = split.merge(trees.values(split.tunable), frozen)
      beams = model.generate_all(inputs, 4, decoding=Beam(num_decodes=2))
      return *model.generate(inputs, 4), *beams, model.score_candidates(inputs, candidates)

    inputs = {"inputs": rows["encoder_input_tokens"]}
    inputs["candidates"] = np.repeat(rows["decoder_target_tokens"][:, None], 2, axis=1)
    placed = partitioning.shard_batch(inputs, layout.mesh)
    return jax.device_get(decode(frozen, placed["inputs"], placed["candidates"]))

  expected = answers(layout_of(1, batch=1))
  for found, wanted in zip(answers(layout_of(partitions, (2, 2))), expected, strict=True):
    if found.dtype == np.int32:
      np.testing.assert_array_equal(found, wanted)
    else:
      np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


# Where arrays lie.


@pytest.mark.parametrize(
  ("axes", "one_one", "one_two", "two_one", "two_two"),
  [
    ("vocab embed", "model -", "model data", "model -", "model data"),
    ("embed joined_kv", "- model", "data model", "- model", "data model"),
    ("embed mlp", "- model", "data model", "- model", "data model"),
    ("mlp embed", "model -", "model data", "model -", "model data"),
    ("embed", "-", "data", "model", "model"),
    ("heads relpos_buckets", "model -", "model -", "model -", "model -"),
    ("num_prompts prompt prompt_embed", "- - -", "- - -", "- - -", "- - -"),
    ("embed layers mlp", "- - model", "data - model", "- - model", "data - model"),
    ("batch length embed", "data - -", "data - -", "data - model", "data - model"),
    ("batch length mlp", *["data - model"] * 4),
    ("batch length heads kv", *["data - model -"] * 4),
  ],
)
def test_the_rule_sets_are_t5x_ones(axes, one_one, one_two, two_one, two_two):
  for dims, expected in zip(
    [(1, 1), (1, 2), (2, 1), (2, 2)], (one_one, one_two, two_one, two_two), strict=True
  ):
    found = axis_rules.spec(axes.split(), standard_logical_axis_rules(*dims))
    assert found == P(*(None if x == "-" else x for x in expected.split())), dims


def test_further_rules_come_last():
  rules = standard_logical_axis_rules(1, 1, (("prompt", "data"), ["mlp", "data"]))
  assert axis_rules.spec(("prompt", "prompt_embed"), rules) == P("data", None)
  assert axis_rules.spec(("embed", "mlp"), rules) == P(None, "model")


@pytest.mark.parametrize("partitions", PARTITIONS)
def test_fully_sharded_weights_take_an_eighth_of_each_device(partitions):
  layout = layout_of(partitions, (1, 2))
  values = trees.values(layout.place(states.Split.of(model_on(layout)).frozen))
  small = {p for p in values if p.endswith(("scale", "rel_embedding"))}
  assert small and small != set(values)
  for path, value in values.items():
    held = value.addressable_shards[0].data.nbytes
    assert held == value.nbytes / 8 or (path in small and held <= value.nbytes), path


def test_optimizer_slots_lie_with_their_weights():
  layout = layout_of(2, (1, 2))
  split = states.Split.of(model_on(layout, Tunable))
  optimizer = Adafactor(min_dim_size_to_factor=128, beta1=0.9)
  transformation = optimizer.transformation(Schedule(), 0)
  state = states.create(split, transformation, jax.random.key(0))
  found = layout.like(state, trees.flat_variables(split.tunable))
  path = "model/encoder/layers_0/mlp/wi_0/kernel"
  assert found.params[path].spec == P("data", "model")
  slots = found.opt_state.slots[path]
  assert slots.v.spec == slots.m.spec == P("data", "model")
  assert slots.v_row.spec == found.step.spec == found.key.spec == P()


def test_all_weights_learn_alike_when_they_are_split(rows):
  results = []
  for layout in (layout_of(1, batch=1), layout_of(2, (2, 2))):
    split = states.Split.of(model_on(layout, Tunable))
    transformation = Adafactor().transformation(Schedule(), 0)
    state = states.create(split, transformation, jax.random.key(0))
    shardings = layout.like(state, trees.flat_variables(split.tunable))
    state = partitioning.put(state, shardings)
    step = steps.train_step(split, transformation, Loss(), shardings=shardings)
    for _ in range(2):
      state, sums = step(state, split.frozen, partitioning.shard_batch(rows, layout.mesh))
    results.append((float(sums["loss"]), jax.device_get(state.params)))
  (loss, params), (other_loss, other_params) = results
  assert other_loss == pytest.approx(loss, rel=1e-5)
  for path, value in params.items():
    np.testing.assert_allclose(other_params[path], value, rtol=1e-4, atol=1e-5)


def test_rows_of_a_batch_are_spread_over_copies_of_the_model():
  mesh = layout_of(2).mesh
  assert partitioning.rows(8, mesh) == range(8)
  placed = partitioning.shard_batch({"x": np.arange(16).reshape(8, 2)}, mesh)["x"]
  for shard in placed.addressable_shards:
    (copy, _) = np.argwhere(mesh.devices == shard.device)[0]
    np.testing.assert_array_equal(shard.data, np.arange(16).reshape(8, 2)[2 * copy :][:2])


def test_rows_may_be_counted_by_the_second_axis():
  rows = np.arange(2 * 8 * 3).reshape(2, 8, 3)
  mesh = Partitioner().mesh(8)
  placed = partitioning.from_rows({"x": rows}, 8, mesh, axis=1)["x"]
  assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 1, 3)}
  np.testing.assert_array_equal(placed, rows)


# What does not divide.


def refused(call) -> str:
  with pytest.raises(checks.InputError) as caught:
    call()
  return str(caught.value)


def test_all_axes_that_do_not_divide_are_named_with_what_would_work():
  config = dataclasses.replace(CONFIG, num_heads=6, vocab_size=63, d_model=12)
  variables = trees.flat_variables(T5.abstract(config))
  message = refused(lambda: layout_of(4).check(variables))
  lines = message.splitlines()
  assert "heads is 6: 'model' has 4 devices, NUM_PARTITIONS that work are 1, 2, 3 or 6" in (
    line.strip() for line in lines
  )
  assert any("vocab is 63" in line and "1, 3, 7, 9, 21 or 63" in line for line in lines)
  assert not any("joined_kv" in line or "embed" in line for line in lines)
  message = refused(lambda: layout_of(1, (1, 2)).check(variables))
  assert "embed is 12: 'data' has 8 devices" in message
  assert "1, 2, 3, 4, 6 or 12" in message
  layout_of(2).check({})


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_partitions": 3}, "num_partitions is 3, expected a divisor of the 8 devices"),
    ({"num_partitions": 0}, "num_partitions is 0, expected a number of devices from 1"),
    ({"num_partitions": "2"}, "num_partitions is '2'"),
    ({"ici_mesh_shape": (1, 2, 4)}, "dcn_mesh_shape None, expected neither or both"),
    (
      {"ici_mesh_shape": (1, 2, 4), "dcn_mesh_shape": (1, 2, 1)},
      "is [1, 4, 4], expected 8 devices in all",
    ),
    (
      {"ici_mesh_shape": (1, 2, 2), "dcn_mesh_shape": (2, 1, 1)},
      "is for 2 parts, expected the 1 slices or the 1 processes",
    ),
  ],
)
def test_meshes_that_cannot_be(settings, message):
  assert message in refused(lambda: Partitioner(**settings).layout(8))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((3, 1), "ACTIVATION_PARTITIONING_DIMS is 3, expected 1 or 2"),
    ((1, 0), "PARAMETER_PARTITIONING_DIMS is 0, expected 1 or 2"),
    ((1, 1, ("prompt",)), "the axis rule 'prompt' is no pair"),
  ],
)
def test_rules_that_cannot_be(arguments, message):
  assert message in refused(lambda: standard_logical_axis_rules(*arguments))


def test_rules_for_axes_that_a_mesh_does_not_have():
  for rule, named in (
    (("prompt", "modle"), "'modle'"),
    (("embed", ["data", "rows"]), "'rows'"),
  ):
    partitioner = Partitioner(logical_axis_rules=[rule])
    found = refused(lambda partitioner=partitioner: partitioner.layout(8))
    assert f"splits over {named}, expected data, model or None" in found
  layout = Partitioner(logical_axis_rules=[("embed", ["data", "model"])]).layout(8)
  assert layout.sharding(("embed",)).spec == P(("data", "model"))
  config = dataclasses.replace(CONFIG, d_model=12)
  message = refused(lambda: layout.check(trees.flat_variables(T5.abstract(config))))
  assert "embed is 12: 'data and model' has 8 devices" in message


def test_a_batch_of_another_size_must_divide_too():
  mesh = layout_of(2).mesh
  message = refused(lambda: partitioning.shard_batch({"x": np.zeros((6, 2))}, mesh))
  assert "a batch of 6 rows does not divide over 4 copies" in message
  assert "choose 8" in message


def test_t5x_submesh_is_its_size():
  layout = Partitioner(model_parallel_submesh=(2, 1, 1, 2)).layout(8)
  assert dict(layout.mesh.shape) == {"data": 2, "model": 4}


def test_a_small_batch_leaves_devices_idle():
  assert dict(layout_of(2, batch=3).mesh.shape) == {"data": 3, "model": 2}
  assert dict(layout_of(1, batch=11).mesh.shape) == {"data": 1, "model": 1}


def test_a_value_is_laid_out_by_its_axes():
  layout = layout_of(4)

  @jax.jit
  def laid_out(x):
    return layout.constrain(x, ("batch", "length", "mlp"))

  found = laid_out(jnp.zeros((2, 3, 8)))
  assert found.sharding.is_equivalent_to(layout.sharding(("batch", None, "mlp")), 3)
