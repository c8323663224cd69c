"""Plans: what fits, what is recommended, and what wrong flags say."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from prompt_tuning import checks, choices, config, plan, plan_devices, plan_report
from prompt_tuning.choices import Choice
from prompt_tuning.cli.main import main

REPO = pathlib.Path(__file__).parents[1]
MIB = 2**20
FILES = ["models/t5_1_1_small_prompt.gin", "runs/prompt_finetune.gin"]
LEAST = {"MIXTURE_OR_TASK_NAME": "", "MODEL_DIR": "", "INITIAL_CHECKPOINT_PATH": ""}


def run_of(*bindings: str, files=FILES):
  given = [
    "BATCH_SIZE = 8",
    "NUM_HEADS = 8",
    "TASK_FEATURE_LENGTHS = {'inputs': 32, 'targets': 8}",
    *bindings,
  ]
  otherwise = {**LEAST, "TRAIN_STEPS": 1}
  return config.load("train.train", files, given, (), otherwise)[0]


def planned(run, hbm: float) -> plan.Plan:
  return plan.plan(run, plan.Devices(devices=jax.devices()[:8], hbm=int(hbm)))


def test_more_memory_never_needs_more_splitting():
  run = run_of()
  order = list(choices.choices(run, 8))
  sizes = (100, 200, 1000)
  found = [planned(run, size * MIB).best for size in sizes]
  places = [order.index(best.choice) for best in found if best is not None]
  assert len(places) >= 3 and places == sorted(places, reverse=True)
  assert len(set(places)) >= 3  # it does depend on memory
  assert all(best is not None for best in found[-len(places) :])
  last = found[-1]
  assert last.choice == Choice(1, 1, 1, "none", 1, "float32")


def test_the_edge_is_where_the_total_is_what_may_be_used():
  run = run_of()
  total = planned(run, 2**40).given.total
  just = total / (1 - plan.RESERVE)
  assert planned(run, just + 10).given.fits
  assert not planned(run, just - 10).given.fits


def test_where_nothing_fits_the_nearest_is_shown_and_what_it_lacks():
  run = run_of()
  found = planned(run, 8 * MIB)
  assert found.best is None and found.nearest is not None
  target = plan.Devices(devices=jax.devices()[:8], hbm=8 * MIB)
  text = plan_report.report(run, target, found)
  assert "does not fit as given" in text and "nothing fits" in text
  assert plan.gib(found.nearest.total - target.budget) in text


def test_choices_go_from_talking_least_to_keeping_least():
  found = list(choices.choices(run_of(), 8))
  assert len(found) == len(set(found))
  assert [(x.num_partitions, x.parameter_dims) for x in found[:4]] == [
    (1, 1),
    (1, 2),
    (2, 1),
    (2, 2),
  ]
  dtypes = [x.weight_dtype for x in found]
  assert list(dict.fromkeys(dtypes)) == ["float32", "bfloat16", "int8"]
  assert all(8 % x.num_partitions == 0 for x in found)
  rows = [8 // x.num_microbatches % (8 // x.num_partitions) for x in found]
  assert not any(rows)


def test_weights_that_learn_keep_their_dtype():
  files = ["models/t5_1_1_small.gin", "runs/finetune.gin"]
  found = choices.choices(run_of(files=files), 8)
  assert {x.weight_dtype for x in found} == {"float32"}


def test_a_choice_is_what_its_flags_set():
  run = run_of("AXIS_RULES = (('prompt', None),)")
  for choice in (
    Choice(2, 2, 1, "full", 4, "bfloat16"),
    Choice(1, 2, 2, "minimal", 1, "int8"),
  ):
    flags = [line.removeprefix("--gin.").split("=", 1) for line in choice.lines(run)]
    bindings = [f"{name} = {value.strip(chr(34))}" for name, value in flags]
    by_flags = run_of("AXIS_RULES = (('prompt', None),)", *bindings)
    assert Choice.of(by_flags) == choice
    applied = choice.applied(run)
    assert Choice.of(applied) == choice
    rules = applied.partitioner.logical_axis_rules
    assert rules == by_flags.partitioner.logical_axis_rules
    assert rules[-1] == ("prompt", None)


def test_flags_take_back_what_wins_over_them():
  run = run_of("ICI_MESH_SHAPE = (1, 2, 4)", "DCN_MESH_SHAPE = (1, 1, 1)")
  (own,) = [x for x in choices.choices(run, 8) if x == Choice(2, 1, 1, "none", 1, "int8")]
  flags = [line.removeprefix("--gin.").split("=", 1) for line in own.lines(run)]
  bindings = [f"{name} = {value.strip(chr(34))}" for name, value in flags]
  given = run_of("ICI_MESH_SHAPE = (1, 2, 4)", "DCN_MESH_SHAPE = (1, 1, 1)", *bindings)
  assert Choice.of(given) == own


@pytest.mark.parametrize(
  "text, expected",
  [("16GiB", 2**34), ("80GB", 80 * 10**9), ("16e9", 16 * 10**9), ("512 MiB", 2**29)],
)
def test_sizes(text, expected):
  assert plan_devices.size("--hbm", text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "16XB", "-1GB", "0", "16GiB of memory"])
def test_what_is_no_size_is_named(text):
  with pytest.raises(checks.InputError, match=r"--hbm is .*, expected a size such as"):
    plan_devices.size("--hbm", text)


GIN = [*(f"--gin_file={name}" for name in FILES), "--gin.BATCH_SIZE=16"]


def test_wrong_flags_are_all_named_at_once(capsys):
  assert main(["plan", "--devices", "0", "--hbm", "much"]) == 2
  err = capsys.readouterr().err
  for words in ("--gin_file", "--devices is 0", "--hbm is 'much'"):
    assert words in err
  assert main(["plan", *GIN, "--hbm", "16GiB", "--whole"]) == 2
  err = capsys.readouterr().err
  assert "--devices" in err and "--topology" in err and "--whole" in err
  assert len(jax.devices()) == 8  # there before the command asks for more
  assert main(["plan", *GIN, "--hbm", "16GiB", "--devices", "9"]) == 2
  assert "a process of its own" in capsys.readouterr().err


def test_exit_status_and_lines_that_make_it_fit(capsys):
  tight = [*GIN, "--devices", "8", "--hbm", "400MiB"]
  assert main(["plan", *tight, "--json"]) == 1
  found = json.loads(capsys.readouterr().out)
  assert not found["fits"] and found["recommended"]["fits"]
  assert found["parameters"]["tunable"] == 100 * 512
  assert found["lengths"] == {"inputs": 512, "targets": 16}
  flags = [x.replace('"', "") for x in found["recommended"]["flags"]]
  assert main(["plan", *tight, *flags]) == 0
  out = capsys.readouterr().out
  assert "fits as given" in out and "recommended" not in out


def test_it_plans_for_more_devices_than_there_are():
  command = [sys.executable, "-m", "prompt_tuning", "plan", *GIN]
  found = subprocess.run(
    [*command, "--devices", "16", "--hbm", "16GiB", "--json"],
    cwd=REPO,
    capture_output=True,
    text=True,
    check=True,
  )
  assert json.loads(found.stdout)["given"]["devices_used"] == 16
