"""Several real processes: what one learns, saved once, whoever reads which rows."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import processes
import pytest
from etils import epath
from tiny_model import CONFIG

from prompt_tuning import formats, trees
from prompt_tuning.checkpoints import huggingface
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.cli.main import main
from prompt_tuning.models.t5 import T5

# One process that runs here is compared with others, which `processes` hurries as well.
pytestmark = pytest.mark.usefixtures("runs_compiled_in_a_hurry")
MACROS = {"BATCH_SIZE": 8}


def rows(folder: pathlib.Path, name: str = "metrics.jsonl") -> list[dict]:
  return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def prompt(folder: pathlib.Path, step: int) -> np.ndarray:
  name = f"numpy_checkpoints/checkpoint_{step}/encoder.prompt.prompt.prompt"
  return formats.load_prompt(str(folder / name))


@dataclasses.dataclass(frozen=True)
class Job:
  """A finished run: its folder, and what each process said."""

  folder: pathlib.Path
  said: list[str]
  logged: list[str]


@pytest.fixture(scope="module")
def job(command, tmp_path_factory):
  """Trains with some processes: (count, folder or None, **macros) -> Job."""

  def train(count: int, folder: pathlib.Path | None = None, **macros: object) -> Job:
    folder = folder or tmp_path_factory.mktemp(f"of_{count}") / "run"
    logs = tmp_path_factory.mktemp("logs")
    run = command("train", folder, **{**MACROS, **macros})
    started = processes.start(logs, count, processes.command_line(run, count))
    said = processes.finish(started, logs)
    return Job(folder, said, [(logs / f"err_{i}").read_text() for i in range(count)])

  return train


@pytest.fixture(scope="module")
def alone(job):
  """What one process with all devices does."""
  return job(1)


def check_same(found: pathlib.Path, alone: pathlib.Path, last: int = 15) -> None:
  """That a run up to a last step learned what the one of one process did until then."""
  ours = [(row["step"], row["loss"]) for row in rows(found)]
  theirs = [(row["step"], row["loss"]) for row in rows(alone) if row["step"] <= last]
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  assert [step for step, _ in ours] == list(range(4, last + 1))
  for step in range(6, last + 1, 3):
    np.testing.assert_allclose(
      prompt(found, step), prompt(alone, step), rtol=1e-5, atol=1e-5
    )
  name = "inference_eval/tiny_words-metrics.jsonl"
  expected = [row for row in rows(alone, name) if row["step"] <= last]
  steps = [row["step"] for row in expected]  # who stops evaluates there too
  assert [row for row in rows(found, name) if row["step"] in steps] == expected


@pytest.mark.slow
def test_several_processes_learn_what_one_learns_and_report_once(job, alone):
  found = job(4)
  check_same(found.folder, alone.folder)
  assert {p.name for p in found.folder.iterdir()} == {
    p.name for p in alone.folder.iterdir()
  }
  first, *others = found.said
  assert first.replace(str(found.folder), str(alone.folder)) == alone.said[0]
  assert set(others) == {""}
  assert "step 9:" in found.logged[0]
  assert not any("step 9:" in text for text in found.logged[1:])
  for logged in found.logged:
    assert "Traceback" not in logged


@pytest.fixture(scope="module")
def split(job):
  """The first half, with the model's parameters split over two processes."""
  return job(2, TRAIN_STEPS_RELATIVE=6, NUM_PARTITIONS=2, PARAMETER_PARTITIONING_DIMS=2)


@pytest.mark.slow
def test_a_model_split_over_processes_learns_the_same(split, alone):
  check_same(split.folder, alone.folder, 9)


@pytest.mark.slow
def test_a_run_is_continued_by_another_number_of_processes_on_another_mesh(
  job, alone, split, tmp_path
):
  folder = shutil.copytree(split.folder, tmp_path / "run")
  by_one = job(1, folder, TRAIN_STEPS_RELATIVE=9, NUM_PARTITIONS=2)
  # Each layer's heads are divided over both processes.
  model_over_both = job(2, folder, ICI_MESH_SHAPE=(1, 2, 1), DCN_MESH_SHAPE=(1, 1, 2))
  assert "at step 9" in by_one.logged[0] and "at step 12" in model_over_both.logged[0]
  check_same(folder, alone.folder)


def scored(path: pathlib.Path) -> tuple[list[dict], list[float]]:
  """The lines of an inference without their scores, and the scores."""
  found = rows(path.parent, path.name)
  return found, [row.pop("aux")["scores"] for row in found]


def files(folder: pathlib.Path) -> list[str]:
  """What is in a folder; TensorBoard's names go by the clock."""
  names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
  return sorted(re.sub(r"tfevents.*", "tfevents", name) for name in names)


@pytest.mark.slow
def test_two_processes_evaluate_and_infer_what_one_does_and_write_it_once(
  command, prompts, tmp_path, capfd
):
  size = "--gin.utils.DatasetConfig.batch_size=8"
  scores = "--gin.infer.infer.mode='predict_with_aux'"
  for name, flags in (("eval", [size]), ("infer", [size, scores])):
    # A folder for each process, so that it can be seen who writes.
    alone, first, second = folders = [tmp_path / f"{name}_{i}" for i in range(3)]
    runs = [command(name, x, *flags, PROMPT_FILE=prompts["prompt_13"]) for x in folders]
    assert main(runs[0]) == 0
    expected = capfd.readouterr().out.replace(str(alone), str(first))

    def arguments(address, index, runs=runs):
      return processes.command_line(runs[1 + index], 2)(address, index)

    logs = tmp_path / f"logs_{name}"
    said = processes.finish(processes.start(logs, 2, arguments), logs)
    assert said == [expected, ""]
    assert files(first) == files(alone) and files(second) == []
  for name in ("results.json", "inference_eval/tiny_words-metrics.jsonl"):
    ours, theirs = tmp_path / "eval_1" / name, tmp_path / "eval_0" / name
    assert ours.read_text() == theirs.read_text()
  name = "tiny_words-predict_with_aux.jsonl-00000-of-00001"
  ours, theirs = scored(tmp_path / "infer_1" / name), scored(tmp_path / "infer_0" / name)
  assert ours[0] == theirs[0] and len(ours[0]) > 8
  np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)


def as_leaves(params: dict[str, jax.Array]) -> dict[str, Inline]:
  return {path: Inline(np.asarray(x)) for path, x in params.items()}


_SHARE = """
import os, sys

import jax

index, address = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(address, 2, index)
from prompt_tuning import checks, distributed, files

distributed.tell("told once")
for place in (".", f"of_{index}"):
  os.makedirs(place, exist_ok=True)
  os.chdir(place)
  folder = files.output_folder("run", "MODEL_DIR")
  if place != ".":
    (folder / ".shared").write_text("of an earlier job")
  try:
    distributed.share(folder, "MODEL_DIR")
    print("found: one folder")
  except checks.InputError as error:
    print("found:", error)
"""


@pytest.mark.slow
def test_a_folder_that_is_not_one_for_all_processes_is_refused_by_all(tmp_path):
  started = processes.start(
    tmp_path, 2, lambda address, index: ["-c", _SHARE, str(index), address]
  )
  for said in processes.finish(started, tmp_path):
    found = [x for x in said.splitlines() if x.startswith("found:")]
    assert found == [
      "found: one folder",
      "found: MODEL_DIR 'run' is not one folder for all processes, expected a file system "
      "or bucket that all of them see; choose another",
    ]
  assert files(tmp_path / "run") == files(tmp_path / "of_0" / "run") == []
  told = [(tmp_path / f"err_{i}").read_text().count("told once") for i in range(2)]
  assert told == [1, 0]


_RESTORE = """
import sys

import jax

count, index, address, path = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
if count > 1:
  jax.distributed.initialize(address, count, index)
from prompt_tuning import assembly, axis_rules
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.partitioning import Partitioner
from processes_test import LARGER


def bytes_read() -> int:
  text = open("/proc/self/io").read()
  return int(text.split("rchar:")[1].split()[0])


layout = Partitioner(
  num_partitions=2,
  logical_axis_rules=axis_rules.standard_logical_axis_rules(1, 2),
).layout(8)
for _ in range(2):  # the first reads modules and compiled programs too
  before = bytes_read()
  base = assembly.load_base(LARGER, RestoreCheckpointConfig(path=path), layout=layout)
  found = bytes_read() - before
print("bytes", found, base.fingerprint)
"""
LARGER = dataclasses.replace(CONFIG, d_model=256, num_heads=4, d_kv=64, d_ff=1024)


@pytest.mark.slow
def test_each_process_reads_only_its_part_of_the_checkpoint(tmp_path):
  model = trees.values(T5.random(LARGER, jax.random.key(0)))
  fields = dataclasses.asdict(LARGER)
  huggingface.save(epath.Path(tmp_path / "base"), as_leaves(model), fields)
  size = sum(x.nbytes for x in model.values())
  fingerprints = set()
  for count in (1, 4):
    logs = tmp_path / f"logs_{count}"

    def arguments(address, index, count=count):
      return ["-c", _RESTORE, str(count), str(index), address, str(tmp_path / "base")]

    for said in processes.finish(processes.start(logs, count, arguments), logs):
      (line,) = [line for line in said.splitlines() if line.startswith("bytes")]
      _, found, fingerprint = line.split()
      fingerprints.add(fingerprint)
      assert int(found) == pytest.approx(size / count, rel=0.15), (count, found, size)
  assert len(fingerprints) == 1
