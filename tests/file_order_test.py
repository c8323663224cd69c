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


@pytest.mark.parametrize("name", ["multi_task_t5_1_1_base", "wayward_t5_1_1_base"])
def test_a_model_with_a_method_goes_with_the_run_of_prompts_and_no_other(name):
  model, method = f"models/{name}_prompt.gin", name.partition("_t5")[0]
  rest = ["INITIAL_CHECKPOINT_PATH = 'x'", *BINDINGS, *OWN.get(method, [])]
  settings, _ = config.load("train.train", [model, "runs/prompt_finetune.gin"], rest)
  assert settings.learned.name == method
  with pytest.raises(
    checks.InputError, match=f"behind methods/{method}.gin and sets LEARNED"
  ):
    config.load("train.train", [model, "runs/finetune.gin"], rest)


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
