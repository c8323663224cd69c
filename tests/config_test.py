"""gin: every shipped file parses and builds; what is given last wins."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from prompt_tuning import checks, config
from prompt_tuning.cli.main import main
from prompt_tuning.learned import ModelTuning
from prompt_tuning.models.config import FAMILIES, SIZES, T5Config

REPO = pathlib.Path(__file__).parent.parent
FILES = sorted(str(p.relative_to(config.folder())) for p in config.folder().rglob("*.gin"))
EXPERIMENTS = [name for name in FILES if name.startswith("experiments/")]
OURS = "prompt_tuning/configs/"


def missing(file: str) -> list[str]:
  """The macros that a file uses and does not set."""
  try:
    config.query("PROBE", [OURS + file], ["PROBE = 1"])
  except checks.InputError as error:
    found = re.match(r"required gin macros have no value: ([A-Z0-9_, ]+);", str(error))
    assert found, error
    return found[1].split(", ")
  return []


def test_the_list_of_files_is_the_folder_s():
  assert len(FILES) > 40 and len(EXPERIMENTS) >= 4
  assert "models/t5_1_1_base_prompt.gin" in FILES


@pytest.mark.parametrize("file", FILES)
def test_every_file_parses_once_its_macros_have_values(file):
  bindings = [f"{name} = None" for name in missing(file)]
  assert config.query("PROBE", [OURS + file], ["PROBE = 17", *bindings]) == 17


@pytest.mark.parametrize("file", FILES)
def test_what_a_file_requires_stands_in_its_head(file):
  text = (config.folder() / file).read_text()
  required = re.findall(r"^([A-Z_0-9]+) = %gin\.REQUIRED", text, re.MULTILINE)
  comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
  assert comments, "a head that says what the file is for"
  assert [name for name in required if name not in comments] == []


def commands(file: str) -> list[list[str]]:
  """The `# Run: prompt-tuning ...` lines in the head of an experiment."""
  lines = (config.folder() / file).read_text().splitlines()
  head = "\n".join(x.removeprefix("#") for x in lines if x.startswith("#"))
  text = head.replace("\\\n", " ")
  return [
    shlex.split(line.partition("Run:")[2])[1:]
    for line in text.splitlines()
    if "Run:" in line
  ]


@pytest.mark.parametrize("file", EXPERIMENTS)
def test_the_command_in_the_head_of_an_experiment_works(file, capsys):
  (arguments,) = commands(file)
  assert f"--gin_file={file}" in arguments
  assert main([*arguments, "--dry_run"]) == 0, capsys.readouterr().err
  out = capsys.readouterr().out
  assert "Total number of parameters" in out


RUN_OF = {"eval": "eval.evaluate", "serve": "predictor.predictor"}


@pytest.mark.parametrize("file", EXPERIMENTS)
def test_an_experiment_builds_its_settings(file):
  (arguments,) = commands(file)
  name = RUN_OF.get(arguments[0], f"{arguments[0]}.{arguments[0]}")
  bindings = [x.removeprefix("--gin.") for x in arguments if x.startswith("--gin.")]
  settings, text = config.load(name, [OURS + file], bindings)
  assert type(settings).__name__ == f"{name.partition('.')[0].title()}Config"
  assert settings.model.family in ("t5", "llama")
  for binding in bindings:
    assert binding.partition("=")[0] in text


def test_the_demo_s_settings_are_what_its_file_says():
  settings, _ = config.load(
    "train.train", [f"{OURS}experiments/movie_reviews.gin"], ["MODEL_DIR = 'runs/x'"]
  )
  assert settings.train_dataset.mixture_or_task_name == "movie_reviews_sentiment"
  assert settings.train_dataset.split == "train" and settings.train_dataset.shuffle
  assert settings.eval_dataset.split == "validation" and not settings.eval_dataset.shuffle
  assert settings.test_split == "test"
  assert settings.learned.prompt.start.labels == ["positive", "negative"]
  assert settings.trainer.relative_steps and settings.trainer.total_steps is None
  assert settings.optimizer.multiply_by_parameter_scale is False
  assert settings.learning_rate_fn.base_learning_rate == 0.3


README_COMMAND = [
  "train",
  "--gin_search_paths=t5x/configs,prompt_tuning/configs",
  "--gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin",
  "--gin_file=prompt_tuning/configs/prompts/from_class_labels.gin",
  "--gin_file=prompt_tuning/configs/runs/prompt_finetune.gin",
  "--gin.CLASS_LABELS=['positive', 'negative']",
  "--gin.MODEL_DIR='gs://bucket/model'",
  "--gin.MIXTURE_OR_TASK_NAME='taskless_glue_sst2_v200_examples'",
  "--gin.MIXTURE_OR_TASK_MODULE='prompt_tuning.data.glue'",
  "--gin.TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 8}",
  "--gin.INITIAL_CHECKPOINT_PATH='gs://t5-data/pretrained_models/t5x/"
  "t5_1_1_lm100k_base/checkpoint_1100000'",
  "--gin.TRAIN_STEPS=1_150_000",
  "--gin.USE_CACHED_TASKS=False",
  "--tfds_data_dir=/tmp/tfds",
  "--dry_run",
]


@pytest.mark.slow
def test_the_original_s_command_shows_its_model_and_touches_no_network():
  program = """
import sys

def forbid(event, arguments):
  if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
    raise RuntimeError(f"the network: {event} {arguments}")

sys.addaudithook(forbid)
sys.modules["tensorflow"] = sys.modules["seqio"] = None
from prompt_tuning.cli.main import main
status = main(sys.argv[1:])
print("tensorstore" in sys.modules, file=sys.stderr)
sys.exit(status)
"""
  found = subprocess.run(
    [sys.executable, "-c", program, *README_COMMAND],
    cwd=REPO,
    capture_output=True,
    text=True,
    check=False,
    timeout=100,
  )
  assert found.returncode == 0, found.stderr
  out = found.stdout
  assert "'gs://bucket/model'" in out
  assert "checkpoint_1100000" in out
  assert "TRAIN_STEPS = 1150000" in out or "total_steps = 1150000" in out
  line = next(x for x in out.splitlines() if x.startswith("encoder/prompt/prompt/prompt"))
  assert "float32" in line and "tunable" in line
  assert "prompt=100" in line and "prompt_embed=768" in line
  assert "token_embedder/embedding" in out
  assert len(re.findall(r"^(en|de)coder/layers_11/", out, re.MULTILINE)) == 9 + 14
  assert "Total number of parameters: 247654656" in out  # 247,577,856 and 100 x 768


@pytest.mark.parametrize(
  ("family", "size"),
  [(family, size) for family in ("t5_1_1", "mt5") for size in SIZES[family]],
)
def test_sizes_are_the_same_in_python_and_in_gin(family, size):
  found = T5Config.from_gin(
    f"models/{family}_{size}.gin", bindings=("ACTIVATION_DTYPE = 'float32'",)
  )
  assert found == T5Config.of_size(family, size)
  found = T5Config.from_gin(
    f"{OURS}models/{family}_{size}_prompt.gin", bindings=("ACTIVATION_DTYPE='float32'",)
  )
  assert found == T5Config.of_size(family, size)


def test_every_family_has_sizes():
  assert FAMILIES.keys() == SIZES.keys()
  for family, sizes in SIZES.items():
    for size in sizes:
      assert T5Config.of_size(family, size).vocab_size == FAMILIES[family]["vocab_size"]


# Which file, and which value.


def values(*files, bindings=()):
  return config.query("BATCH_SIZE", [str(file) for file in files], bindings)


@pytest.fixture
def written(tmp_path):
  """Two files that disagree."""
  (tmp_path / "a.gin").write_text("BATCH_SIZE = 1\n")
  (tmp_path / "b.gin").write_text("BATCH_SIZE = 2\n")
  return tmp_path


def test_later_files_win(written):
  assert values(written / "a.gin", written / "b.gin") == 2
  assert values(written / "b.gin", written / "a.gin") == 1


def test_what_follows_an_include_wins_over_it(written):
  (written / "c.gin").write_text(f"include '{written}/a.gin'\nBATCH_SIZE = 3\n")
  assert values(written / "c.gin") == 3
  (written / "d.gin").write_text(f"BATCH_SIZE = 3\ninclude '{written}/a.gin'\n")
  assert values(written / "d.gin") == 1


def test_bindings_win_over_files_and_later_ones_over_earlier(written):
  assert values(written / "a.gin", bindings=("BATCH_SIZE = 7",)) == 7
  assert values(written / "a.gin", bindings=("BATCH_SIZE = 7", "BATCH_SIZE = 8")) == 8


def test_a_run_starts_from_a_clean_table(written):
  assert values(written / "a.gin") == 1
  with pytest.raises(checks.InputError, match="required gin macros"):
    values()


PROMPT = ["MODEL_DIR = 'x'", "MIXTURE_OR_TASK_NAME = 'x'", "TASK_FEATURE_LENGTHS = None"]
PROMPT += ["INITIAL_CHECKPOINT_PATH = 'x'", "TRAIN_STEPS = 5"]
MODEL_AND_RUN = [f"{OURS}models/t5_1_1_base_prompt.gin", f"{OURS}runs/prompt_finetune.gin"]


def load(files, bindings=(), search_paths=()):
  return config.load("train.train", files, [*PROMPT, *bindings], search_paths)[0]


def test_the_prompt_s_file_may_come_before_or_after_the_run_s():
  for at in (1, 2):
    files = [*MODEL_AND_RUN]
    files.insert(at, f"{OURS}prompts/from_sampled_vocab.gin")
    assert type(load(files).learned.prompt.start).__name__ == "SampledVocab"
  assert type(load(MODEL_AND_RUN).learned.prompt.start).__name__ == "RandomUniform"


def test_model_tuning_has_t5x_s_optimizer_and_needs_no_prompt():
  files = [f"{OURS}models/t5_1_1_base.gin", f"{OURS}runs/finetune.gin"]
  found = load(files)
  assert found.learned == ModelTuning()
  assert found.learning_rate_fn.base_learning_rate == 0.001
  assert found.optimizer.multiply_by_parameter_scale
  assert found.optimizer.weight_decay_rate is None
  tuned = load(MODEL_AND_RUN)
  assert not tuned.optimizer.multiply_by_parameter_scale
  assert tuned.optimizer.weight_decay_rate == 1e-5
  assert tuned.learning_rate_fn.base_learning_rate == 0.3


OBJECTIVES = sorted(
  str(path.relative_to(config.folder()))
  for path in (config.folder() / "objectives").glob("*.gin")
)


@pytest.mark.parametrize("file", [f for f in OBJECTIVES if "labelled" not in f])
@pytest.mark.parametrize("run", ["tokens", "pretrain"])
def test_an_objective_goes_with_both_runs(file, run):
  bindings = ["TOKENS = 't'"]
  if run == "pretrain":
    bindings += ["MODEL_DIR = 'm'", "TRAIN_STEPS = 5"]
  if file.endswith("registered.gin"):
    bindings += [
      "MIXTURE_OR_TASK_NAME = 'x'",
      "TASK_FEATURE_LENGTHS = {'inputs': 9, 'targets': 9}",
    ]
  files = ["models/t5_1_1_small.gin", file, f"runs/{run}.gin"]
  settings, _ = config.load(f"{run}.{run}", files, bindings)
  assert settings.objectives
  assert len({objective.name for objective in settings.objectives}) == len(
    settings.objectives
  )


def test_scopes_bind_one_dataset_and_not_the_other():
  found = load(MODEL_AND_RUN, ["train/utils.DatasetConfig.batch_size = 3"])
  assert found.train_dataset.batch_size == 3 and found.eval_dataset.batch_size == 128


def test_search_paths_come_before_the_package(tmp_path):
  ours = tmp_path / "runs" / "prompt_finetune.gin"
  ours.parent.mkdir()
  text = (config.folder() / "runs" / "prompt_finetune.gin").read_text()
  ours.write_text(text.replace("LEARNING_RATE = 0.3", "LEARNING_RATE = 0.5"))
  files = [MODEL_AND_RUN[0], "runs/prompt_finetune.gin"]
  found = load(files, search_paths=[str(tmp_path)])
  assert found.learning_rate_fn.base_learning_rate == 0.5


def test_folders_of_our_names_on_the_path_do_not_hide_our_files(tmp_path, monkeypatch):
  # `python -m prompt_tuning` puts the working folder on sys.path, and MODEL_DIR is often
  # runs/x: to Python such a folder is a package, in which gin would look first.
  for name in ("models", "prompts", "runs", "experiments"):
    (tmp_path / name).mkdir()
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.chdir(tmp_path)
  found = load(["models/t5_1_1_base_prompt.gin", "runs/prompt_finetune.gin"])
  assert found.model.d_model == 768


def test_the_operative_config_gives_the_same_settings_again(tmp_path):
  settings, text = config.load("train.train", MODEL_AND_RUN, [*PROMPT, "BATCH_SIZE = 9"])
  (tmp_path / "config.gin").write_text(text)
  again, same = config.load("train.train", [str(tmp_path / "config.gin")])
  assert again == settings and same == text
  assert settings.train_dataset.batch_size == 9


@pytest.mark.parametrize(
  ("bindings", "message"),
  [
    (["BATCHSIZE = 3"], "unknown gin macro 'BATCHSIZE'; the nearest known: BATCH_SIZE"),
    (["trainer.Trainr.patience = 3"], "trainer.Trainer"),
    (["trainer.Trainer.patiense = 3"], "patiense"),
    (["nonsense"], "cannot be used"),
    (["MODEL_DIR = %NO_SUCH_MACRO"], "required gin macros have no value: NO_SUCH_MACRO"),
    (["PROMPT_START = @prompts.Nothing()"], "prompts"),
    (["DROPOUT_RATE = [1"], "cannot be used"),
  ],
)
def test_what_cannot_be_understood_is_refused(bindings, message):
  with pytest.raises(checks.InputError, match=re.escape(message)):
    load(MODEL_AND_RUN, bindings)


@pytest.mark.parametrize(
  ("method", "bindings", "sentence"),
  [
    ("lora", ["LORA_TARGETS = 3"], "LORA_TARGETS is 3, expected a list of texts; "),
    ("lora", ["LORA_TARGETS = 'query'"], "LORA_TARGETS is 'query', expected a list of "),
    ("wayward", ["TASK_STRING = 3"], "PROMPT_TEXT or TASK_STRING is 3, expected a text; "),
    (
      "wayward",
      ["TASK_STRING = 'a'", "WAYWARD_GAMMA = 'a'"],
      "WAYWARD_GAMMA is 'a', expected a number from 0; ",
    ),
    ("attempt", ["SOURCE_PROMPTS = 'runs/a'"], "SOURCE_PROMPTS is 'runs/a', expected a "),
  ],
)
def test_settings_of_methods_are_refused_in_one_sentence(method, bindings, sentence):
  with pytest.raises(checks.InputError) as refused:
    load([*MODEL_AND_RUN, f"methods/{method}.gin"], bindings)
  assert str(refused.value).startswith(sentence) and "\n" not in str(refused.value)


def test_a_file_without_a_last_newline_does_not_run_into_the_flags(tmp_path):
  file = tmp_path / "mine.gin"
  file.write_text("trainer.Trainer.patience = %MINE")
  assert config.query("MINE", [str(file)], ["MINE = 4"]) == 4
