"""What varies in a sweep: names, and that a member is the run that `train` would have."""

import dataclasses

import pytest

from prompt_tuning import checks, config
from prompt_tuning.learned import ModelTuning
from prompt_tuning.prompts.start import ClassLabels, Prompt, RandomUniform, Text

FILE = "experiments/movie_reviews_sweep.gin"
NONE = dict.fromkeys(("learning_rates", "seeds", "prompts", "tasks"))
WORDS = ClassLabels(labels=["good", "bad"])


def load(*bindings):
  return config.load("sweep.sweep", [FILE], ["MODEL_DIR = 'runs/x'", *bindings])[0]


@pytest.fixture(scope="module")
def shipped():
  return load()


@pytest.fixture(scope="module")
def plain(shipped):
  """A sweep in which nothing varies."""
  return dataclasses.replace(shipped, **NONE)


def varied(plain, **lists):
  return dataclasses.replace(plain, **lists)


def names(sweep):
  sweep.check()
  return [member.name for member in sweep.members()]


def test_names_have_the_parts_that_vary(plain):
  assert names(plain) == ["run"]
  assert names(varied(plain, seeds=[3])) == ["run"]
  assert names(varied(plain, seeds=[0, 1], learning_rates=[0.3, 1e-5])) == [
    "lr0.3-seed0",
    "lr0.3-seed1",
    "lr1e-05-seed0",
    "lr1e-05-seed1",
  ]
  starts = [Prompt(start=s) for s in (WORDS, Text(text="a"), Text(text="b"))]
  assert names(varied(plain, prompts=starts, tasks=["glue_cola_v002", "a/b"])) == [
    "class_labels-glue_cola_v002",
    "text_1-glue_cola_v002",
    "text_2-glue_cola_v002",
    "class_labels-a_b",
    "text_1-a_b",
    "text_2-a_b",
  ]


def test_the_shipped_sweep_has_eight_members(shipped):
  assert len(names(shipped)) == 8
  assert shipped.prompt.num_prompts == 8 and shipped.prompt.length == 20


def test_a_member_is_the_run_of_train_with_its_settings(shipped):
  given = ["MODEL_DIR = 'runs/x'", "LEARNING_RATE = 0.1", "RANDOM_SEED = 2"]
  alone = config.load("train.train", ["experiments/movie_reviews.gin"], given)[0]
  member = next(m for m in shipped.members() if m.name == "lr0.1-seed2")
  assert member.run == alone
  assert member.folder == "members/lr0.1-seed2"
  assert (member.facts["learning rate"], member.facts["seed"]) == (0.1, 2)


def test_a_member_s_task_is_learned_and_judged(plain):
  first, second = varied(plain, tasks=["one", "two"]).members()
  assert [first.task, second.task] == ["one", "two"]
  assert second.run.eval_dataset.mixture_or_task_name == "two"
  assert second.run.test_dataset.split == "test"


def test_starts_are_given_in_gin():
  found = load(
    "a/prompts.Prompt.start = @prompts.RandomUniform()",
    "b/prompts.Prompt.start = @prompts.ClassLabels()",
    "SWEEP_PROMPTS = [@a/prompts.Prompt(), @b/prompts.Prompt()]",
    "SWEEP_SEEDS = None",
    "SWEEP_LEARNING_RATES = None",
  )
  assert names(found) == ["random_uniform", "class_labels"]
  start = found.members()[1].run.learned.prompt.start
  assert start == ClassLabels(labels=["positive", "negative"])


@pytest.mark.parametrize(
  ("lists", "message"),
  [
    ({"seeds": [0, 1, 0]}, "seed0 are there more than once"),
    ({"learning_rates": [0.3, 0.30000001]}, "lr0.3 are there more than once"),
    ({"prompts": [Prompt(start=WORDS)] * 2}, "more than once"),
    (
      {"prompts": [Prompt(length=5), Prompt(length=9)]},
      "5 or 9 tokens, expected one",
    ),
    ({"prompts": [Prompt(num_prompts=2)]}, "2 prompts, expected one each"),
    (
      {"prompts": [Prompt(length=5), Prompt(length=5, visibility=["prompt->prompt"])]},
      "different visibilities, expected one",
    ),
    ({"seeds": []}, "SWEEP_SEEDS is [], expected a list"),
    ({"seeds": 3}, "SWEEP_SEEDS is 3, expected a list"),
    ({"seeds": ["a"]}, "a seed of SWEEP_SEEDS is 'a'"),
    ({"learning_rates": ["a"]}, "a rate of SWEEP_LEARNING_RATES is 'a'"),
    ({"tasks": "cola"}, "SWEEP_TASKS is 'cola', expected a list"),
    ({"at_once": 0}, "SWEEP_AT_ONCE is 0"),
  ],
)
def test_what_makes_no_sweep_is_refused(plain, lists, message):
  with pytest.raises(checks.InputError) as refused:
    varied(plain, **lists).check()
  assert message in str(refused.value)


def test_a_model_that_learns_itself_is_no_member(plain):
  run = dataclasses.replace(plain.run, learned=ModelTuning())
  with pytest.raises(checks.InputError, match="one frozen model for all members"):
    varied(plain, run=run).check()
  assert varied(plain, prompts=[Prompt(start=RandomUniform())]).check() is None
