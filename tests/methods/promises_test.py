"""What every method promises, each in one line of a table."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import LENGTHS, packed, per_example
from etils import epath

from prompt_tuning import assembly, checks, formats, trees
from prompt_tuning.checkpoints import method_files
from prompt_tuning.data.vocabularies import Bytes
from prompt_tuning.method_tuning import MethodTuning
from prompt_tuning.methods import method as methods
from prompt_tuning.methods.attempt import Attempt
from prompt_tuning.methods.decomposed import DecomposedPrompt
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.late import LatePrompt
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.low_rank import LowRank
from prompt_tuning.methods.multi_task import MultiTask
from prompt_tuning.methods.per_layer import PerLayer
from prompt_tuning.methods.prefix import PrefixTuning
from prompt_tuning.methods.residual import Residual
from prompt_tuning.methods.smop import MixtureOfPrompts
from prompt_tuning.methods.wayward import Wayward
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.start import Prompt, RandomUniform, SampledVocab, Text
from prompt_tuning.training import state, steps
from prompt_tuning.training.losses import Loss

SHAPE = T5Config(
  vocab_size=384,
  d_model=16,
  num_heads=2,
  d_kv=8,
  d_ff=32,
  num_encoder_layers=2,
  num_decoder_layers=1,
)
VOCABULARY = Bytes(extra_ids=8)
LAST = 3 + 256 + 8 - 1  # its first sentinel
TASKS = [0, 2, 1, 2]  # of the rows, where sentinels tell them apart
PROMPT = Prompt(length=3, start=RandomUniform())
SAMPLED = Prompt(length=3, start=SampledVocab())
CAUSAL = Prompt(length=3, visibility=["prompt->input", "prompt->prompt;causal"])

SOURCES = tuple(f"source_{i}.npy" for i in range(2))  # see `sources`

# name -> settings, and how many numbers learn in a model of `SHAPE`
METHODS = {
  "per_layer": (PerLayer(prompt=PROMPT), 2 * 3 * 16),
  "per_layer_add": (PerLayer(prompt=PROMPT, how="add"), 3 * 3 * 16),
  "ia3": (IA3(), 2 * (2 * 16 + 32) + (4 * 16 + 32)),
  "prefix": (PrefixTuning(length=3), 4 * 2 * 3 * 16),
  "prefix_made": (
    PrefixTuning(length=3, hidden=5),
    3 * 5 + 5 * 5 + 4 * 2 * 5 * 16,
  ),
  "late": (LatePrompt(prompt=PROMPT, first=1), 3 * 16),
  "decomposed": (
    DecomposedPrompt(prompt=PROMPT, max_length=23, rank=2, rate=0.5),
    3 * 16 + 2 * (23 + 16),
  ),
  "lora": (LoRA(rank=2), 2 * 4 * 2 * (16 + 16)),
  "lora_mlp": (LoRA(rank=2, targets=("wi_1", "wo")), 2 * 3 * 2 * (16 + 32)),
  "smop": (MixtureOfPrompts(prompt=PROMPT, num_prompts=2), 2 * (3 * 16 + 16)),
  "attempt": (
    Attempt(
      prompt=PROMPT, sources=SOURCES, load=formats.load_prompt, units=4, temperature=4.0
    ),
    3 * 16 + 2 * 16 * 4,
  ),
  "residual": (
    Residual(prompt=SAMPLED, bottleneck=5),
    3 * 16 + 2 * 16 * 5 + 5 + 3 * 16,
  ),
  "residual_causal": (
    Residual(prompt=CAUSAL, bottleneck=1),
    3 * 16 + 2 * 16 * 1 + 1 + 3 * 16,
  ),
  "low_rank": (LowRank(prompt=SAMPLED, rank=2), 2 * (3 + 16)),
  "multi_task_alone": (MultiTask(prompt=PROMPT, num_tasks=3, how="alone"), 3 * 3 * 16),
  "multi_task_add": (MultiTask(prompt=SAMPLED, num_tasks=3), 3 * 16 + 3 * 3 * 16),
  "multi_task_concat": (
    MultiTask(prompt=CAUSAL, num_tasks=3, how="concat", task_tokens=1),
    2 * 16 + 3 * 1 * 16,
  ),
  "multi_task_concat_features": (
    MultiTask(prompt=PROMPT, num_tasks=3, how="concat_features", task_features=6),
    3 * 10 + 3 * 3 * 6,
  ),
  "multi_task_project": (
    MultiTask(prompt=PROMPT, num_tasks=3, how="project", shared_features=5),
    3 * 5 + 3 * 16 * (5 + 1),
  ),
  "wayward": (Wayward(prompt=Prompt(length=4, start=Text(text="good"))), 4 * 16),
}
MULTI_TASK = [name for name in METHODS if name.startswith("multi_task")]
# These look at a row as a whole, and cannot be packed.
WHOLE_ROWS = ["smop", "attempt", *MULTI_TASK]
# A model of a few kilobytes is compiled longer than it runs.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module", autouse=True)
def sources(tmp_path_factory):
  """The trained prompts that a method may start from, where the tests run."""
  folder = tmp_path_factory.mktemp("sources")
  for number, path in enumerate(SOURCES):
    np.save(folder / path, np.random.default_rng(number).normal(size=(3, 16)))
  with contextlib.chdir(folder):
    yield


@pytest.fixture(scope="module")
def base():
  return assembly.Base.of(T5.random(SHAPE, jax.random.key(0)))


@dataclasses.dataclass(frozen=True)
class Learning:
  """A model taken apart, and what it has learned before and after each step."""

  run: MethodTuning
  batch: dict[str, np.ndarray]
  split: state.Split
  frozen: dict[str, np.ndarray]
  learned: list[dict[str, np.ndarray]]

  def model(self, step=-1):
    """After a step."""
    learned = {path: jnp.asarray(x) for path, x in self.learned[step].items()}
    return self.split.merge(learned, self.split.frozen)


@pytest.fixture(scope="module")
def learning(base, batch):
  """Two steps of SGD of each method: what it changes is the gradient."""
  found = {}

  def of(name):
    if name not in found:
      found[name] = two_steps(base, name, batch)
    return found[name]

  return of


def two_steps(base, name, batch):
  if name in MULTI_TASK:
    first = LAST - np.array(TASKS, np.int32)[:, None]
    tokens = np.concatenate([first, batch["encoder_input_tokens"]], axis=1)
    batch = {**batch, "encoder_input_tokens": tokens}
  run = of_run(name)
  split = state.Split.of(run.model(base, VOCABULARY, jax.random.key(1)))
  optimizer = run.optimizer(optax.sgd(0.3))
  now = state.create(split, optimizer, jax.random.key(2))
  step = jax.jit(steps.update(split, optimizer, Loss()), compiler_options=QUICKLY)
  frozen, learned = host(trees.values(split.frozen)), [host(now.params)]
  for _ in range(2):
    now, _ = step(now, split.frozen, batch)
    learned.append(host(now.params))
  return Learning(run, batch, split, frozen, learned)


def of_run(name):
  return MethodTuning(method=METHODS[name][0])


def host(arrays):
  return {path: np.array(x) for path, x in arrays.items()}


def logits(model, batch):
  """Not compiled: small operations, which the methods share."""
  given = {name: jnp.asarray(x) for name, x in steps.features(batch).items()}
  return np.asarray(model.logits(**given))


@every_method
def test_only_its_own_variables_change(learning, name):
  found = learning(name)
  after = host(trees.values(found.split.frozen))
  assert after.keys() == found.frozen.keys() and len(after) > 20
  for path, value in after.items():
    np.testing.assert_array_equal(value, found.frozen[path], strict=True)


@every_method
def test_every_variable_has_a_gradient_from_the_second_step_on(learning, name):
  _, before, after = learning(name).learned
  for path, value in after.items():
    assert np.isfinite(value).all() and np.any(value != before[path]), path


@every_method
def test_as_many_numbers_learn_as_its_docstring_says(learning, name):
  learned = learning(name).learned[0]
  assert sum(x.size for x in learned.values()) == METHODS[name][1]


@every_method
def test_what_it_saves_answers_as_it_did(base, learning, tmp_path, name):
  folder, found = epath.Path(tmp_path), learning(name)
  run, batch = found.run, found.batch
  run.save_best(folder, found.learned[-1], {"base_fingerprint": base.fingerprint})
  if run.method.leaves_prompts:
    again = assembly.with_prompts(base, [str(folder)], VOCABULARY)
  else:
    saved = formats.find_method(str(folder))
    assert saved.tensors.keys().isdisjoint(p for p in found.frozen if "model/" in p)
    again = assembly.answering(base, saved, VOCABULARY)
  expected = logits(found.model(), batch)
  np.testing.assert_allclose(logits(again, batch), expected, rtol=1e-4, atol=1e-4)
  before = logits(found.model(0), batch)
  assert np.abs(expected - before)[batch["decoder_target_tokens"] > 0].max() > 1e-2


@every_method
def test_a_run_continues_from_what_it_saved(learning, tmp_path, name):
  run, learned = learning(name).run, learning(name).learned[-1]
  folder = epath.Path(tmp_path)
  run.save_best(folder, learned, {})
  assert run.best(folder).exists()
  found = run.load_best(folder)
  saved = method_files.read(folder / "variables.safetensors").tensors
  assert found.keys() == saved.keys() == learned.keys()
  for path, value in learned.items():
    np.testing.assert_array_equal(found[path], value, strict=True)


@every_method
def test_a_step_leaves_the_prompt_that_it_makes_or_its_variables(learning, tmp_path, name):
  run, learned = learning(name).run, learning(name).learned[-1]
  run.save_step(epath.Path(tmp_path), 4, learned)
  folder = tmp_path / "numpy_checkpoints" / "checkpoint_4"
  if run.method.leaves_prompts:
    run.save_best(epath.Path(tmp_path), learned, {})
    best = formats.load_prompt(str(tmp_path / "prompt.safetensors"))
    np.testing.assert_array_equal(formats.load_prompt(str(folder)), best)
    return
  names = {run.t5x_path(path).replace("/", ".") for path in learned}
  assert {path.name for path in folder.iterdir()} == names and len(names) == len(learned)
  assert not [name for name in names if "steering" in name or "bank" in name]
  for path, value in learned.items():
    saved = np.load(folder / run.t5x_path(path).replace("/", "."))
    single = value[0] if path == "bank/prompts" and len(value) == 1 else value
    np.testing.assert_array_equal(saved, single, strict=True)
  with pytest.raises(checks.InputError, match="prompt"):  # of one layer, or of a method
    formats.read_prompt(str(folder))


@every_method
def test_its_shapes_are_known_without_arrays(learning, name):
  expected = learning(name).split
  found = state.Split.of(learning(name).run.shapes(T5.abstract(SHAPE)))
  for one, other in ((found.tunable, expected.tunable), (found.frozen, expected.frozen)):
    assert shapes(one) == shapes(other)


def shapes(variables):
  return {path: x.shape for path, x in trees.values(variables).items()}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in WHOLE_ROWS])
def test_packed_is_unpacked(learning, batch, name):
  model, slots = learning(name).model(), learning(name).run.prompt_slots
  alone = logits(model, batch)
  together = per_example(logits(model, packed(batch, slots, "prefix")))
  for example, found in together.items():
    real = alone[example, : LENGTHS[example][1]]
    np.testing.assert_allclose(found, real, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_rows_that_cannot_be_told_apart_are_refused(learning, batch, name):
  model, slots = learning(name).model(), learning(name).run.prompt_slots
  with pytest.raises(checks.InputError, match="set PACK = False"):
    logits(model, packed(batch, slots, "prefix"))


@every_method
def test_settings_make_the_method_again(name):
  method, _ = METHODS[name]
  again = methods.of_settings(method.name, methods.settings(method))
  assert methods.settings(again) == methods.settings(method)


def test_the_table_has_every_method():
  assert {method.name for method, _ in METHODS.values()} == methods.METHODS.keys()
