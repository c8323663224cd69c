"""What must not change between an interruption and a resume, as text."""

import pytest

from prompt_tuning import assembly, checks, config

MODEL_AND_RUN = ["models/t5_1_1_reviews_prompt.gin", "runs/prompt_finetune.gin"]
BINDINGS = [
  "MODEL_DIR = 'x'",
  "MIXTURE_OR_TASK_NAME = 'x'",
  "TASK_FEATURE_LENGTHS = None",
  "TRAIN_STEPS = 5",
]
OF_USER = {
  "PROMPT_FILE": "'a.npy'",
  "SOURCE_PROMPTS": "['a.npy']",
  "CLASS_LABELS": "['a']",
  "PROMPT_TEXT": "'a'",
  "TASK_STRING": "'a'",
  "EMBEDDING_FILE": "'a.npy'",
}
CHOICES = sorted(
  f"{kind}/{path.name}"
  for kind in ("prompts", "methods")
  for path in (config.folder() / kind).glob("*.gin")
)


def settings(file):
  """Of a run with a file of prompts/ or methods/."""
  files = [*MODEL_AND_RUN, file]
  try:
    return config.load("train.train", files, BINDINGS)[0]
  except checks.InputError as error:
    needed = [f"{name} = {value}" for name, value in OF_USER.items() if name in str(error)]
  return config.load("train.train", files, [*BINDINGS, *needed])[0]


@pytest.mark.parametrize("file", CHOICES)
def test_no_value_of_an_identity_says_where_something_lies_in_memory(byte_t5, file):
  run = settings(file)
  found = run.identity(assembly.Base.of(byte_t5))
  assert type(run.learned).__name__ in found["what is learned"]
  assert [value for value in found.values() if " at 0x" in value] == []


def run_with(*bindings):
  return config.load("train.train", MODEL_AND_RUN, [*BINDINGS, *bindings])[0]


def test_a_part_of_a_split_decides_and_the_whole_test_split_is_reported():
  part, test = "EVAL_EXAMPLES = 7", "TEST_SPLIT = 'test'"
  run = run_with(part, test)
  assert (run.eval_dataset.split, run.eval_dataset.num_examples) == ("validation", 7)
  assert (run.test_dataset.split, run.test_dataset.num_examples) == ("test", None)
  assert run_with(part).test_dataset == run_with(part).eval_dataset


def test_a_part_of_the_training_data_is_refused():
  lengths = "TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 4}"
  run = run_with(lengths, "train/utils.DatasetConfig.num_examples = 7")
  with pytest.raises(checks.InputError, match=r"num_examples is 7, .* set EVAL_EXAMPLES"):
    run.check()
