"""Agreement of methods with the original system, file by file of its stored outputs."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import CONFIGS, ENDLESS, TOLERANCE, assert_close, batch_of, of_names

from prompt_tuning import trees
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.method import Given
from prompt_tuning.methods.multi_task import MultiTask
from prompt_tuning.methods.per_layer import PerLayer
from prompt_tuning.methods.wayward import Wayward
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.sequences import sequence_scores
from prompt_tuning.prompts.start import FromFile, Prompt, RandomUniform
from prompt_tuning.training import state as states
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

PROMPT = Prompt(length=5, start=RandomUniform())
CAUSAL = masks.ALWAYS | {masks.PROMPT_TO_INPUT, masks.PROMPT_TO_PROMPT_CAUSAL}
METHODS = {  # file of the original -> method, who sees whom
  "mid_per_layer_add_A": (PerLayer(prompt=PROMPT, how="add"), masks.FULL),
  "mid_per_layer_replace_A": (PerLayer(prompt=PROMPT), masks.FULL),
  "mid_ia3_A": (IA3(), masks.FULL),
  "mid_multitask_add_A": (MultiTask(prompt=PROMPT), CAUSAL),
  "mid_multitask_concat_A": (
    MultiTask(prompt=PROMPT, how="concat", task_tokens=3),
    CAUSAL,
  ),
}
DECODED = ["mid_per_layer_replace_A", "mid_ia3_A", "mid_multitask_add_A"]


class Case:
  """A method with the values that the original gave it."""

  def __init__(self, golden, name, method, visibility=masks.FULL):
    self.stored = golden(name)
    size = name.partition("_")[0]
    vocabulary = types.SimpleNamespace(vocab_size=CONFIGS[size].vocab_size, extra_ids=100)
    base = T5(CONFIGS[size], golden(f"{size}_params"))
    given = Given(base, jax.random.key(0), lambda: None, lambda: vocabulary, visibility)
    self.method, self.split = method, states.Split.of(method.steered(given))
    shapes = {path: x.shape for path, x in trees.values(self.split.tunable).items()}
    self.params = {
      path: jnp.asarray(self.of("trainable", path)).reshape(shape)
      for path, shape in shapes.items()
    }
    self.model = self.split.merge(self.params, self.split.frozen)
    self.batch = batch_of(self.stored)

  def of(self, kind, path):
    return self.stored[f"{kind}/{self.method.t5x_path(path)}"]

  def loss(self, params):
    model = self.split.merge(params, self.split.frozen)
    return steps.loss_and_sums(model, self.batch, Loss(), None)[0]


@pytest.fixture(scope="module", params=METHODS)
def case(request, golden):
  method, visibility = METHODS[request.param]
  return Case(golden, request.param, method, visibility)


def test_outputs_and_scores_agree(case):
  batch, stored = case.batch, case.stored
  encoded, _ = jax.jit(case.model.encode)(batch["encoder_input_tokens"])
  assert_close(encoded, stored["encoder_output"])
  logits = jax.jit(PromptedT5.logits)(case.model, **steps.features(batch))
  real = batch["decoder_target_tokens"] != 0
  assert_close(logits[real], stored["logits"][real])
  found = sequence_scores(logits, batch["decoder_target_tokens"])
  assert_close(found, stored["sequence_scores"])


def assert_loss_and_gradients_agree(case):
  loss, gradients = jax.jit(jax.value_and_grad(case.loss))(case.params)
  assert_close(loss, case.stored["loss"])
  for path, found in gradients.items():
    assert_close(found, case.of("grad", path).reshape(found.shape))


def test_loss_and_gradients_agree(case):
  assert_loss_and_gradients_agree(case)


@pytest.mark.parametrize("name", DECODED)
@pytest.mark.parametrize(("algorithm", "decoding"), of_names(ENDLESS))
def test_decoding_agrees(golden, name, algorithm, decoding):
  case = Case(golden, name, *METHODS[name])
  decode = jax.jit(lambda tokens: case.model.generate_all(tokens, 8, None, decoding))
  tokens, scores = decode(case.batch["encoder_input_tokens"])
  np.testing.assert_array_equal(tokens, case.stored[f"decode/{algorithm}/tokens"])
  expected = case.stored[f"decode/{algorithm}/scores"]
  np.testing.assert_allclose(scores, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_causal_mask_is_what_the_original_s_tasks_had_and_not_ours(golden):
  name = "mid_multitask_add_A"
  full = Case(golden, name, METHODS[name][0])
  assert abs(jax.jit(full.loss)(full.params) - full.stored["loss"]) > 1e-3


def test_wayward_prompts_agree(golden):
  name = "tiny_wayward_A"
  stored = golden(name)
  start = FromFile(path="", load=lambda _: stored["discrete_prompt"])
  method = Wayward(prompt=Prompt(length=9, start=start), gamma=float(stored["gamma"]))
  case = Case(golden, name, method)
  np.testing.assert_array_equal(
    trees.values(case.split.frozen)["steering/penalty/discrete"], stored["discrete_prompt"]
  )
  assert_loss_and_gradients_agree(case)
