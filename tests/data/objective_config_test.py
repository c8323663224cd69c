"""An objective is checked when it is made: its kind, its room, its batch."""

import re
import subprocess
import sys

import pytest

from prompt_tuning import checks
from prompt_tuning.data import spans
from prompt_tuning.data.objective_config import Objective
from prompt_tuning.data.spans import Noise


def make(kind="span_corruption", inputs=64, targets=64, **others):
  lengths = {"inputs": inputs, "targets": targets}
  return Objective(name="mine", kind=kind, lengths=lengths, **others)


@pytest.mark.parametrize("kind", spans.KINDS)
def test_the_least_room_for_targets_that_an_error_names_is_the_least(kind):
  with pytest.raises(checks.InputError, match="found 1;") as error:
    make(kind, targets=1)
  needed = int(re.search(r"targets of (\d+)", str(error.value)).group(1))
  assert make(kind, targets=needed).lengths["targets"] == needed
  with pytest.raises(checks.InputError, match="raise the length of the targets"):
    make(kind, targets=needed - 1)


def test_t5_s_own_lengths_are_accepted_and_one_less_is_not():
  make(inputs=512, targets=114)
  with pytest.raises(
    checks.InputError, match="makes targets of 114, expected room for them, found 113"
  ):
    make(inputs=512, targets=113)


def test_more_noise_needs_more_room():
  make(inputs=512, targets=114)
  with pytest.raises(checks.InputError, match="raise the length of the targets"):
    make(inputs=512, targets=114, noise=Noise(0.5, 3.0))


def test_inputs_without_room_for_a_span_are_refused():
  with pytest.raises(checks.InputError, match="too short for one hidden span"):
    make(inputs=4)


def test_an_unknown_kind_names_the_nearest():
  with pytest.raises(checks.InputError, match="nearest known: span_corruption"):
    make("span_coruption")


def test_a_registered_task_brings_its_own_lengths():
  assert make(None, inputs=1, targets=1).kind is None


@pytest.mark.parametrize("size", [0, -1, "128", None, True])
@pytest.mark.parametrize("kind", ["prefix_lm", None])
def test_a_batch_without_rows_is_refused(size, kind):
  with pytest.raises(checks.InputError, match="BATCH_SIZE is"):
    make(kind, batch_size=size)


def test_objectives_are_described_without_tensorflow():
  code = (
    "import sys, prompt_tuning.data.objective_config, prompt_tuning.data.token_arrays;"
    "sys.exit(any(name in sys.modules for name in ('tensorflow', 'seqio')))"
  )
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"epochs": 0}, "epochs of 'mine' is 0"),
    ({"rate": -1.0}, "rate of 'mine' is -1.0"),
    ({"max_rows": 0}, "max_rows of 'mine' is 0"),
    ({"window": 2}, "window of 'mine' is 2"),
    ({"lengths": {"inputs": 9}}, "expected those of inputs and targets"),
  ],
)
def test_numbers_that_make_no_sense_are_refused(change, message):
  given = {"name": "mine", "kind": "prefix_lm", "lengths": {"inputs": 32, "targets": 9}}
  with pytest.raises(checks.InputError, match=message):
    Objective(**{**given, **change})
