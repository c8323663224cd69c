r"""Ten thousand malformed requests to `prompt-tuning serve`, while others ask it properly.

  pip install -e '.[demo,dev,serve]'
  prompt-tuning train --gin_file=experiments/movie_reviews.gin \
    --gin.MODEL_DIR="'runs/movies'"
  python benchmarks/faults.py --prompt runs/movies --out docs/faults.json

Half are proper requests with bytes changed, cut, doubled or of another kind, some of them
from clients that leave before the answer; the other half are drawn by schemathesis from the
service's OpenAPI document. Meanwhile a witness asks eight prompts in turn, and every answer
must be the one that it got before. The service may refuse, with a 4xx; it may not fail, say
anything wrong to the witness, or die.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading

import numpy as np
import requests
import service

import prompt_tuning as pt

TEXTS = ["a fine film", "dull and far too long", "what a joy this is"]
BODIES = {
  "/v1/predict": {"texts": TEXTS[:2], "prompt": ["task_1", "task_2"], "timeout_ms": 9000},
  "/v1/rank": {"texts": TEXTS[:1], "prompt": "task_3", "labels": ["good", "bad"]},
  "/v1/score": {"texts": TEXTS[:1], "prompt": None, "targets": ["positive"]},
  "/v1/prompts/added": {"path": "task_1.safetensors"},
}
STRANGE = [
  *(b"\x00", b"\xff\xfe", b"NaN", b"1e999", b"-1", b"null", b"true", b'"', b"[" * 5000),
  *(b"\\ud800", b"{" * 999, b"9" * 5000, b"\r\n\r\n", b"../../etc/passwd", b"%00", b"{}"),
  *("ü\u202e\U0001f600".encode(), b"x" * 30_000, b"chunked", b": ", b"a b " * 3000),
]
_PATIENCE = 1.0  # seconds
_CLIENTS = 16
CHECKS = """
[checks]
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]
"""


def proper(rng: random.Random) -> bytes:
  """A request as a client would send it."""
  path, body = rng.choice(list(BODIES.items()))
  method = "PUT" if "prompts" in path else "POST"
  content = json.dumps(body).encode()
  head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
  head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
  return head.encode() + content


def changed(request: bytes, rng: random.Random) -> bytes:
  """The request with one to three faults."""
  for _ in range(rng.randint(1, 3)):
    at = rng.randrange(len(request) + 1)
    end = min(len(request), at + rng.choice([0, 1, 2, 8, 64]))
    kind = rng.randrange(4)
    if kind == 0:
      request = request[:at] + rng.choice(STRANGE) + request[end:]
    elif kind == 1:
      request = request[:at] + rng.randbytes(rng.randint(1, 9)) + request[end:]
    elif kind == 2:
      request = request[:at] + request[at:end] * 3 + request[end:]
    else:
      request = request[:at] + request[end:]
  return request


def status_of(port: int, request: bytes, leaves: bool) -> str:
  """The status that a request gets; "left" or "closed" where there is none."""
  with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
    try:
      connection.sendall(request)
      if leaves:
        return "left"
      connection.settimeout(_PATIENCE)  # the service may wait for the rest of a body
      found = connection.recv(64)
    except TimeoutError:
      return "waits for more"
    except ConnectionError as error:
      return type(error).__name__
  match = re.match(rb"HTTP/1\.1 (\d+)", found)
  return match[1].decode() if match else "closed"


class Witness:
  """Asks properly all the time and compares with the first answers."""

  def __init__(self, port: int):
    self._url = f"http://127.0.0.1:{port}/v1/rank"
    self._right = [self._ask(i) for i in range(service.TASKS + 1)]
    self.asked = self.wrong = self.removed = 0
    self._stop = threading.Event()
    self._work_done = concurrent.futures.ThreadPoolExecutor(1).submit(self._work)

  def _ask(self, number: int) -> list[list[float]] | None:
    """Scores of the texts; None where the drawn requests have removed the prompt."""
    # The last is the untuned model, which no drawn request removes.
    prompt = None if number == service.TASKS else f"task_{number}"
    body = {"texts": TEXTS, "labels": ["negative", "positive"], "prompt": prompt}
    found = requests.post(self._url, json=body, timeout=60)
    gone = "unknown prompt" in found.text or "was removed" in found.text
    if found.status_code == 422 and gone:
      return None
    found.raise_for_status()
    answers = found.json()["answers"]
    return [[each["score"] for each in answer["scores"]] for answer in answers]

  def _work(self) -> None:
    while not self._stop.is_set():
      number = self.asked % len(self._right)
      found = self._ask(number)
      self.asked += 1
      if found is None:
        self.removed += 1
      else:
        self.wrong += not np.allclose(found, self._right[number], rtol=1e-4, atol=1e-4)

  def stop(self) -> None:
    """Ends; raises what went wrong."""
    self._stop.set()
    self._work_done.result()


def drawn(port: int, examples: int) -> dict:
  """What schemathesis finds in requests that it draws from the OpenAPI document."""
  with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "schemathesis.toml").write_text(CHECKS)
    found = subprocess.run(
      [
        str(pathlib.Path(sys.executable).with_name("schemathesis")),
        "--config-file=schemathesis.toml",
        "run",
        f"http://127.0.0.1:{port}/openapi.json",
        f"--max-examples={examples}",
        "--seed=1",
        "--no-color",
        "--suppress-health-check=all",
        "--continue-on-failure",
      ],
      cwd=folder,
      capture_output=True,
      text=True,
      check=False,
    )
  print(found.stdout[-3000:], file=sys.stderr)
  count = re.search(r"([\d,]+) generated", found.stdout)
  return {
    "requests": int(count[1].replace(",", "")) if count else 0,
    "exit status": found.returncode,
  }


def main() -> None:
  """Sends, compares and writes."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--prompt", required=True)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--changed", type=int, default=5000)
  parser.add_argument("--examples", type=int, default=400, help="for each operation")
  given = parser.parse_args()
  rng, statuses = random.Random(0), collections.Counter[str]()
  with service.service(np.asarray(pt.load_prompt(given.prompt))) as port:
    witness = Witness(port)
    broken = [changed(proper(rng), rng) for _ in range(given.changed)]
    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
      sent = [
        pool.submit(status_of, port, request, number % 10 == 0)
        for number, request in enumerate(broken)
      ]
      statuses.update(each.result() for each in sent)
    generated = drawn(port, given.examples)
    witness.stop()
    alive = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code
  results = {
    "changed": {"requests": given.changed, "statuses": dict(sorted(statuses.items()))},
    "drawn": generated,
    "witness": {
      "requests": witness.asked,
      "wrong answers": witness.wrong,
      "asked of a prompt that was removed": witness.removed,
    },
    "ready afterwards": alive,
  }
  given.out.write_text(json.dumps(results, indent=2) + "\n")
  print(json.dumps(results, indent=2))


if __name__ == "__main__":
  main()
