"""A file of answers: cut anywhere it is continued to the same bytes."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning import answers_file, checks
from prompt_tuning.answers_file import AnswersFile, Seen

SETTINGS = {"model": "a", "mode": "predict"}


def line(number, **fields):
  found = {"row": number, **(fields or {"prediction": f"Ünïcödé {number}\n\u2028"})}
  return json.dumps(found, ensure_ascii=False) + "\n"


LINES = [line(i) if i % 3 else line(i, error="its text is empty") for i in range(20)]
WHOLE = "".join(LINES).encode()


def finish(path, chunk=3, settings=SETTINGS):
  """Opens the file and writes all that is missing; returns (done, failed) before."""
  with answers_file.opened(str(path), settings) as answers:
    for first in range(answers.done, len(LINES), chunk):
      answers.append(LINES[first : first + chunk])
      answers.note(Seen(first, "0"))
    answers.note(Seen(len(LINES), "1"), last=True)
    return answers.done, answers.failed


@pytest.fixture
def path(tmp_path):
  return tmp_path / "new" / "answers.jsonl"


def notes(path):
  return json.loads((path.parent / f"{path.name}.run.json").read_text())


def test_a_new_file_and_its_notes(path):
  assert finish(path) == (0, 0)
  assert path.read_bytes() == WHOLE
  seen = {"rows": 20, "sha256": "1"}
  assert notes(path) == {"settings": SETTINGS, "model": None, "rows": seen}
  assert finish(path) == (20, 7)
  assert path.read_bytes() == WHOLE


@settings(max_examples=80, deadline=None)
@given(
  cut=st.integers(0, len(WHOLE)),
  tail=st.sampled_from([b"", b"\0" * 50, b"\0\n", b"\xff\xfe\n", b'{"row": 0}\n', b"{}\n"]),
  chunk=st.integers(1, 9),
)
def test_any_cut_is_continued_to_the_same_bytes(tmp_path_factory, cut, tail, chunk):
  path = tmp_path_factory.mktemp("cut") / "answers.jsonl"
  finish(path)
  path.write_bytes(WHOLE[:cut] + (tail if cut < len(WHOLE) and cut else b""))
  whole = WHOLE[:cut].count(b"\n")
  done, failed = finish(path, chunk)
  assert done == whole and failed == sum('"error"' in each for each in LINES[:whole])
  assert path.read_bytes() == WHOLE


def test_a_hole_that_a_power_cut_left_is_filled(path):
  finish(path)
  content = bytearray(WHOLE)
  hole = WHOLE.index(LINES[7].encode())
  content[hole + 5 : hole + 90] = b"\0" * 85
  path.write_bytes(content)
  assert finish(path)[0] == 7
  assert path.read_bytes() == WHOLE


def test_other_settings_are_refused_by_name(path):
  finish(path)
  changed = {"model": "b", "mode": "predict", "window": "8"}
  with pytest.raises(checks.InputError) as error:
    finish(path, settings=changed)
  assert str(error.value).splitlines()[1:] == [
    "  model: a before, b now",
    "  window: None before, 8 now",
  ]
  assert "choose another --output" in str(error.value)
  assert path.read_bytes() == WHOLE and notes(path)["settings"] == SETTINGS


def test_another_model_at_the_same_path_is_refused(path):
  with answers_file.opened(str(path), SETTINGS) as answers:
    answers.check_model("sha256:1")
    assert notes(path)["model"] == "sha256:1"  # before the first line is there
    answers.append(LINES[:7])
    answers.note(Seen(7, "0"), last=True)
  before = path.read_bytes()
  with answers_file.opened(str(path), SETTINGS) as answers:
    with pytest.raises(checks.InputError, match=r"fingerprint is sha256:1, .* sha256:2"):
      answers.check_model("sha256:2")
    answers.check_model("sha256:1")
  assert path.read_bytes() == before and notes(path)["rows"] == {"rows": 7, "sha256": "0"}
  path.write_bytes(before[:9])  # no line is left that the other model gave
  with answers_file.opened(str(path), SETTINGS) as answers:
    answers.check_model("sha256:2")
  assert notes(path)["model"] == "sha256:2"


def test_an_empty_file_takes_any_settings(path):
  finish(path)
  path.write_bytes(b"")
  finish(path, settings={"model": "b"})
  assert path.read_bytes() == WHOLE and notes(path)["settings"] == {"model": "b"}


def test_a_file_of_somebody_else_is_left_as_it_is(path):
  path.parent.mkdir()
  path.write_text("mine")
  with pytest.raises(checks.InputError, match=r"exists without answers\.jsonl\.run\.json"):
    finish(path)
  assert path.read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": {}}', '{"settings": 1}'])
def test_damaged_notes_are_refused(path, content):
  finish(path)
  (path.parent / f"{path.name}.run.json").write_text(content)
  with pytest.raises(checks.InputError, match="expected what a run wrote"):
    finish(path)
  assert path.read_bytes() == WHOLE


def test_notes_never_go_back(path):
  finish(path)
  path.write_bytes(WHOLE[:100])
  with contextlib.closing(AnswersFile(str(path), SETTINGS)) as answers:
    answers.note(Seen(3, "2"), last=True)
  assert notes(path)["rows"] == {"rows": 20, "sha256": "1"}


def test_one_process_at_a_time(path):
  program = f"""
import sys
from prompt_tuning.answers_file import AnswersFile
answers = AnswersFile({str(path)!r}, {SETTINGS!r})
print("open", flush=True)
sys.stdin.read()
"""
  with subprocess.Popen(
    [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as other:
    assert other.stdout.readline() == b"open\n"
    with pytest.raises(checks.InputError, match="is being written by another process"):
      finish(path)
    other.kill()
  assert finish(path) == (0, 0)


@pytest.mark.parametrize("name", ["gs://bucket/answers.jsonl", "s3://bucket/a"])
def test_buckets_are_refused(name):
  with pytest.raises(checks.InputError, match="expected a disk of this machine"):
    AnswersFile(name, SETTINGS)


def test_places_that_cannot_be_written(tmp_path):
  for name in (str(tmp_path), "/dev/null"):
    with pytest.raises(checks.InputError, match="is no ordinary file"):
      AnswersFile(name, SETTINGS)
  (tmp_path / "file").write_text("")
  with pytest.raises(checks.InputError, match="cannot be written"):
    AnswersFile(str(tmp_path / "file" / "answers.jsonl"), SETTINGS)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_is_a_sentence(path):
  with contextlib.closing(AnswersFile(str(path), SETTINGS)) as answers:
    kept = os.dup(answers._file.fileno())
    with open("/dev/full", "ab") as full:
      os.dup2(full.fileno(), answers._file.fileno())
      with pytest.raises(checks.InputError, match="No space left on device"):
        answers.append(LINES)
    os.dup2(kept, answers._file.fileno())
    os.close(kept)
  assert finish(path) == (0, 0)


def test_stdout_takes_lines_as_they_are(capfdbinary):
  with answers_file.opened("-", {}) as answers:
    answers.append(LINES)
    answers.note(Seen(20, "1"), last=True)
  assert capfdbinary.readouterr().out == WHOLE
