"""Prompts of several tasks: how they are made, which one answers, what cannot be."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks, formats
from prompt_tuning.method_tuning import MethodTuning
from prompt_tuning.methods import multi_task
from prompt_tuning.methods.first_token import FirstToken
from prompt_tuning.methods.method import Given
from prompt_tuning.methods.multi_task import MultiTask
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, RandomUniform, SampledVocab
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

PROMPT = Prompt(length=4, start=RandomUniform())
VOCABULARY = types.SimpleNamespace(vocab_size=64, extra_ids=8)  # of the fixture `batch`


def steered(model, **settings):
  given = Given(model, jax.random.key(0), lambda: None, lambda: VOCABULARY)
  return MultiTask(prompt=PROMPT, num_tasks=3, **settings).steered(given)


@pytest.fixture
def rows(batch):
  """The batch behind the sentinels of tasks 2, 0, 2, 0."""
  tokens = batch["encoder_input_tokens"]
  first = 63 - np.array([[2], [0], [2], [0]], np.int32)
  return {**batch, "encoder_input_tokens": np.concatenate([first, tokens], axis=1)}


def random(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# What a task's rows and the shared prompt make, written out.
@pytest.mark.parametrize(
  ("how", "own", "shared", "expected"),
  [
    ("add", (4, 16), (4, 16), lambda r, s: r + s),
    ("concat", (1, 16), (3, 16), lambda r, s: np.concatenate([s, r], 0)),
    ("concat_features", (4, 6), (4, 10), lambda r, s: np.concatenate([s, r], 1)),
    (
      "project",
      (1, 16 * 5 + 16),
      (4, 5),
      lambda r, s: s @ r[0, :80].reshape(16, 5).T + r[0, 80:],
    ),
  ],
)
def test_prompts_are_made_as_it_says(how, own, shared, expected):
  rows, shared = random(3, *own), random(*shared)
  found = multi_task.HOW[how](jnp.asarray(rows), jnp.asarray(shared))
  assert found.shape == (3, 4, 16)
  for task in range(3):
    np.testing.assert_allclose(found[task], expected(rows[task], shared), rtol=1e-4)


def test_a_row_is_answered_with_its_task_s_prompt_and_without_its_sentinel(tiny_t5, rows):
  model = steered(tiny_t5)
  found = model.logits(**steps.features(rows))
  plain = PromptedT5(tiny_t5, PromptBank(model.bank.array))
  alone = {**rows, "encoder_input_tokens": rows["encoder_input_tokens"][:, 1:]}
  ids = jnp.asarray([2, 0, 2, 0])
  expected = plain.logits(**steps.features(alone), prompt_ids=ids)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  others = plain.logits(**steps.features(alone), prompt_ids=(ids + 1) % 3)
  assert np.abs(found - others).max() > 1e-3


def test_a_task_learns_from_its_rows_and_all_learn_what_is_shared(tiny_t5, rows):
  split = states.Split.of(steered(tiny_t5))

  def loss(params):
    model = split.merge(params, split.frozen)
    return steps.loss_and_sums(model, rows, Loss(), None)[0]

  params = states.create(split, _nothing(), jax.random.key(0)).params
  slopes = jax.jit(jax.grad(loss))(params)
  of_tasks = np.abs(slopes["bank/prompts"]).sum((1, 2))
  assert of_tasks[1] == 0 and of_tasks[0] > 0 and of_tasks[2] > 0
  total = slopes["bank/prompts"].sum(0)
  np.testing.assert_allclose(slopes["bank/through/shared"], total, rtol=1e-4, atol=1e-5)


def _nothing():
  return types.SimpleNamespace(init=lambda params: ())


def test_sentinels_name_tasks_from_the_end_of_the_vocabulary():
  tokens = jnp.asarray([[63, 5, 1], [61, 7, 1], [0, 0, 0]])
  left, tasks = FirstToken(3, 64)(tokens)
  np.testing.assert_array_equal(left, [[5, 1], [7, 1], [0, 0]])
  np.testing.assert_array_equal(tasks, [0, 2, 0])


def test_inputs_of_candidates_are_checked_one_by_one():
  tokens = np.full((2, 3, 4), 9)
  tokens[..., 0] = 62
  FirstToken(3, 64).check(tokens)
  tokens[1, 2, 0] = 5
  with pytest.raises(checks.InputError, match=r"begin with the tokens \[5\]"):
    FirstToken(3, 64).check(tokens)


@pytest.mark.parametrize("token", [60, 64, 5])
def test_unknown_tasks_are_refused_or_become_nan(tiny_t5, rows, token):
  tokens = rows["encoder_input_tokens"].copy()
  tokens[1, 0] = token
  model = steered(tiny_t5)
  with pytest.raises(checks.InputError, match=rf"\[{token}\], expected .* 61 to 63"):
    model.encode(jnp.asarray(tokens))
  encoded = np.asarray(jax.jit(model.encode)(tokens)[0])
  assert np.isnan(encoded[1]).any() and np.isfinite(encoded[[0, 2, 3]]).all()


def test_variables_are_saved_under_the_original_s_names(tmp_path, tiny_t5):
  method = MultiTask(prompt=PROMPT, num_tasks=3)
  split = states.Split.of(steered(tiny_t5))
  params = states.create(split, _nothing(), jax.random.key(0)).params
  MethodTuning(method=method).save_step(epath.Path(tmp_path), 5, params)
  folder = tmp_path / "numpy_checkpoints" / "checkpoint_5"
  names = ("encoder.prompt.prompt.shared_prompt", "encoder.prompt.prompt.task_prompts")
  found = sorted(path.name for path in folder.iterdir())
  assert found == [names[0], f"{names[1]}.embedding"]
  with pytest.raises(checks.InputError, match="which another method than prompts learned"):
    formats.read_prompt(str(folder))  # what is shared is none


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"how": "mix"}, "unknown MULTI_TASK_PROMPT 'mix'"),
    ({"num_tasks": 0}, "NUM_TASKS is 0"),
    ({"num_tasks": 9}, "NUM_TASKS is 9, expected at most 8"),
    ({"prompt": Prompt(num_prompts=2)}, "num_prompts is 2, expected 1"),
    ({"how": "project", "start": SampledVocab()}, "expected prompts.RandomUniform"),
    ({"how": "concat", "task_tokens": 4}, "TASK_TOKENS is 4, expected 1 to 3"),
    ({"how": "concat", "task_tokens": 0}, "TASK_TOKENS is 0, expected 1 to 3"),
    ({"how": "concat_features", "task_features": 16}, "TASK_FEATURES is 16"),
    ({"how": "project", "shared_features": 17}, "SHARED_FEATURES is 17"),
  ],
)
def test_settings_that_cannot_be_are_refused(tiny_t5, settings, message):
  given = Given(tiny_t5, jax.random.key(0), lambda: None, lambda: VOCABULARY)
  with pytest.raises(checks.InputError, match=message):
    MultiTask(**{"prompt": PROMPT, "num_tasks": 3, **settings}).steered(given)
