"""What every method keeps: its variables alone learn, are saved, and answer reloaded."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest
from etils import epath

from prompt_tuning import assembly, formats, trees
from prompt_tuning.checkpoints import method_files
from prompt_tuning.data.vocabularies import Bytes
from prompt_tuning.method_tuning import MethodTuning
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.low_rank import LowRank
from prompt_tuning.methods.multi_task import MultiTask
from prompt_tuning.methods.per_layer import PerLayer
from prompt_tuning.methods.residual import Residual
from prompt_tuning.methods.wayward import Wayward
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import FromFile, Prompt, SampledVocab, Text
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

PROMPT = Prompt(length=4, start=SampledVocab())
CAUSAL = ["prompt->input", "prompt->prompt;causal"]
# name -> settings, and how many parameters learn of a model of one layer in encoder and
# decoder, d_model 16, 2 heads of 8, d_ff 32.
METHODS: dict[str, tuple[Any, int]] = {
  "per_layer": (PerLayer(prompt=PROMPT), 1 * 4 * 16),
  "ia3": (IA3(), (2 * 16 + 32) + (4 * 16 + 32)),
  "residual": (
    Residual(prompt=PROMPT, bottleneck=5),
    4 * 16 + 2 * 16 * 5 + 5 + 3 * 16,
  ),
  "residual_causal": (
    Residual(prompt=dataclasses.replace(PROMPT, visibility=CAUSAL), bottleneck=1),
    4 * 16 + 2 * 16 * 1 + 1 + 3 * 16,
  ),
  "low_rank": (LowRank(prompt=PROMPT, rank=2), 2 * (4 + 16)),
  "multi_task_alone": (MultiTask(prompt=PROMPT, num_tasks=3, how="alone"), 3 * 4 * 16),
  "multi_task_add": (MultiTask(prompt=PROMPT, num_tasks=3), 4 * 16 + 3 * 4 * 16),
  "multi_task_concat": (
    MultiTask(
      prompt=dataclasses.replace(PROMPT, visibility=CAUSAL),
      num_tasks=3,
      how="concat",
      task_tokens=1,
    ),
    3 * 16 + 3 * 1 * 16,
  ),
  "multi_task_concat_features": (
    MultiTask(prompt=PROMPT, num_tasks=3, how="concat_features", task_features=6),
    4 * 10 + 3 * 4 * 6,
  ),
  "multi_task_project": (
    MultiTask(prompt=PROMPT, num_tasks=3, how="project", shared_features=5),
    4 * 5 + 3 * 16 * (5 + 1),
  ),
  "wayward": (
    Wayward(prompt=Prompt(length=4, start=Text(text="good"))),
    4 * 16,
  ),
}
VOCABULARY = Bytes(extra_ids=8)
LAST = 3 + 256 + 8 - 1  # the first sentinel: what tells tasks apart


LOGITS = jax.jit(PromptedT5.logits)


@dataclasses.dataclass(frozen=True)
class Trained:
  """A method after steps in which a variable changes where its gradient is not zero."""

  learned: MethodTuning
  count: int
  base: assembly.Base
  split: states.Split
  before: dict[str, np.ndarray]
  frozen: dict[str, np.ndarray]
  params: dict[str, jax.Array]


@pytest.fixture(scope="module")
def rows():
  """Four rows of bytes, each behind the sentinel of a task."""
  rng = np.random.default_rng(0)
  inputs = rng.integers(3, 259, (4, 8)).astype(np.int32)
  inputs[:, 0] = LAST - np.array([0, 2, 1, 2])
  inputs[2, 5:] = 0
  targets = rng.integers(3, 259, (4, 3)).astype(np.int32)
  return {
    "encoder_input_tokens": inputs,
    "decoder_target_tokens": targets,
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_loss_weights": np.ones_like(targets),
  }


@pytest.fixture(scope="module", params=METHODS)
def trained(request, byte_t5, rows) -> Trained:
  method, count = METHODS[request.param]
  base, learned = assembly.Base.of(byte_t5), MethodTuning(method=method)
  split = states.Split.of(learned.model(base, VOCABULARY, jax.random.key(1)))
  frozen = jax.tree.map(np.array, trees.values(split.frozen))
  optimizer = learned.optimizer(optax.sgd(0.01))
  state = states.create(split, optimizer, jax.random.key(2))
  before = jax.tree.map(np.array, state.params)
  step = steps.train_step(split, optimizer, Loss())
  for _ in range(2):
    state, _ = step(state, split.frozen, rows)
  return Trained(learned, count, base, split, before, frozen, state.params)


def test_every_variable_of_it_learns_and_nothing_else(trained):
  assert trained.params.keys() == trained.before.keys()
  for path, value in trained.params.items():
    assert np.isfinite(value).all(), path
    assert np.any(np.asarray(value) != trained.before[path]), path
  for path, value in trees.values(trained.split.frozen).items():
    np.testing.assert_array_equal(value, trained.frozen[path], err_msg=path)


def test_as_many_parameters_learn_as_it_says(trained):
  assert sum(x.size for x in trained.params.values()) == trained.count


def test_its_shapes_are_known_without_arrays(trained):
  shapes = trained.learned.shapes(T5.abstract(trained.base.model.config))
  found = {p: x.shape for p, x in trees.values(states.Split.of(shapes).tunable).items()}
  assert found == {path: value.shape for path, value in trained.params.items()}


def test_its_file_holds_its_variables_and_no_others(trained, tmp_path):
  trained.learned.save_best(epath.Path(tmp_path), trained.params, {"step": 2})
  found = method_files.read(epath.Path(tmp_path) / "variables.safetensors").tensors
  again = trained.learned.load_best(epath.Path(tmp_path))
  assert found.keys() == again.keys() == trained.params.keys()
  for path, value in trained.params.items():
    np.testing.assert_array_equal(again[path], value)


def reloaded(trained, folder) -> PromptedT5:
  """What `eval` makes of the folder of a run."""
  method = formats.find_method(folder)
  if method is not None:
    return assembly.answering(trained.base, method, VOCABULARY)
  start = FromFile(path=folder, load=formats.load_prompt)
  prompt = Prompt(length=PROMPT.length, start=start)
  return assembly.with_prompt(trained.base, prompt, VOCABULARY, jax.random.key(0))


def test_what_is_exported_answers_as_it_did(trained, rows, tmp_path):
  trained.learned.save_best(epath.Path(tmp_path), trained.params, {"step": 2})
  assert trained.learned.best(tmp_path).exists()
  model = trained.split.merge(trained.params, trained.split.frozen)
  expected = LOGITS(model, **steps.features(rows))
  found = LOGITS(reloaded(trained, str(tmp_path)), **steps.features(rows))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  untrained = trained.split.merge(trained.before, trained.split.frozen)
  assert np.abs(LOGITS(untrained, **steps.features(rows)) - expected).max() > 1e-4


def test_a_step_leaves_the_prompt_that_it_makes_or_its_variables(trained, tmp_path):
  trained.learned.save_step(epath.Path(tmp_path), 2, trained.params)
  folder = tmp_path / "numpy_checkpoints" / "checkpoint_2"
  method = trained.learned.method
  if method.leaves_prompts:
    trained.learned.save_best(epath.Path(tmp_path), trained.params, {})
    best = formats.load_prompt(str(tmp_path / "prompt.safetensors"))
    np.testing.assert_array_equal(formats.load_prompt(str(folder)), best)
  else:
    names = {method.t5x_path(path).replace("/", ".") for path in trained.params}
    assert {path.name for path in folder.iterdir()} == names
