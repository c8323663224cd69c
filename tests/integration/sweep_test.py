"""Sweeps from end to end: each member is what `train` makes of it, whoever is beside it."""

import contextlib
import io
import json
import os
import pathlib
import signal
import statistics
import threading
import time

import numpy as np
import pytest

from prompt_tuning import formats
from prompt_tuning.cli.main import main
from prompt_tuning.preemption import EXIT_PREEMPTED

SEEDS, RATES = [0, 1], [0.3, 0.03]
VARIED = {"SWEEP_SEEDS": SEEDS, "SWEEP_LEARNING_RATES": RATES}
STEPS = (6, 9, 12, 15)


def rows(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def summary_of(folder: pathlib.Path) -> dict:
  return json.loads((folder / "summary.json").read_text())


def results(folder: pathlib.Path) -> dict[str, bytes]:
  """Files of a member or a run that may not depend on what else is trained."""
  names = [f"numpy_checkpoints/checkpoint_{step}" for step in STEPS]
  files = [f"{name}/encoder.prompt.prompt.prompt" for name in names]
  return {name: (folder / name).read_bytes() for name in [*files, "prompt.safetensors"]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, command):
  """Four members, twelve steps; tests read the folder and leave it as it is."""
  folder = tmp_path_factory.mktemp("swept") / "run"
  with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main(command("sweep", folder, **VARIED)) == 0
  assert out.getvalue().strip() == (folder / "sweep.md").read_text().strip()
  return folder


def test_a_member_is_bit_for_bit_what_train_makes_of_it(
  swept, trained, run, command, tmp_path
):
  macros = {"RANDOM_SEED": 1, "LEARNING_RATE": 0.03}
  assert run(command("train", tmp_path / "run", **macros)).status == 0
  for name, alone in (("lr0.3-seed0", trained.folder), ("lr0.03-seed1", tmp_path / "run")):
    member = swept / "members" / name
    assert results(member) == results(alone)
    assert rows(member / "metrics.jsonl") == rows(alone / "metrics.jsonl")
  first, second = (results(swept / "members" / f"lr0.3-seed{seed}") for seed in SEEDS)
  assert not set(first.values()) & set(second.values())


def test_a_sweep_of_one_is_the_same_again(swept, run, command, tmp_path):
  assert run(command("sweep", tmp_path / "one", SWEEP_SEEDS=[1])).status == 0
  one = tmp_path / "one" / "members" / "run"
  assert results(one) == results(swept / "members" / "lr0.3-seed1")


def test_the_summary_tells_of_members_settings_and_the_best(swept, trained):
  found = summary_of(swept)
  members = {row["name"]: row for row in found["members"]}
  assert list(members) == ["lr0.3-seed0", "lr0.3-seed1", "lr0.03-seed0", "lr0.03-seed1"]
  ours, alone = members["lr0.3-seed0"], trained.summary
  assert (ours["best_step"], ours["score"]) == (alone["best_step"], alone["score"])
  task = alone["tasks"]["tiny_words"]
  assert ours["test_metrics"] == {"tiny_words": task["prompt"]}
  assert found["tasks"]["tiny_words"]["untuned"] == task["untuned"]
  best = max(members.values(), key=lambda row: row["score"])
  assert [row["name"] for row in members.values() if row["best"]] == [found["best"]]
  assert found["best"] == best["name"]
  content = (swept / "members" / best["name"] / "prompt.safetensors").read_bytes()
  assert (swept / "prompt.safetensors").read_bytes() == content
  for rate, setting in zip(RATES, found["settings"], strict=True):
    tests = [members[f"lr{rate}-seed{seed}"]["test"] for seed in SEEDS]
    assert setting["members"] == [f"lr{rate}-seed{seed}" for seed in SEEDS]
    assert setting["test"]["mean"] == pytest.approx(statistics.fmean(tests))
    assert setting["test"]["spread"] == pytest.approx(statistics.stdev(tests))
  table = (swept / "sweep.md").read_text()
  assert f"| **{best['name']}** | " in table and "| learning rate 0.3 | 2 | " in table
  assert "<!-- learning rate 0.03 -->" in (swept / "sweep.svg").read_text()


def test_the_folder_of_a_sweep_is_evaluated_as_a_run_s(swept, run, command, tmp_path):
  found = run(command("eval", tmp_path / "eval", PROMPT_FILE=str(swept)))
  assert found.status == 0, found.err
  (one,) = json.loads((tmp_path / "eval" / "results.json").read_text())["prompts"]
  best = next(row for row in summary_of(swept)["members"] if row["best"])
  assert one["tasks"] == best["test_metrics"]


def stop_when(path: pathlib.Path, text: str) -> threading.Thread:
  """Sends SIGTERM to this process once a file has a text."""

  def watch() -> None:
    while not (path.exists() and text in path.read_text()):
      time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGTERM)

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  return thread


def test_a_sweep_that_is_stopped_continues_bit_for_bit(swept, run, command, tmp_path):
  folder = tmp_path / "run"
  arguments = command("sweep", folder, **VARIED)
  watching = stop_when(folder / "members" / "lr0.03-seed1" / "metrics.jsonl", '"step": 7')
  assert run(arguments).status == EXIT_PREEMPTED
  watching.join()
  assert not (folder / "summary.json").exists()
  assert run(arguments).status == 0
  for member in (swept / "members").iterdir():
    ours = folder / "members" / member.name
    # The stop saved once more than the periods ask for.
    assert results(ours) == results(member)
    assert rows(ours / "metrics.jsonl") == rows(member / "metrics.jsonl")
  text = (folder / "sweep.md").read_text().replace(str(folder), str(swept))
  assert text == (swept / "sweep.md").read_text()


def test_a_sweep_with_other_members_is_not_continued(swept, run, command):
  found = run(command("sweep", swept, **{**VARIED, "SWEEP_SEEDS": [0, 2]}))
  assert found.status == 2 and "  members: lr0.3-seed0, lr0.3-seed1, " in found.err
  found = run(command("sweep", swept, **VARIED, BATCH_SIZE=7))
  assert found.status == 2 and "  batch size of members: 11 before, 7 now" in found.err
  found = run(command("train", swept))
  assert found.status == 2 and "another MODEL_DIR" in found.err


def test_members_leave_and_the_others_stay_what_they_are(trained, run, command, tmp_path):
  """A rate that diverges, one that moves nothing, and the one of `trained`."""
  folder = tmp_path / "run"
  macros = {"SWEEP_LEARNING_RATES": [1e39, 1e-8, 0.3], "STATS_PERIOD": 4}
  found = run(command("sweep", folder, **macros, TRAIN_STEPS_RELATIVE=6))
  assert found.status == 0, found.err
  assert "at step 6: not a number; 2 members stay" in found.err  # by a save, between stats
  found = run(command("sweep", folder, **macros, PATIENCE=1))
  assert found.status == 0, found.err
  wild, idle, fine = summary_of(folder)["members"]
  assert (wild["end"], wild["last_step"]) == ("not a number", 6)
  assert wild["best_step"] is None and wild["test"] is None
  assert "no better" in idle["end"] and (idle["best_step"], idle["last_step"]) == (9, 15)
  assert results(folder / "members" / fine["name"]) == results(trained.folder)
  assert f"step {wild['last_step']}: not a number |" in (folder / "sweep.md").read_text()
  alone = [row["loss"] for row in rows(trained.folder / "metrics.jsonl")[:4]]
  row = rows(folder / "members" / fine["name"] / "metrics.jsonl")[0]
  assert (row["step"], row["loss"]) == (7, pytest.approx(statistics.fmean(alone)))
  again = run(command("sweep", folder, **macros, PATIENCE=1))
  assert again.status == 0 and again.out == found.out


def test_a_sweep_in_which_nothing_is_a_number_says_so(run, command, tmp_path):
  found = run(command("sweep", tmp_path / "run", SWEEP_LEARNING_RATES=[1e39]))
  assert found.status == 2
  assert "no member has a finite loss" in found.err


def test_every_task_has_its_best_on_eight_devices(run, command, tmp_path):
  folder, tasks = tmp_path / "run", ["tiny_words", "tiny_words_again"]
  macros = {"SWEEP_TASKS": tasks, "SWEEP_AT_ONCE": 2, "TRAIN_STEPS_RELATIVE": 3}
  assert run(command("sweep", folder, **macros, BATCH_SIZE=8)).status == 0
  found = summary_of(folder)
  assert [(row["name"], row["best"]) for row in found["members"]] == [
    (task, True) for task in tasks
  ]
  assert found["tasks"].keys() == set(tasks) and found["best"] is None
  assert not (folder / "prompt.safetensors").exists()
  files = [formats.read_prompt(row["prompt"]) for row in found["members"]]
  assert [file.metadata["task"] for file in files] == tasks
  np.testing.assert_allclose(files[0].prompt, files[1].prompt, rtol=1e-4, atol=1e-5)
