"""Training from end to end: what it leaves, that it resumes exactly, what follows it."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tensorflow as tf
import tiny_tasks

import prompt_tuning as pt
from prompt_tuning import assembly, config, formats, trees
from prompt_tuning.data import registry
from prompt_tuning.data.training_batches import TrainingBatches
from prompt_tuning.partitioning import Partitioner, replicated, shard_batch
from prompt_tuning.training import state as states
from prompt_tuning.training import steps

REPO = pathlib.Path(__file__).parents[2]
FIRST, LAST = 3, 15  # the checkpoint's step, and twelve steps later


def digests(folder: pathlib.Path) -> dict[str, str]:
  """Every file of a folder by its content."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob("*")
    if path.is_file()
  }


def rows(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def settings(base, command):
  """The settings of a training run, as the command line would collect them."""
  _, paths, file, *bindings = command("train", base / "unused")
  return config.load(
    "train.train",
    [file.removeprefix("--gin_file=")],
    [binding.removeprefix("--gin.") for binding in bindings],
    [paths.removeprefix("--gin_search_paths=")],
  )[0]


# What a run leaves.


def test_training_leaves_the_base_checkpoint_as_it_was(base, run, command, tmp_path):
  before = digests(base)
  assert len(before) > 20
  found = run(command("train", tmp_path / "run", TRAIN_STEPS_RELATIVE=2))
  assert found.status == 0
  assert digests(base) == before


def test_only_the_prompt_changes_in_memory(settings):
  split, optimizer, state, batch = prepared(settings, rows=8)
  before = {path: np.array(x) for path, x in trees.values(split.frozen).items()}
  prompt = np.array(state.params["bank/prompts"])
  step = steps.train_step(split, optimizer, settings.loss)
  for _ in range(3):
    state, _ = step(state, split.frozen, batch)
  after = trees.values(split.frozen)
  assert after.keys() == before.keys() and len(after) > 20
  for path, value in after.items():
    np.testing.assert_array_equal(np.asarray(value), before[path])
  assert list(state.params) == ["bank/prompts"]
  assert (np.asarray(state.params["bank/prompts"]) != prompt).all()


def test_a_run_leaves_every_file_it_promises(trained):
  folder = trained.folder
  assert {path.name for path in folder.iterdir()} == {
    "config.gin",
    "model-info.txt",
    "metrics.jsonl",
    "train",
    "inference_eval",
    "run_state",
    "numpy_checkpoints",
    "prompt.safetensors",
    "summary.json",
  }
  text = (folder / "config.gin").read_text()
  assert "trainer.Trainer.relative_steps" in text or "TRAIN_STEPS_RELATIVE = 12" in text
  text = (folder / "model-info.txt").read_text()
  line = next(x for x in text.splitlines() if "encoder/prompt/prompt/prompt" in x)
  assert "tunable" in line and "prompt=3" in line and "prompt_embed=16" in line
  assert text.count("tunable") == 1 and text.count("frozen") > 20


def test_the_config_of_a_run_runs_again(trained, run):
  found = run(["train", f"--gin_file={trained.folder / 'config.gin'}", "--dry_run"])
  assert found.status == 0, found.err
  head, _, _ = found.out.partition("\nencoder/prompt")
  assert head.strip() == (trained.folder / "config.gin").read_text().strip()


def test_metrics_name_every_step_once(trained):
  found = rows(trained.folder / "metrics.jsonl")
  assert [row["step"] for row in found] == list(range(FIRST + 1, LAST + 1))
  names = {"loss", "z_loss", "cross_ent_loss", "accuracy", "learning_rate"}
  assert all(row.keys() >= names for row in found)
  assert all(row["learning_rate"] == pytest.approx(0.3) for row in found)
  assert found[-1]["loss"] < found[0]["loss"]
  for name in ("eval/tiny_words/accuracy", "training_eval/loss"):
    assert [row["step"] for row in found if name in row] == [9, 15]


def test_tensorboard_reads_the_same_numbers(trained):
  (path,) = (trained.folder / "train").iterdir()
  found = {
    event.step: value.simple_value
    for event in tf.compat.v1.train.summary_iterator(str(path))
    for value in event.summary.value
    if value.tag == "loss"
  }
  expected = rows(trained.folder / "metrics.jsonl")
  assert found == {
    row["step"]: pytest.approx(row["loss"], rel=1e-6) for row in expected if "loss" in row
  }


def test_evaluations_stand_in_inference_eval(trained):
  found = rows(trained.folder / "inference_eval" / "tiny_words-metrics.jsonl")
  assert [row["step"] for row in found] == [9, 15]
  best = max(row["accuracy"] for row in found)
  assert trained.summary["metrics"] == {"tiny_words": {"accuracy": pytest.approx(best)}}


def test_every_save_is_a_numpy_file_where_the_original_put_it(trained):
  saved = trained.folder / "numpy_checkpoints"
  assert {path.name for path in saved.iterdir()} == {
    f"checkpoint_{step}" for step in (6, 9, 12, 15)
  }
  arrays = []
  for step in (6, 9, 12, 15):
    path = saved / f"checkpoint_{step}" / "encoder.prompt.prompt.prompt"
    with path.open("rb") as content:
      arrays.append(np.load(content, allow_pickle=False))
  assert all(x.shape == (3, 16) and x.dtype == np.float32 for x in arrays)
  assert all((a != b).any() for a, b in itertools.pairwise(arrays))
  assert all(np.isfinite(x).all() for x in arrays)


def test_the_prompt_file_tells_its_story(trained, settings):
  found = formats.read_prompt(str(trained.folder / "prompt.safetensors"))
  step = trained.summary["best_step"]
  path = trained.folder / "numpy_checkpoints" / f"checkpoint_{step}"
  saved = formats.load_prompt(str(path / "encoder.prompt.prompt.prompt"))
  np.testing.assert_array_equal(found.prompt, saved)
  base = assembly.load_base(settings.model, settings.checkpoint)
  assert found.metadata["base_fingerprint"] == base.fingerprint
  assert found.metadata["task"] == "tiny_words"
  assert found.metadata["step"] == step
  assert found.metadata["score"] == trained.summary["score"]
  assert found.metadata["tokenizer"].endswith("t5_1_1_reviews/sentencepiece.model")
  assert found.metadata["vocabulary"] == settings.vocabulary.fingerprint()
  assert found.metadata["d_model"] == 16 and found.metadata["prompt_length"] == 3
  assert found.metadata["library_version"] == pt.__version__


def test_the_summary_compares_with_the_majority_and_the_untuned_model(trained):
  found = trained.summary["tasks"]["tiny_words"]
  words = [label for _, label in tiny_tasks.sentences("test")]
  best = max(set(words), key=words.count)
  assert found["examples"] == len(words) == 9
  assert found["majority"]["target"] == best
  assert found["majority"]["accuracy"] == pytest.approx(100 * words.count(best) / 9)
  for name in ("untuned", "prompt"):
    assert found[name]["accuracy"] * 9 / 100 == pytest.approx(
      round(found[name]["accuracy"] * 9 / 100)
    )
    assert f"{found[name]['accuracy']:.1f}" in trained.report
  assert trained.summary["split"] == "test"


# Resuming.


@pytest.fixture
def spawn(command, tmp_path):
  """Starts a training process that lives as this one does: 8 devices, one cache."""
  environment = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(REPO), str(pathlib.Path(__file__).parent)]),
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "8",
    "JAX_COMPILATION_CACHE_DIR": str(REPO / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
  }
  started = []

  def start(folder: pathlib.Path) -> subprocess.Popen:
    log = (tmp_path / f"log_{len(started)}").open("w")
    process = subprocess.Popen(
      [sys.executable, "-m", "prompt_tuning", *command("train", folder)],
      cwd=tmp_path,
      env=environment,
      stdout=log,
      stderr=log,
    )
    started.append(process)
    return process

  yield start
  for process in started:
    if process.poll() is None:
      process.kill()
    process.wait()


def reached(path: pathlib.Path, step: int) -> bool:
  """Whether a metrics file has a row of `step`, or of a later one."""
  text = path.read_text() if path.exists() else ""
  return any(int(found) >= step for found in re.findall(r'"step": (\d+),', text))


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(trained, spawn, tmp_path):
  folder = tmp_path / "killed"
  evaluations = folder / "inference_eval" / "tiny_words-metrics.jsonl"
  moments = [
    lambda: reached(folder / "metrics.jsonl", 5),  # before the first save
    lambda: reached(evaluations, 9),  # an evaluation whose state may not be saved yet
    lambda: (folder / "run_state" / "step_12.safetensors").exists(),
  ]
  delays = random.Random(0)
  for number, moment in enumerate(moments):
    process = spawn(folder)
    while not moment():
      assert process.poll() is None, (tmp_path / f"log_{number}").read_text()
      time.sleep(0.002)
    time.sleep(delays.uniform(0.0, 0.1))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "summary.json").exists()
  assert spawn(folder).wait() == 0, (tmp_path / "log_3").read_text()
  assert "continuing" in (tmp_path / "log_3").read_text()

  for step in (6, 9, 12, 15):
    name = f"numpy_checkpoints/checkpoint_{step}/encoder.prompt.prompt.prompt"
    assert (folder / name).read_bytes() == (trained.folder / name).read_bytes()
  assert rows(folder / "metrics.jsonl") == rows(trained.folder / "metrics.jsonl")
  for path in (trained.folder / "inference_eval").glob("*.jsonl"):
    assert (folder / "inference_eval" / path.name).read_bytes() == path.read_bytes()
  ours = formats.read_prompt(str(folder / "prompt.safetensors"))
  theirs = formats.read_prompt(str(trained.folder / "prompt.safetensors"))
  np.testing.assert_array_equal(ours.prompt, theirs.prompt)
  assert ours.metadata == theirs.metadata
  summary = json.loads((folder / "summary.json").read_text())
  summary["prompt"] = trained.summary["prompt"]
  assert summary == trained.summary


def test_a_longer_run_continues_a_shorter_one(trained, run, command, tmp_path):
  folder = tmp_path / "run"
  assert run(command("train", folder, TRAIN_STEPS_RELATIVE=6)).status == 0
  assert run(command("train", folder)).status == 0
  assert rows(folder / "metrics.jsonl") == rows(trained.folder / "metrics.jsonl")
  name = "numpy_checkpoints/checkpoint_15/encoder.prompt.prompt.prompt"
  assert (folder / name).read_bytes() == (trained.folder / name).read_bytes()


@pytest.fixture
def finished(trained, tmp_path) -> pathlib.Path:
  """A copy of the finished run."""
  return shutil.copytree(trained.folder, tmp_path / "run")


def test_a_finished_run_trains_no_more(trained, finished, run, command):
  found = run(command("train", finished))
  assert found.status == 0
  assert found.out.replace(str(finished), str(trained.folder)) == trained.report
  before, after = digests(trained.folder), digests(finished)
  changed = {name for name in before if after.get(name) != before[name]}
  assert after.keys() == before.keys()
  assert changed <= {"config.gin", "summary.json"}  # they name the folder


@pytest.mark.parametrize(
  ("flags", "macros", "named"),
  [
    ([], {"BATCH_SIZE": 7}, "  batch size: 11 before, 7 now"),
    ([], {"LEARNING_RATE": 0.1}, "  learning rate: "),
    ([], {"RANDOM_SEED": 1}, "  random seed: 0 before, 1 now"),
    ([], {"CLASS_LABELS": ["good", "bad"]}, "  what is learned: "),
    ([], {"Z_LOSS": 0.5}, "  loss: "),
    ([], {"PROMPT_LENGTH": 4}, "  what is learned: "),
    ([], {"TASK_FEATURE_LENGTHS": {"inputs": 8, "targets": 4}}, "  task feature lengths: "),
    (["--gin.train/utils.DatasetConfig.split='test'"], {}, "split: train before, test now"),
  ],
  ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_run_with_other_settings_is_not_continued(
  finished, run, command, flags, macros, named
):
  before = digests(finished)
  found = run(command("train", finished, *flags, **macros))
  assert found.status == 2, found
  assert named in found.err and "another MODEL_DIR" in found.err
  assert digests(finished) == before


def test_a_run_on_another_base_is_not_continued(finished, run, command, save_t5, tmp_path):
  save_t5(tmp_path / "other", seed=1)
  before = digests(finished)
  found = run(command("train", finished, INITIAL_CHECKPOINT_PATH=str(tmp_path / "other")))
  assert found.status == 2
  assert "  base checkpoint: " in found.err and "another MODEL_DIR" in found.err
  assert digests(finished) == before


def test_a_damaged_run_state_is_refused_by_name(finished, run, command):
  path = finished / "run_state" / "step_15.safetensors"
  path.write_bytes(path.read_bytes()[:-9])
  found = run(command("train", finished))
  assert found.status == 2 and len(found.err.splitlines()) == 1
  assert "step_15.safetensors" in found.err and "delete it" in found.err


def test_without_its_newest_state_a_run_continues_from_the_one_before(
  trained, finished, run, command
):
  (finished / "run_state" / "step_15.safetensors").unlink()
  assert run(command("train", finished)).status == 0
  assert rows(finished / "metrics.jsonl") == rows(trained.folder / "metrics.jsonl")
  evaluations = "inference_eval/tiny_words-metrics.jsonl"
  assert rows(finished / evaluations) == rows(trained.folder / evaluations)
  name = "numpy_checkpoints/checkpoint_15/encoder.prompt.prompt.prompt"
  assert (finished / name).read_bytes() == (trained.folder / name).read_bytes()


def test_sums_since_the_last_row_of_metrics_are_continued(run, command, tmp_path):
  whole, folder = tmp_path / "whole", tmp_path / "run"
  macros = {"STATS_PERIOD": 4, "TRAIN_STEPS_RELATIVE": 4}
  assert run(command("train", whole, **macros, SAVE_PERIOD=100)).status == 0
  expected = rows(whole / "metrics.jsonl")
  assert [row["step"] for row in expected] == [FIRST + 4]
  assert run(command("train", folder, **macros)).status == 0
  assert rows(folder / "metrics.jsonl") == expected
  (folder / "run_state" / f"step_{FIRST + 4}.safetensors").unlink()
  found = run(command("train", folder, **macros))
  assert f"continuing {folder} at step {FIRST + 3}" in found.err
  assert rows(folder / "metrics.jsonl") == expected


def test_as_many_states_are_kept_as_the_config_says(run, command, tmp_path):
  macros = {"SAVE_PERIOD": 1, "TRAIN_STEPS_RELATIVE": 5, "KEEP_SAVES": 3}
  assert run(command("train", tmp_path / "run", **macros)).status == 0
  kept = {path.stem for path in (tmp_path / "run" / "run_state").glob("*.safetensors")}
  assert kept == {f"step_{FIRST + done}" for done in (3, 4, 5)}


# Stopping early, and starting the counter elsewhere.


def test_patience_ends_a_run_that_gets_no_better(run, command, tmp_path):
  folder = tmp_path / "run"
  arguments = command(
    "train",
    folder,
    LEARNING_RATE=1e-8,
    EVAL_PERIOD=1,
    PATIENCE=2,
    TRAIN_STEPS_RELATIVE=1000,
  )
  assert run(arguments).status == 0
  evaluated = rows(folder / "inference_eval" / "tiny_words-metrics.jsonl")
  assert [row["step"] for row in evaluated] == [4, 5, 6]  # the first is the best
  assert json.loads((folder / "summary.json").read_text())["best_step"] == 4
  before = (folder / "metrics.jsonl").read_bytes()
  assert run(arguments).status == 0  # a stopped run stays stopped
  assert (folder / "metrics.jsonl").read_bytes() == before


# What follows training.


def test_eval_finds_what_the_summary_says(trained, run, command, tmp_path):
  prompt = str(trained.folder / "prompt.safetensors")
  found = run(command("eval", tmp_path / "eval", PROMPT_FILE=prompt))
  assert found.status == 0, found.err
  expected = trained.summary["tasks"]["tiny_words"]["prompt"]
  results = json.loads((tmp_path / "eval" / "results.json").read_text())
  (one,) = results["prompts"]
  assert one["tasks"] == {"tiny_words": expected}
  assert (one["prompt"], one["step"]) == (prompt, trained.summary["best_step"])
  assert f"tiny_words  accuracy {expected['accuracy']:.2f}" in found.out
  assert "<!-- tiny_words -->" in (tmp_path / "eval" / "results.svg").read_text()
  (row,) = rows(tmp_path / "eval" / "inference_eval" / "tiny_words-metrics.jsonl")
  assert row["accuracy"] == expected["accuracy"]
  assert (tmp_path / "eval" / "config.gin").exists()


def test_every_prompt_of_a_run_is_evaluated(trained, run, command, tmp_path):
  macros = {"PROMPT_FILE": str(trained.folder), "PROMPTS": "all"}
  found = run(command("eval", tmp_path / "e", **macros))
  assert found.status == 0, found.err
  results = json.loads((tmp_path / "e" / "results.json").read_text())
  steps = [one["step"] for one in results["prompts"]]
  assert steps == [trained.summary["first_step"] + done for done in (3, 6, 9, 12)]
  best = next(o for o in results["prompts"] if o["step"] == trained.summary["best_step"])
  assert best["tasks"]["tiny_words"] == trained.summary["tasks"]["tiny_words"]["prompt"]
  logged = rows(tmp_path / "e" / "inference_eval" / "tiny_words-metrics.jsonl")
  assert [row["step"] for row in logged] == steps


@pytest.mark.parametrize(
  ("macros", "message"),
  [({"PROMPTS": "last"}, "PROMPTS 'last'"), ({"PROMPTS": "all"}, "no prompts by step")],
)
def test_prompts_that_cannot_be_listed_are_refused(
  trained, run, command, tmp_path, macros, message
):
  prompt = str(trained.folder / "prompt.safetensors")
  found = run(command("eval", tmp_path / "e", PROMPT_FILE=prompt, **macros))
  assert found.status == 2
  assert message in found.err


def test_a_task_without_a_metric_can_be_trained_on(run, command, tmp_path):
  task = {"MIXTURE_OR_TASK_NAME": "letter_words", "MIXTURE_OR_TASK_MODULE": "letter_tasks"}
  found = run(command("train", tmp_path / "run", TRAIN_STEPS_RELATIVE=6, **task))
  assert found.status == 0, found.err
  assert (tmp_path / "run" / "prompt.safetensors").exists()


def test_bytes_are_a_vocabulary(run, command, tmp_path):
  macros = {
    "TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 10},
    "TRAIN_STEPS_RELATIVE": 3,
    "LABELS": "task",
    "MIXTURE_OR_TASK_NAME": "tiny_words",
  }
  arguments = command("train", tmp_path / "run", **macros)
  found = run([*arguments, "--gin.VOCABULARY=@seqio.ByteVocabulary()"])
  assert found.status == 0, found.err
  file = formats.read_prompt(str(tmp_path / "run"))
  assert (file.metadata["vocabulary"], file.metadata["tokenizer"]) == ("bytes", "bytes")
  evaluated = command("eval", tmp_path / "eval", PROMPT_FILE=str(tmp_path / "run"))
  found = run(evaluated)
  assert found.status == 2 and "another model or vocabulary" in found.err


def test_infer_writes_one_line_per_example_in_order(trained, run, command, tmp_path):
  prompt = str(trained.folder / "prompt.safetensors")
  found = run(command("infer", tmp_path / "infer", PROMPT_FILE=prompt))
  assert found.status == 0, found.err
  path = tmp_path / "infer" / "tiny_words-predict.jsonl-00000-of-00001"
  assert found.out.strip() == str(path)
  lines, expected = rows(path), tiny_tasks.sentences("test")
  assert [line["inputs"]["inputs_pretokenized"] for line in lines] == [
    text for text, _ in expected
  ]
  right = [
    line["prediction"] == label for line, (_, label) in zip(lines, expected, strict=True)
  ]
  assert {line["prediction"] for line in lines} <= set(tiny_tasks.LABELS)
  accuracy = trained.summary["tasks"]["tiny_words"]["prompt"]["accuracy"]
  assert 100 * np.mean(right) == pytest.approx(accuracy)


def test_infer_scores_the_targets(trained, settings, run, command, tmp_path):
  prompt = str(trained.folder / "prompt.safetensors")
  found = run(
    command(
      "infer", tmp_path / "infer", "--gin.infer.infer.mode='score'", PROMPT_FILE=prompt
    )
  )
  assert found.status == 0, found.err
  lines = rows(tmp_path / "infer" / "tiny_words-score.jsonl-00000-of-00001")
  base = assembly.load_base(settings.model, settings.checkpoint)
  model = pt.PromptedT5(base.model, pt.PromptBank(pt.load_prompt(prompt)))
  encode = settings.vocabulary.load().encode
  inputs, targets = np.zeros((9, 12), np.int32), np.zeros((9, 4), np.int32)
  for row, example in enumerate(tiny_tasks.sentences("test")):
    for array, text in zip((inputs, targets), example, strict=True):
      tokens = [*encode(text), 1]
      array[row, : len(tokens)] = tokens
  expected = jax.jit(model.score)(inputs, targets)
  np.testing.assert_allclose([line["score"] for line in lines], expected, rtol=1e-5)


def test_infer_refuses_a_mode_it_does_not_have(trained, run, command, tmp_path):
  prompt = str(trained.folder / "prompt.safetensors")
  flag = "--gin.infer.infer.mode='scores'"
  found = run(command("infer", tmp_path / "infer", flag, PROMPT_FILE=prompt))
  assert found.status == 2 and "nearest known: score" in found.err


# Devices.


def prepared(settings, rows: int):
  """A split model, its optimizer, its first state and a real batch."""
  base = assembly.load_base(settings.model, settings.checkpoint)
  model = assembly.with_prompt(
    base, settings.learned.prompt, settings.vocabulary, jax.random.key(1)
  )
  split = states.Split.of(model)
  optimizer = states.over_bank(
    settings.optimizer.transformation(settings.learning_rate_fn, base.step)
  )
  state = states.create(split, optimizer, jax.random.key(2), base.step)
  provider = registry.find(settings.train_dataset, settings.vocabulary)
  dataset = dataclasses.replace(settings.train_dataset, batch_size=rows)
  return split, optimizer, state, next(TrainingBatches(dataset, provider))


def test_eight_devices_learn_what_one_learns(settings):
  found = []
  for devices in (1, 8):
    split, optimizer, state, batch = prepared(settings, rows=8)
    mesh = Partitioner().mesh(8)
    if devices == 1:
      mesh = Partitioner().mesh(11)  # no more than one of eight divides eleven rows
    assert mesh.size == devices
    step = steps.train_step(split, optimizer, settings.loss)
    frozen, state = jax.device_put((split.frozen, state), replicated(mesh))
    batch = shard_batch(batch, mesh)
    assert batch["encoder_input_tokens"].addressable_shards[0].data.shape[0] == 8 // devices
    losses = []
    for _ in range(3):
      state, sums = step(state, frozen, batch)
      losses.append(float(sums["loss"]))
    found.append((losses, np.asarray(state.params["bank/prompts"])))
  (loss_1, prompt_1), (loss_8, prompt_8) = found
  np.testing.assert_allclose(loss_8, loss_1, rtol=1e-5)
  np.testing.assert_allclose(prompt_8, prompt_1, rtol=1e-5, atol=1e-5)


def test_a_mixture_trains_and_reports_each_of_its_tasks(run, command, tmp_path):
  macros = {"MIXTURE_OR_TASK_NAME": "tiny_mixture", "TRAIN_STEPS_RELATIVE": 2}
  assert run(command("train", tmp_path / "run", **macros)).status == 0
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  tasks_found = {"tiny_words", "tiny_words_again"}
  assert summary["tasks"].keys() == summary["metrics"].keys() == tasks_found
  accuracies = [found["accuracy"] for found in summary["metrics"].values()]
  assert summary["score"] == pytest.approx(np.mean(accuracies))


def test_a_run_that_does_not_finish_leaves_no_summary_of_an_earlier_one(
  run, command, tmp_path
):
  (tmp_path / "summary.json").write_text("{}")
  found = run(command("train", tmp_path, MIXTURE_OR_TASK_NAME="tiny_words_without_train"))
  assert found.status == 2 and "yields no example" in found.err
  assert (tmp_path / "config.gin").exists()  # it had begun
  assert not (tmp_path / "summary.json").exists()
