"""Experiments of many prompts: names, what is used again, what stands in the tables."""

import json
import pathlib
import shlex

import jax
import numpy as np
import pytest
from etils import epath
from rotated import orthogonal, rotated

from prompt_tuning import files, trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.cli.main import main
from prompt_tuning.data.vocabularies import EMBEDDED
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PATH

CONFIG = T5Config(
  vocab_size=4096,
  d_model=16,
  num_heads=2,
  d_kv=8,
  d_ff=32,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
TURNS = {"Seed 0": np.eye(16), "XL v1.1": orthogonal(16, 1), "Default": orthogonal(16, 2)}
SOURCES = ("Seed 0", "XL v1.1")
STEPS = (10, 20)
TEXT = "is this film good or bad"
TASK = "pr:glue_sst2_v200_test_rc"


def prompt(source, init, step):
  """The prompt of a run; those of one init and step are each other's, turned."""
  rng = np.random.default_rng(step + len(init))
  array = rng.normal(size=(3, 16))
  if init == "wayward":  # near the text, so that its few pieces can make it up
    array = rng.normal(size=(3, len(pieces()))) @ TABLE[pieces()]
  return (array @ TURNS[source]).astype(np.float32)


def pieces():
  return list(EMBEDDED.load().encode(TEXT))


MODEL = {
  n: np.asarray(x) for n, x in trees.values(T5.random(CONFIG, jax.random.key(0))).items()
}
TABLE = MODEL["token_embedder/embedding"]


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
  """An experiment with two sources, three targets, two inits and two steps."""
  folder = tmp_path_factory.mktemp("experiment")
  prompts = {}
  for source in SOURCES:
    for init in ("class-init", "wayward"):
      run = folder / "runs" / source / init
      prompts.setdefault(source, {})[init] = {"run 1": str(run)}
      for step in STEPS:
        prompt_files.save_step(epath.Path(run), step, PATH, prompt(source, init, step))
  for name, turn in TURNS.items():
    t5x.save(epath.Path(folder / "models" / name), rotated(MODEL, turn), 5)
  return {
    "dataset": "sst2",
    "task_name": TASK,
    "clobber": False,
    "steps": None,
    "load_embeddings": {
      "default": {"num_words": 1500, "word_offset": 1000},
      "from_string": {"string": TEXT, "vocab_file": EMBEDDED.name},
    },
    "recycling_methods": {"tf-lstsq": {}, "linear-combination": {}},
    "pretrained": {name: str(folder / "models" / name) for name in TURNS},
    "prompts": prompts,
  }


@pytest.fixture
def recycle(fields, tmp_path, capsys):
  """Runs an experiment in a new folder; keyword arguments replace fields."""

  def call(*flags, **changes):
    known = {"root_dir": str(tmp_path / "root"), **fields, **changes}
    known = {name: value for name, value in known.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(known))
    status = main(["recycle", f"--config={tmp_path / 'config.json'}", *flags])
    return status, *capsys.readouterr()

  return call


def outputs(root, folder="recycled-prompt"):
  return {
    str(path.relative_to(root)): np.load(path)
    for path in sorted(root.glob(f"*/sst2/*/*/{folder}/*"))
  }


def name_of(method, init, source, step, target):
  name = f"recycled_from_{source}_at_{step}_to_{target}".replace(" ", "_")
  return f"{method}/sst2/{init}/run_1/recycled-prompt/{name}"


def test_every_prompt_is_recycled_to_every_other_model(recycle, tmp_path):
  status, out, err = recycle()
  assert status == 0 and err == ""
  expected = {
    name_of(method, init, source, step, target): prompt(source, init, step)
    @ (TURNS[source].T @ TURNS[target])
    for method in ("tf-lstsq", "linear-combination")
    for init in ("class-init", "wayward")
    for source in SOURCES
    for step in STEPS
    for target in TURNS
    if target != source
  }
  found = outputs(tmp_path / "root")
  assert found.keys() == expected.keys() and len(found) == 32
  for name, array in expected.items():
    np.testing.assert_allclose(found[name], array, atol=1e-4, err_msg=name)
  saved = sorted(p.name for p in (tmp_path / "root/tf-lstsq/learned-recyclers").iterdir())
  pairs = ("Seed_0_to_Default", "Seed_0_to_XL_v1.1", "XL_v1.1_to_Default")
  for pair in (*pairs, "XL_v1.1_to_Seed_0"):
    assert {pair, f"{pair}-wayward", f"{pair}.json"} <= set(saved)
  assert "Seed 0 to Default by tf-lstsq: 2 prompts, learned from 1500 tokens" in out
  assert f"learned from {len(pieces())} tokens, none left" in out


def test_the_original_s_names_and_ours_are_the_same_methods(recycle, tmp_path):
  network = {"__init__": {"hidden_scale": 2}, "fit": {"epochs": 1, "batch_size": 500}}
  methods = {"jax-nn": network, "v2v-nn": network, "v2v-lin": {}, "tf-lstsq": {}}
  models = {
    "recycling_methods": methods,
    "combination_skips": skips_but("Seed 0", "Default"),
  }
  assert recycle(**models)[0] == 0
  found = outputs(tmp_path / "root")
  for one, other in (("jax-nn", "v2v-nn"), ("v2v-lin", "tf-lstsq")):
    first, second = (
      found[name_of(m, "class-init", "Seed 0", 10, "Default")] for m in (one, other)
    )
    np.testing.assert_array_equal(first, second)


def skips_but(source, target):
  every = [[s, t] for s in SOURCES for t in TURNS if s != t]
  return [pair for pair in every if pair != [source, target]]


def test_steps_and_combinations_can_be_chosen(recycle, tmp_path):
  skips = skips_but("XL v1.1", "Seed 0")
  assert recycle(steps=[20], combination_skips=skips)[0] == 0
  assert outputs(tmp_path / "root").keys() == {
    name_of(method, init, "XL v1.1", 20, "Seed 0")
    for method in ("tf-lstsq", "linear-combination")
    for init in ("class-init", "wayward")
  }


def test_a_saved_recycler_is_used_again_unless_clobber(recycle, tmp_path):
  only = {"combination_skips": skips_but("Seed 0", "Default"), "steps": [10]}
  assert recycle(**only)[0] == 0
  name = name_of("tf-lstsq", "class-init", "Seed 0", 10, "Default")
  first = outputs(tmp_path / "root")[name]
  saved = tmp_path / "root/tf-lstsq/learned-recyclers/Seed_0_to_Default"
  files.write_numpy(epath.Path(saved), 2 * np.load(saved))
  assert recycle(**only)[0] == 0
  np.testing.assert_allclose(outputs(tmp_path / "root")[name], 2 * first, rtol=1e-5)
  assert recycle(**only, clobber=True)[0] == 0
  np.testing.assert_array_equal(outputs(tmp_path / "root")[name], first)


def test_a_saved_recycler_that_learned_otherwise_is_refused(recycle, tmp_path, fields):
  only = {"combination_skips": skips_but("Seed 0", "Default"), "steps": [10]}
  assert recycle(**only)[0] == 0
  fewer = {**fields["load_embeddings"], "default": {"num_words": 1400}}
  status, _, err = recycle(**only, load_embeddings=fewer)
  assert status == 2 and "learned from other words, models or settings" in err
  saved = tmp_path / "root/tf-lstsq/learned-recyclers/Seed_0_to_Default"
  saved.with_name(f"{saved.name}.json").unlink()  # as the original leaves it
  assert recycle(**only, load_embeddings=fewer)[0] == 0
  files.write_numpy(epath.Path(saved), np.eye(17))
  status, _, err = recycle(**only, load_embeddings=fewer)
  assert status == 2 and "has shape [17, 17], expected [16, 16]" in err


def test_the_flags_for_evaluation_are_those_of_eval(recycle, tmp_path, capsys):
  only = {"combination_skips": skips_but("Seed 0", "XL v1.1"), "steps": [10]}
  assert recycle(**only)[0] == 0
  lines = (tmp_path / "root/cli_args-sst2.txt").read_text().splitlines()
  assert len(lines) == 4  # two inits by two methods
  line = shlex.split(lines[0])
  file = "--gin_file=experiments/movie_reviews_eval.gin"
  assert main(["eval", file, "--gin.PROMPT_LENGTH=3", *line, "--dry_run"]) == 0
  out = capsys.readouterr().out
  prompt_file = (
    tmp_path / "root" / name_of("tf-lstsq", "class-init", "Seed 0", 10, "XL v1.1")
  )
  assert prompt_file.is_file()
  for text in (f"'{prompt_file}'", f"'{TASK}'", "models/XL v1.1'"):
    assert text in out.replace("\\\n", "").replace("    ", ""), text


def write_metrics(folder, *rows):
  place = pathlib.Path(folder) / "inference_eval"
  place.mkdir(parents=True)
  text = "".join(f"{json.dumps(row)}\n" for row in rows)
  (place / f"{TASK}-metrics.jsonl").write_text(text)


def rows_of(path):
  head, *rows = (line.split("\t") for line in path.read_text().splitlines())
  return [dict(zip(head, row, strict=True)) for row in rows]


def test_results_of_any_model_and_metric_are_gathered(recycle, tmp_path, fields):
  root = tmp_path / "root"
  runs = root / "tf-lstsq/sst2/class-init/run_1/eval"
  write_metrics(runs / "recycled_from_Seed_0_at_20_to_XL_v1.1", {"step": 20, "f1": 0.5})
  write_metrics(
    runs / "recycled_from_XL_v1.1_at_9_to_Default",
    {"step": 5, "accuracy": 1.0},
    {"step": 5, "accuracy": 80.5, "f1": 0.25},
  )
  write_metrics(runs / "recycled_from_XL_v1x1_at_9_to_Default", {"step": 1, "f1": 0.0})
  write_metrics(runs / "recycled_from_Seed_0_at_9_to_Default_old", {"step": 1, "f1": 0.0})
  status, out, err = recycle("--no-recycle")
  assert status == 0 and err == "" and out.split() == [str(root / "recycling-sst2.tsv")]
  known = {"Recycler": "tf-lstsq", "Init": "class-init", "Run": "run 1"}
  assert rows_of(root / "recycling-sst2.tsv") == [
    {
      **known,
      "Source Model": "Seed 0",
      "Target Model": "XL v1.1",
      "Step": "20",
      "f1": "0.5",
      "accuracy": "",
    },
    {
      **known,
      "Source Model": "XL v1.1",
      "Target Model": "Default",
      "Step": "9",
      "f1": "0.25",
      "accuracy": "80.5",
    },
  ]
  assert outputs(root) == {}


def test_results_of_the_chosen_steps_are_gathered_beside_those_of_training(
  recycle, tmp_path, fields
):
  root, trained = tmp_path / "root", tmp_path / "trained"
  write_metrics(trained, {"step": 10, "accuracy": 70.0}, {"step": 20, "accuracy": 75.0})
  runs = root / "linear-combination/sst2/spot_10k/run_1/eval"
  for step in STEPS:
    folder = runs / f"recycled_from_Seed_0_at_{step}_to_Default"
    write_metrics(folder, {"step": step, "accuracy": 60.0 + step})
  prompts = {"Seed 0": {"spot 10k": {"run 1": str(trained)}}}
  status, out, _ = recycle("--no-recycle", prompts=prompts, steps=[20])
  names = ("training-sst2.tsv", "recycling-sst2.tsv")
  assert status == 0 and out.split() == [str(root / name) for name in names]
  (training,), (recycling,) = (rows_of(root / name) for name in names)
  assert training == {
    "Model": "Seed 0",
    "Init": "spot 10k",
    "Run": "run 1",
    "Step": "20",
    "accuracy": "75.0",
  }
  assert recycling["Step"] == "20" and recycling["accuracy"] == "80.0"


# What is refused.


def test_everything_wrong_with_the_fields_is_said_at_once(recycle):
  wrong = {"dataset": ..., "pretrained": ..., "clober": True, "steps": "all", "clobber": 1}
  status, out, err = recycle(**wrong, prompts={"Seed 0": {"class-init": "runs"}})
  assert status == 2 and out == ""
  assert [line.strip() for line in err.splitlines()[1:]] == [
    "- dataset is missing",
    "- pretrained is missing",
    "+ clober is no field",
    "clobber is not true or false",
    "steps is not null or a list of steps",
    "prompts is not {model: {init: {run: folder}}}",
  ]


def test_every_contradiction_is_said_at_once(recycle, fields):
  status, out, err = recycle(
    prompts={"Seed 1": {"wayward": {"a/b": "runs"}}},
    combination_skips=[["Seed 0", "Large"]],
    load_embeddings={"default": {"words": 3}},
    recycling_methods={"tf-lstsk": {}, "jax-nn": {"fit": {"epoch": 3}}},
  )
  assert status == 2 and out == ""
  lines = err.splitlines()[1:]
  for part in (
    "prompts has the model 'Seed 1', pretrained has not",
    "combination_skips has the model 'Large', pretrained has not",
    "load_embeddings lacks 'from_string'",
    "load_embeddings 'default': it has no words",
    "recycling_methods 'tf-lstsk': unknown recycler 'tf-lstsk'; the nearest known: tf-",
    "recycling_methods 'jax-nn': it has no epoch, expected batch_size, epochs",
    "'a/b' becomes part of a file's name",
  ):
    assert [line for line in lines if part in line], part
  assert len(lines) == 7


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_file_that_is_no_experiment(tmp_path, capsys, content):
  (tmp_path / "x.json").write_text(content)
  assert main(["recycle", f"--config={tmp_path / 'x.json'}"]) == 2
  assert "x.json " in (err := capsys.readouterr().err) and len(err.splitlines()) == 1
  assert main(["recycle", f"--config={tmp_path / 'none.json'}"]) == 2
  assert "none.json cannot be read" in capsys.readouterr().err


def test_steps_that_are_not_there_are_named_before_anything_is_written(recycle, tmp_path):
  status, out, err = recycle(steps=[10, 30])
  assert status == 2 and out == ""
  assert err.count(": step 30") == 4 and ": step 10" not in err
  assert not (tmp_path / "root").exists()


def test_prompts_and_models_that_do_not_fit(recycle, tmp_path, fields):
  wide = tmp_path / "wide"
  prompt_files.save_step(epath.Path(wide), 10, PATH, np.ones((3, 24), np.float32))
  prompts = {"Seed 0": {"class-init": {"run 1": str(wide)}}}
  status, out, err = recycle(prompts=prompts)
  assert status == 2 and out == "" and f"{wide}/" in err
  assert "has shape [3, 24], expected [3, 16]" in err
  assert not (tmp_path / "root").exists()  # it is seen before anything is learned
  few = {n: x[:64] if n == "token_embedder/embedding" else x for n, x in MODEL.items()}
  t5x.save(epath.Path(tmp_path / "few"), few, 5)
  models = {**fields["pretrained"], "Few": str(tmp_path / "few")}
  status, out, err = recycle(pretrained=models)
  assert status == 2 and out == "" and "Few has 64" in err
