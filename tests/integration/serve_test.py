"""The server as a process: its command line, its answers, how it ends and comes back."""

import concurrent.futures
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import requests
from conftest import CONFIG
from serve_process import REPO, serving

from prompt_tuning import config
from prompt_tuning.checkpoints import prompt_files

PREDICTOR_GIN = f"""
include 'prompt_tuning/configs/models/t5_1_1_reviews.gin'
include 'prompt_tuning/configs/runs/predictor.gin'
NUM_EMBEDDINGS = {CONFIG.vocab_size}
EMBED_DIM = {CONFIG.d_model}
NUM_HEADS = {CONFIG.num_heads}
HEAD_DIM = {CONFIG.d_kv}
MLP_DIM = {CONFIG.d_ff}
NUM_ENCODER_LAYERS = {CONFIG.num_encoder_layers}
NUM_DECODER_LAYERS = {CONFIG.num_decoder_layers}
MAX_INPUT_LEN = 16
MAX_OUTPUT_LEN = 4
MAX_PROMPT_LEN = 4
BATCH_SIZE = 4
CAPACITY = 3
"""
TEXTS = ["a fine film", "dull and long", "so so"]


@pytest.fixture(scope="module")
def prompt(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("prompts") / "movies.safetensors"
  array = np.random.default_rng(0).normal(size=(3, CONFIG.d_model))
  prompt_files.save_prompt(str(path), array.astype(np.float32))
  return path


@pytest.fixture(scope="module")
def model(base) -> list[str]:
  """Flags of the tiny model."""
  (base / "predictor.gin").write_text(PREDICTOR_GIN)
  return [
    f"--gin_search_paths={base}",
    "--gin_file=predictor.gin",
    f"--gin.CHECKPOINT_PATH={str(base)!r}",
  ]


@pytest.fixture(scope="module")
def arguments(model, prompt) -> list[str]:
  """Flags of a server that chooses between two labels, on any free port."""
  labels = ["--labels", "movies=negative,positive"]
  return [*model, "--prompt", f"movies={prompt}", *labels, "--port=0"]


@pytest.fixture(scope="module")
def expected(base, model, prompt):
  """What the predictor of the same settings answers by itself."""
  settings, _ = config.load(
    "predictor.predictor",
    ["predictor.gin"],
    [f"CHECKPOINT_PATH = {str(base)!r}", f"PROMPT_FILES = {{'movies': {str(prompt)!r}}}"],
    [str(base)],
  )
  alone = settings.load()
  return alone.rank(TEXTS, ["negative", "positive"], "movies")


def check(response: requests.Response, expected) -> None:
  assert response.status_code == 200, response.text
  for got, own in zip(response.json()["answers"], expected, strict=True):
    assert got["text"] == own.text
    scores = [row["score"] for row in got["scores"]]
    np.testing.assert_allclose(scores, own.scores, atol=1e-5)


@pytest.mark.slow
def test_sigterm_under_load_loses_no_answer(arguments, expected):
  over = threading.Event()

  def ask(server, _):
    """Statuses of one client; a connection that is refused was not accepted."""
    seen = []
    while not over.is_set():
      try:
        found = server.post("predict", texts=TEXTS, prompt="movies")
      except requests.ConnectionError:
        assert server.popen.poll() is not None or has_closed.is_set()
        break
      seen.append(found.status_code)
      if found.status_code == 200:
        check(found, expected)
      else:
        assert found.status_code == 503 and found.headers["Retry-After"]
        assert found.json()["error"]["code"] == "stopping"
    return seen

  has_closed = threading.Event()
  with serving(*arguments) as server:
    check(server.post("predict", texts=TEXTS, prompt="movies"), expected)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      clients = [pool.submit(ask, server, i) for i in range(8)]
      threading.Event().wait(1.0)
      has_closed.set()  # from here on the socket may close
      status = server.end(signal.SIGTERM)
      over.set()
      seen = [code for client in clients for code in client.result()]
  assert status == 0
  assert seen.count(200) > 20 and 503 in seen
  output = "".join(server.lines)
  assert "Traceback" not in output and "fine film" not in output


@pytest.mark.slow
def test_after_kill_9_the_same_command_serves_again_on_the_same_port(arguments, expected):
  with serving(*arguments) as server:
    port = server.port
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
  again = [flag for flag in arguments if flag != "--port=0"]
  with serving(*again, f"--port={port}") as server:
    assert server.port == port
    check(server.post("predict", texts=TEXTS, prompt="movies"), expected)
    assert server.end(signal.SIGINT) == 0


@pytest.mark.slow
def test_a_server_that_is_told_to_end_while_it_loads_ends(arguments):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  flags = [flag for flag in arguments if flag != "--port=0"]
  with serving(*flags, f"--port={port}", is_ready=False) as server:
    while server.popen.poll() is None:
      try:
        server.url = f"http://127.0.0.1:{port}"
        assert server.get("/healthz").status_code == 200
        break
      except requests.ConnectionError:
        threading.Event().wait(0.05)
    assert server.end(signal.SIGTERM) == 0


# The command line.


def failed(run, *arguments: str) -> str:
  """The one line on stderr of a command that could not be used."""
  found = run(["serve", *arguments])
  assert found.status == 2 and found.out == ""
  assert found.err.startswith("prompt-tuning: ") and len(found.err.splitlines()) == 1
  return found.err


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--prompt=movies"], "expected NAME=PATH"),
    (["--prompt==x"], "expected NAME=PATH"),
    (["--prompt=a/b=x"], "cannot stand in an address"),
    (["--prompt=a=/none/at/all"], "where nothing is"),
    (["--labels=movies"], "name no prompt"),
    (["--labels=other=a,b"], "unknown prompt in --labels 'other'"),
    (["--host=0.0.0.0"], "--token-file"),
    (["--token-file=/none/at/all"], "cannot be read"),
    (["--prompt-dir=/none/at/all"], "is no folder"),
    (["--port=x"], "--port"),
    (["--port=99999"], "cannot be listened on"),
    (["--max-queue=0"], "--max-queue is 0"),
    (["--max-queue=5"], "--max-texts is 128"),
    (["--max-wait-ms=-1"], "--max-wait-ms"),
    (["--max-wait-ms=nan"], "--max-wait-ms"),
    (["--timeout-ms=999999999"], "--max-timeout-ms"),
    (["--grace-s=-1"], "--grace-s"),
    (["--gin.BATCH_SIZE=0"], "batch_size"),
    (["--gin.NO_SUCH=1"], "NO_SUCH"),
    (["--no-such-flag"], "--no-such-flag"),
  ],
)
def test_wrong_usage_is_one_line_before_anything_is_loaded(run, model, flags, message):
  assert message in failed(run, *model, *flags)


def test_without_a_gin_file_the_help_is_pointed_to(run):
  assert "serve --help" in failed(run)


def test_a_port_that_is_taken_is_said(run, model):
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    assert f"127.0.0.1:{port} cannot be listened on" in failed(
      run, *model, f"--port={port}"
    )


def test_a_prompt_that_does_not_fit_ends_the_server(run, model, tmp_path):
  path = tmp_path / "wide.safetensors"
  prompt_files.save_prompt(str(path), np.ones((2, 24), np.float32))
  found = run(["serve", *model, f"--prompt=wide={path}", "--port=0"])
  assert found.status == 2 and found.err.startswith("prompt-tuning: the prompt ")
  assert "d_model: 24, here 16" in found.err and "Traceback" not in found.err


def test_a_dry_run_shows_the_config_and_reads_nothing(run, model):
  found = run(["serve", *model, "--prompt=movies=none.safetensors", "--dry_run"])
  assert found.status == 0, found.err
  assert "MAX_INPUT_LEN = 16" in found.out and "Total number of parameters" in found.out


@pytest.mark.slow
def test_without_the_packages_of_the_extra_the_command_says_what_to_install(model):
  program = f"""
import sys
sys.modules["uvicorn"] = None
from prompt_tuning.cli.main import main
sys.exit(main(["serve", *{model!r}]))
"""
  found = subprocess.run(
    [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=False
  )
  assert found.returncode == 2
  assert "pip install 'prompt-tuning[serve]'" in found.stderr
  assert len(found.stderr.splitlines()) == 1
