"""The file of a method among others: in any order it holds, or what undoes it is named."""

import dataclasses
import itertools

import pytest

from prompt_tuning import checks, config, file_order
from prompt_tuning.methods.method import METHODS

MODEL, RUNS = "models/t5_1_1_reviews_prompt.gin", ("finetune", "prompt_finetune")
BINDINGS = [
  "MODEL_DIR = 'x'",
  "MIXTURE_OR_TASK_NAME = 'x'",
  "TASK_FEATURE_LENGTHS = None",
  "TRAIN_STEPS = 5",
]
OWN = {"attempt": ["SOURCE_PROMPTS = ['a']"], "wayward": ["TASK_STRING = 'a'"]}
# Those that set nothing that runs/prompt_finetune.gin sets.
EITHER_WAY = {"attempt", "decomposed", "late", "multi_task", "per_layer", "smop", "wayward"}


def load(name, *files):
  bindings = [*BINDINGS, *OWN.get(name, [])]
  settings, _ = config.load("train.train", files, bindings)
  return settings


def is_refused(name, *files):
  with pytest.raises(checks.InputError, match="put it last") as refused:
    load(name, *files)
  return f"comes behind methods/{name}.gin" in str(refused.value)


@pytest.mark.parametrize("name", METHODS)
def test_no_order_of_files_drops_a_method_in_silence(name):
  method = f"methods/{name}.gin"
  for run in RUNS:
    run = f"runs/{run}.gin"
    expected = load(name, MODEL, run, method)
    assert expected.learned.name == name
    other = load(name, run, MODEL, method)  # of which the dropout rate is the model's
    assert dataclasses.replace(other, model=expected.model) == expected
    if run == "runs/prompt_finetune.gin" and name in EITHER_WAY:
      assert load(name, MODEL, method, run) == expected
    else:
      assert is_refused(name, MODEL, method, run)
    for files in itertools.permutations([MODEL, run, method]):
      if files.index(method) < files.index(MODEL):
        assert is_refused(name, *files)


# The original's names: model (with its size), run and method.
NAMED = [
  (["multi_task_t5_1_1_base_prompt"], "multitask_prompt_finetune", "multi_task"),
  (["multi_task_t5_1_1_prompt", "sizes/xxl"], "multitask_prompt_finetune", "multi_task"),
  (["wayward_t5_1_1_base_prompt"], "prompt_finetune", "wayward"),
  (["t5_1_1_per_layer_prompt", "sizes/base"], "prompt_finetune", "per_layer"),
  (["mt5_per_layer_prompt", "sizes/small"], "prompt_finetune", "per_layer"),
  (["ia3_t5_1_1", "sizes/base"], "ia3_finetune", "ia3"),
]


@pytest.mark.parametrize(("models", "run", "name"), NAMED)
def test_a_model_with_a_method_goes_with_its_run_and_no_other(models, run, name):
  files = [f"models/{model}.gin" for model in models]
  rest = ["INITIAL_CHECKPOINT_PATH = 'x'", *BINDINGS, *OWN.get(name, [])]
  settings, _ = config.load("train.train", [*files, f"runs/{run}.gin"], rest)
  assert settings.learned.name == name
  assert settings.learning_rate_fn.base_learning_rate == (0.003 if name == "ia3" else 0.3)
  assert settings.optimizer.multiply_by_parameter_scale == (name == "ia3")
  with pytest.raises(
    checks.InputError, match=f"behind methods/{name}.gin and sets LEARNED"
  ):
    config.load("train.train", [*files, "runs/finetune.gin"], rest)


def test_files_of_one_s_own_have_the_last_word(tmp_path):
  mine = tmp_path / "mine.gin"
  mine.write_text("LEARNING_RATE = 0.5\n")
  found = load("ia3", MODEL, "runs/prompt_finetune.gin", "methods/ia3.gin", str(mine))
  assert found.learning_rate_fn.base_learning_rate == 0.5


def test_values_are_compared_without_their_comments():
  texts = {"methods/a.gin": "A = 1  # one", "runs/a.gin": "include 'runs/b.gin'"}
  file_order.check(["methods/a.gin", "runs/a.gin"], {**texts, "runs/b.gin": "A = 1"}.get)
  with pytest.raises(checks.InputError, match=r"runs/b\.gin comes behind methods/a\.gin"):
    file_order.check(["methods/a.gin", "runs/a.gin"], {**texts, "runs/b.gin": "A = 2"}.get)
