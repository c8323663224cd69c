"""The server as a process: its command line, its answers, how it ends and comes back."""

import concurrent.futures
import http.client
import json
import logging
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests
from serve_process import REPO, SECONDS, serving
from tiny_model import CONFIG

from prompt_tuning import checks, config
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.serving import server as servers

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
  check_answers(response.json()["answers"], expected)


def check_answers(answers, expected) -> None:
  for got, own in zip(answers, expected, strict=True):
    assert got["text"] == own.text
    scores = [row["score"] for row in got["scores"]]
    np.testing.assert_allclose(scores, own.scores, atol=1e-5)


REPEATS = 32  # of the texts: eight such requests wait longer than a server lingers


class Asking:
  """A client that asks on one connection until it is told that this one ends."""

  def __init__(self, port: int, expected):
    self._address, self._expected = ("127.0.0.1", port), list(expected) * REPEATS
    self.seen: list[int] = []

  def run(self) -> None:
    """Returns when no connection is taken any more; any other loss raises."""
    connection = http.client.HTTPConnection(*self._address, timeout=SECONDS)
    while not self._read(self._ask(connection)):
      pass
    while True:
      fresh = http.client.HTTPConnection(*self._address, timeout=SECONDS)
      try:
        found = self._ask(fresh)
      except ConnectionError:  # refused, or closed before the server looked at it
        return
      self._read(found)

  def _ask(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    body = json.dumps({"texts": TEXTS * REPEATS, "prompt": "movies"})
    connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
    return connection.getresponse()

  def _read(self, found: http.client.HTTPResponse) -> bool:
    """Whether this was the last answer of the connection."""
    content = json.loads(found.read())
    if found.status == 200:
      check_answers(content["answers"], self._expected)
    else:
      assert found.status == 503 and found.headers["Retry-After"]
      assert content["error"]["code"] == "stopping"
    self.seen.append(found.status)
    return found.will_close


@pytest.mark.slow
def test_sigterm_under_load_loses_no_answer(arguments, expected):
  with serving(*arguments) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
    clients = [Asking(server.port, expected) for _ in range(8)]
    runs = [pool.submit(client.run) for client in clients]
    while not all(len(client.seen) >= 3 for client in clients):
      assert not any(run.done() for run in runs), [run.exception(0) for run in runs]
      time.sleep(0.01)
    before = [len(client.seen) for client in clients]
    status = server.end(signal.SIGTERM)
    for run in runs:
      run.result()
  assert status == 0
  following = [client.seen[n] for client, n in zip(clients, before, strict=True)]
  # Most were waiting when the signal came; a client between two questions may get 503.
  assert following.count(200) >= 4
  assert 503 in [status for client in clients for status in client.seen]
  output = "".join(server.lines)
  assert "Traceback" not in output and "fine film" not in output


ENDLESS = """
import threading
from prompt_tuning.serving import limits, server, service
listener = server.bound("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
loads_for_ever = service.Service(threading.Event().wait, 1, limits.Limits())
server.run(loads_for_ever, listener, None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 2])  # while it lingers, while it waits for the model
def test_a_second_signal_ends_it_at_once(pause):
  arguments = [sys.executable, "-c", ENDLESS]
  with subprocess.Popen(arguments, cwd=REPO, stdout=subprocess.PIPE, text=True) as popen:
    try:
      url = f"http://127.0.0.1:{popen.stdout.readline().strip()}"
      assert requests.get(f"{url}/healthz", timeout=SECONDS).status_code == 200
      popen.send_signal(signal.SIGTERM)
      time.sleep(pause)
      start = time.monotonic()
      popen.send_signal(signal.SIGINT)
      assert popen.wait(SECONDS) == 0
      assert time.monotonic() - start < 2
    finally:
      popen.kill()


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


def test_two_servers_do_not_share_a_port():
  refused = pytest.raises(checks.InputError, match="cannot be listened on")
  with servers.bound("127.0.0.1", 0) as first, refused:
    servers.bound("127.0.0.1", first.getsockname()[1])


def test_a_prompt_that_does_not_fit_ends_the_server(run, model, tmp_path):
  path = tmp_path / "wide.safetensors"
  prompt_files.save_prompt(str(path), np.ones((2, 24), np.float32))
  logger = logging.getLogger("prompt_tuning.serving")
  before = list(logger.handlers), logger.propagate, logger.level
  found = run(["serve", *model, f"--prompt=wide={path}", "--port=0"])
  assert before == (logger.handlers, logger.propagate, logger.level)
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
