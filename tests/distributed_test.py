"""How processes find each other, as far as one process can see."""

import socket
import subprocess
import sys

import pytest

from prompt_tuning import checks, distributed


@pytest.mark.parametrize(
  ("environment", "launcher"),
  [
    ({}, None),
    ({"SLURM_STEP_NUM_TASKS": "1"}, None),
    ({"SLURM_STEP_NUM_TASKS": "4"}, "Slurm"),
    ({"SLURM_NTASKS": "4"}, None),  # an allocation, in which one program was started
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
    ({"OMPI_COMM_WORLD_SIZE": "two"}, None),
    ({"TPU_WORKER_HOSTNAMES": "a"}, None),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, "Cloud TPU"),
  ],
)
def test_a_launcher_of_several_processes_is_noticed(environment, launcher):
  assert distributed.launched(environment) == launcher


def test_a_process_alone_writes_and_has_no_name():
  assert distributed.is_first()
  assert distributed.name() == ""
  distributed.meet("nobody else is here")


def test_a_count_without_an_index_is_refused():
  with pytest.raises(checks.InputError, match="expected both"):
    distributed.start("localhost:1", 2, None)


def test_an_address_without_a_port_is_refused():
  with pytest.raises(checks.InputError, match="is 'host0', expected host:port") as caught:
    distributed.start("host0", 2, 0)
  assert "host0:8476" in str(caught.value)


def test_processes_that_do_not_come_are_waited_for_and_named(tmp_path):
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  flags = ["--process_count=2", "--process_index=0", "--initialization_timeout=1"]
  command = ["-m", "prompt_tuning", "train", "--gin_file=experiments/movie_reviews.gin"]
  found = subprocess.run(
    [
      *(sys.executable, *command, f"--gin.MODEL_DIR='{tmp_path}'", *flags),
      f"--coordinator_address=localhost:{port}",
    ],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert found.returncode != 0 and found.stdout == ""
  told = f"process 0 of 2 meets the others at localhost:{port}, for up to 1 s"
  assert told in found.stderr
