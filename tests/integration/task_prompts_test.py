"""Each task of a mixture with its own prompt: as each task with its prompt alone."""

import json

import pytest

TASKS = ("tiny_words", "tiny_words_again")
MIXTURE = {
  "MIXTURE_OR_TASK_NAME": "tiny_mixture",
  "MIXTURE_OR_TASK_MODULE": "tiny_tasks",
  "TASK_FEATURE_LENGTHS": {"inputs": 16, "targets": 4},
}


@pytest.fixture
def files(prompts):
  """{task: prompt} and {task: its length}; of different lengths."""
  return dict(zip(TASKS, prompts.values(), strict=False)), dict(
    zip(TASKS, (3, 5), strict=True)
  )


def lines_of(path):
  with open(path) as lines:
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("mode", ["predict", "score"])
def test_infer_answers_each_task_with_its_prompt(run, command, tmp_path, files, mode):
  paths, lengths = files
  how = {"infer.infer.mode": mode}
  found = run(
    command(
      "infer",
      tmp_path / "both",
      "--gin_file=runs/task_prompts_infer.gin",
      PROMPT_FILES=paths,
      **MIXTURE,
      **how,
    )
  )
  assert found.status == 0, found.err
  both = found.out.splitlines()
  assert len(both) == 2
  for task, path in zip(TASKS, both, strict=True):
    single = {"MIXTURE_OR_TASK_NAME": task, "PROMPT_LENGTH": lengths[task], **how}
    arguments = command("infer", tmp_path / task, PROMPT_FILE=paths[task], **single)
    found = run(arguments)
    assert found.status == 0, found.err
    for ours, theirs in zip(lines_of(path), lines_of(found.out.strip()), strict=True):
      if mode == "score":
        assert ours.pop("score") == pytest.approx(theirs.pop("score"), rel=1e-5)
      assert ours == theirs


def test_eval_measures_each_task_with_its_prompt(run, command, tmp_path, files):
  paths, lengths = files
  later = "--gin_file=runs/task_prompts_eval.gin"
  found = run(command("eval", tmp_path / "e", later, PROMPT_FILES=paths, **MIXTURE))
  assert found.status == 0, found.err
  (one,) = json.loads((tmp_path / "e" / "results.json").read_text())["prompts"]
  for task in TASKS:
    single = {"MIXTURE_OR_TASK_NAME": task, "PROMPT_LENGTH": lengths[task]}
    out = tmp_path / task
    assert run(command("eval", out, PROMPT_FILE=paths[task], **single)).status == 0
    (alone,) = json.loads((out / "results.json").read_text())["prompts"]
    assert one["tasks"][task] == alone["tasks"][task]


@pytest.mark.parametrize("kind", ["eval", "infer"])
def test_a_task_without_a_prompt_is_named(run, command, tmp_path, files, kind):
  paths, _ = files
  later = f"--gin_file=runs/task_prompts_{kind}.gin"
  only = {"PROMPT_FILES": {"tiny_words": paths["tiny_words"], "other": paths["tiny_words"]}}
  found = run(command(kind, tmp_path / "out", later, **only, **MIXTURE))
  assert found.status == 2
  assert "tiny_words_again" in found.err and "'other'" in found.err


@pytest.mark.parametrize("kind", ["eval", "infer"])
def test_the_settings_of_many_prompts_can_be_shown(run, command, tmp_path, files, kind):
  later = f"--gin_file=runs/task_prompts_{kind}.gin"
  arguments = command(kind, tmp_path / "out", later, PROMPT_FILES=files[0], **MIXTURE)
  found = run([*arguments, "--dry_run"])
  assert found.status == 0, found.err
  assert "Total number of parameters" in found.out
