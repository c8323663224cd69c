"""Several prompts of one task in one pass: each member as alone, and all together."""

import collections
import json

import numpy as np
import pytest

TASK = "tiny_words"


def alone(run, command, folder, path, **macros):
  """Answers and metrics of one prompt, from the commands for one prompt."""
  found = run(command("infer", folder / "infer", PROMPT_FILE=path, **macros))
  assert found.status == 0, found.err
  with open(found.out.strip()) as lines:
    answers = [json.loads(line)["prediction"] for line in lines]
  found = run(command("eval", folder / "eval", PROMPT_FILE=path, **macros))
  assert found.status == 0, found.err
  results = json.loads((folder / "eval" / "results.json").read_text())
  return answers, results["prompts"][0]["tasks"]


@pytest.fixture
def together(run, command, tmp_path, prompts):
  def evaluate(**macros):
    out = tmp_path / "ensemble"
    paths = list(prompts.values())
    found = run(command("ensemble", out, PROMPT_FILES=paths, **macros))
    assert found.status == 0, found.err
    lines = (out / f"{TASK}-answers.jsonl").read_text().splitlines()
    return (
      json.loads((out / "results.json").read_text()),
      list(map(json.loads, lines)),
      (found.out),
    )

  return evaluate


DECODED = {"decoding.Prediction.labels": None, "decoding.Prediction.max_len": 3}


@pytest.mark.parametrize("how", [{}, DECODED], ids=["ranked", "decoded"])
def test_members_answer_as_they_do_alone(run, command, tmp_path, prompts, together, how):
  results, lines, _ = together(**how)
  for (name, path), length in zip(prompts.items(), (3, 5, 2), strict=True):
    macros = {"PROMPT_LENGTH": length, **how}
    answers, tasks = alone(run, command, tmp_path / name, path, **macros)
    assert [line["answers"][path] for line in lines] == answers
    assert results["members"][path] == tasks
  assert len({tuple(line["answers"][path] for line in lines) for path in prompts.values()})


def test_votes_are_counted_and_reported_beside_mean_and_best(prompts, together):
  results, lines, table = together()
  paths = list(prompts.values())
  for line in lines:
    votes = collections.Counter(line["answers"][path] for path in paths)
    assert line["answers"]["majority vote"] == votes.most_common(1)[0][0]
  right = [line["answers"]["majority vote"] == line["target"] for line in lines]
  voted = results["rules"]["majority vote"][TASK]["accuracy"]
  assert voted == pytest.approx(100 * np.mean(right))
  alone = [results["members"][path][TASK]["accuracy"] for path in paths]
  assert len(set(alone)) > 1, "prompts that all answer alike show nothing"
  assert results["mean"][TASK]["accuracy"] == pytest.approx(np.mean(alone))
  assert results["best"][TASK]["accuracy"] == max(alone)
  for name in (*paths, "best of 3", "majority vote", "mean probability"):
    assert name in table
  assert f"mean of 3 prompts: accuracy {np.mean(alone):.1f} ± " in table


def test_a_mixture_is_answered_task_by_task(run, command, tmp_path, prompts):
  macros = {"MIXTURE_OR_TASK_NAME": "tiny_mixture", "PROMPT_FILES": [*prompts.values()]}
  found = run(command("ensemble", tmp_path / "out", **macros))
  assert found.status == 0, found.err
  results = json.loads((tmp_path / "out" / "results.json").read_text())
  assert results["examples"] == {"tiny_words": 9, "tiny_words_again": 9}


@pytest.mark.parametrize("given", ["'one.npy'", "['one.npy']", "[]"])
def test_an_ensemble_of_one_is_refused(run, command, tmp_path, given):
  arguments = command("ensemble", tmp_path / "out")
  found = run([*arguments, f"--gin.PROMPT_FILES={given}"])
  assert found.status == 2
  assert "expected a list of two or more" in found.err


def test_a_prompt_that_is_named_twice_is_refused(run, command, tmp_path, prompts):
  first, *_ = prompts.values()
  found = run(command("ensemble", tmp_path / "out", PROMPT_FILES=[first, first]))
  assert found.status == 2 and "names a prompt twice" in found.err


def test_a_task_without_a_metric_is_refused(run, command, tmp_path, prompts):
  task = {"MIXTURE_OR_TASK_NAME": "letter_words", "MIXTURE_OR_TASK_MODULE": "letter_tasks"}
  files = [*prompts.values()]
  found = run(command("ensemble", tmp_path / "out", PROMPT_FILES=files, **task))
  assert found.status == 2 and "has no metric" in found.err
