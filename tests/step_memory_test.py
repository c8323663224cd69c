"""Memory of a step: exact where arrays lie, near the compiler's where they are made."""

import dataclasses
import importlib.util

import jax
import pytest

from prompt_tuning import (
  axis_rules,
  config,
  partitioning,
  plan_devices,
  step_memory,
  step_shapes,
  throughput,
  trees,
)
from prompt_tuning.models.t5 import T5
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.step_memory import Resident
from prompt_tuning.step_shapes import StepShapes
from prompt_tuning.training import state as states
from prompt_tuning.types import Frozen, Tunable

FILES = ["models/t5_1_1_prompt.gin", "runs/prompt_finetune.gin"]
MODEL = {
  "NUM_HEADS": 8,
  "NUM_ENCODER_LAYERS": 4,
  "NUM_DECODER_LAYERS": 4,
  "HEAD_DIM": 16,
  "EMBED_DIM": 128,
  "MLP_DIM": 256,
  "NUM_EMBEDDINGS": 512,
  "BATCH_SIZE": 16,
  "TASK_FEATURE_LENGTHS": {"inputs": 56, "targets": 16},
}
LEAST = {"MIXTURE_OR_TASK_NAME": "", "MODEL_DIR": "", "INITIAL_CHECKPOINT_PATH": ""}


def run_of(files=FILES, **macros):
  """A run of a small T5 without anything that a plan does not need."""
  prompt = {"PROMPT_LENGTH": 8} if files is FILES else {}
  given = {**MODEL, **prompt, **macros}
  bindings = [f"{name} = {value!r}" for name, value in given.items()]
  return config.load("train.train", files, bindings, (), {**LEAST, "TRAIN_STEPS": 1})[0]


MODEL_TUNING = ["models/t5_1_1.gin", "runs/finetune.gin"]
MESHES = [(1, 1, 1), (1, 1, 2), (2, 1, 1), (4, 2, 2), (8, 2, 1)]


def layout_of(run, partitions: int, activations: int, parameters: int):
  rules = axis_rules.standard_logical_axis_rules(activations, parameters)
  partitioner = Partitioner(num_partitions=partitions, logical_axis_rules=rules)
  return partitioner.layout(run.train_dataset.batch_size)


def on_one(tree) -> int:
  """Bytes of real arrays on the first device of the mesh."""
  first = jax.devices()[0]
  shards = [s for x in jax.tree.leaves(tree) for s in x.addressable_shards]
  return sum(s.data.nbytes for s in shards if s.device == first)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("files", [FILES, MODEL_TUNING], ids=["prompt", "model"])
def test_what_lies_on_a_device_is_what_a_placed_run_has_there(mesh, files):
  run = run_of(files)
  layout = layout_of(run, *mesh)
  learns_itself = files is MODEL_TUNING
  model = T5.random(run.model, jax.random.key(0), Tunable if learns_itself else Frozen)
  bank = None if learns_itself else PromptBank(jax.numpy.ones((8, 128)))
  split = states.Split.of(PromptedT5(model, bank))
  optimizer = run.learned.optimizer(run.optimizer.transformation(run.learning_rate_fn))
  state = states.create(split, optimizer, jax.random.key(0))
  variables = trees.flat_variables(split.tunable)
  state = jax.device_put(state, layout.like(state, variables))
  key = on_one(jax.random.key_data(state.key))
  examples = {
    name: jax.numpy.zeros(x.shape, x.dtype)
    for name, x in step_shapes.batch(run, 16).items()
  }
  found = Resident.of(StepShapes.of(run, layout))
  assert found.weights == on_one(layout.place(split.frozen))
  assert found.learned == on_one(state.params)
  assert found.optimizer == on_one([state.opt_state, state.step]) + key
  assert found.batch == on_one(partitioning.shard_batch(examples, layout.mesh))


def test_int8_weights_are_a_quarter_and_their_scales():
  run = run_of()
  eighth = run_of(WEIGHT_DTYPE="int8")
  layout = layout_of(run, 2, 1, 1)
  whole = Resident.of(StepShapes.of(run, layout)).weights
  small = Resident.of(StepShapes.of(eighth, layout)).weights
  placed = T5.abstract(run.model, "int8")
  scales = [v for p, v in trees.flat_variables(placed).items() if p.endswith("_scale")]
  assert scales and whole / 4 < small < whole / 3


@pytest.mark.slow
def test_few_layers_tell_of_all():
  run = run_of(NUM_ENCODER_LAYERS=5, NUM_DECODER_LAYERS=5)
  layout = layout_of(run, 2, 1, 1)
  few = step_memory.compiled(run, layout)
  whole = step_memory.compiled(run, layout, whole=True)
  assert few.activations == pytest.approx(whole.activations, rel=0.05)
  assert few.flops == pytest.approx(whole.flops, rel=0.01)
  assert whole.flops * 8 == pytest.approx(step_memory.counted(run), rel=0.1)


def test_layers_are_counted_in_both_towers():
  run = run_of(NUM_ENCODER_LAYERS=6, NUM_DECODER_LAYERS=2)
  assert run.model.depth == 2
  half = step_shapes.with_depth(run, 1).model
  assert (half.num_encoder_layers, half.num_decoder_layers) == (3, 1)


def test_operations_are_near_those_that_throughput_counts():
  """A frozen model has no gradients of weights: two thirds of an update of all."""
  for files, share in ((FILES, 2 / 3), (MODEL_TUNING, 1.0)):
    run = run_of(files, DROPOUT_RATE=0.0)
    inputs = 56 + (8 if files is FILES else 0)
    ours = throughput.training_flops(run.model, 16, inputs, 16) * share
    assert ours < step_memory.counted(run) < 1.6 * ours


def test_the_estimate_falls_with_what_keeps_less():
  run = run_of()
  layout = layout_of(run, 1, 1, 1)

  def of(**macros) -> int:
    return step_memory.estimated(run_of(**macros), layout)

  plain = of()
  assert of(LAYER_REMAT="full", NUM_ENCODER_LAYERS=8, NUM_DECODER_LAYERS=8) < of(
    NUM_ENCODER_LAYERS=8, NUM_DECODER_LAYERS=8
  )
  halves = dataclasses.replace(run.trainer, num_microbatches=2)
  twice = dataclasses.replace(run, trainer=halves)
  assert 0.4 * plain < step_memory.estimated(twice, layout) < 0.6 * plain
  assert step_memory.estimated(run, layout_of(run, 4, 1, 1)) > plain  # fewer copies
  weights = Resident.of(StepShapes.of(run_of(MODEL_TUNING), layout)).learned
  assert step_memory.estimated(run_of(MODEL_TUNING), layout) > weights  # gradients


@pytest.mark.slow
def test_the_estimate_is_near_the_tpu_compiler_s_and_not_below():
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("no libtpu here, which has the TPU compiler: pip install -e '.[tpu]'")
  wide = {"EMBED_DIM": 512, "MLP_DIM": 1024, "NUM_HEADS": 8, "HEAD_DIM": 64}
  lengths = {"inputs": 504, "targets": 16}
  run = run_of(**wide, TASK_FEATURE_LENGTHS=lengths)
  devices = plan_devices.tpus("v5e:2x2")
  layout = run.partitioner.layout(run.train_dataset.batch_size, devices)
  said = step_memory.compiled(run, layout).activations
  assert said < step_memory.estimated(run, layout) < 2 * said
