r"""Latency and throughput of `prompt-tuning serve` under a bounded load on this machine.

  pip install -e '.[demo,serve]'
  prompt-tuning train --gin_file=experiments/movie_reviews.gin \
    --gin.MODEL_DIR="'runs/movies'"
  python benchmarks/service.py --prompt runs/movies --out docs/service.json

Eight prompts take turns; 1, 8 and 64 clients each send the next
text of Rotten Tomatoes' test split when the last one is answered. Clients and service
share the processor.
"""

import argparse
import concurrent.futures
import http.client
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

import prompt_tuning as pt
from prompt_tuning.data import movie_reviews

LABELS = ["negative", "positive"]
TASKS = 8
REQUESTS = {1: 100, 8: 240, 64: 960}  # clients -> requests of all of them together


@contextmanager
def service(prompt: np.ndarray) -> Iterator[int]:
  """A service of its own process, on a free port of the loopback address."""
  noise = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as folder:
    arguments = [sys.executable, "-m", "prompt_tuning", "serve", "--port=0"]
    arguments += ["--gin_file=experiments/movie_reviews_predictor.gin"]
    for i in range(TASKS):
      path = f"{folder}/task_{i}.safetensors"
      changed = prompt + 0.01 * i * noise.standard_normal(prompt.shape)
      pt.save_prompt(path, changed, {"labels": LABELS})
      arguments += ["--prompt", f"task_{i}={path}"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    try:
      yield _port(process)
    finally:
      process.terminate()
      process.wait(60)


def _port(process: subprocess.Popen) -> int:
  assert process.stderr is not None
  for line in process.stderr:
    if "http://127.0.0.1:" in line:
      pool = concurrent.futures.ThreadPoolExecutor(1)
      pool.submit(process.stderr.read)  # or the service would wait for a full pipe
      return int(line.split("http://127.0.0.1:")[1].split()[0].strip("/,;."))
  raise SystemExit("the service did not start")


def client(port: int, number: int, count: int, texts: Sequence[str]) -> list[float]:
  """Seconds that each request of one client took."""
  connection, seconds = http.client.HTTPConnection("127.0.0.1", port), []
  for i in range(count):
    body = json.dumps(
      {
        "texts": [texts[(number * count + i) % len(texts)]],
        "prompt": f"task_{(number + i) % TASKS}",
      }
    )
    began = time.perf_counter()
    connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    seconds.append(time.perf_counter() - began)
    assert response.status == 200, content
  connection.close()
  return seconds


def load(port: int, clients: int, texts: Sequence[str]) -> dict:
  """Throughput and latencies of so many clients at once."""
  count = REQUESTS[clients] // clients
  with concurrent.futures.ThreadPoolExecutor(clients) as pool:
    began = time.perf_counter()
    found = [pool.submit(client, port, i, count, texts) for i in range(clients)]
    seconds = sorted(s for each in found for s in each.result())
    wall = time.perf_counter() - began
  return {
    "requests_per_second": len(seconds) / wall,
    "p50_ms": 1000 * seconds[len(seconds) // 2],
    "p99_ms": 1000 * seconds[int(len(seconds) * 0.99)],
  }


def spread(rounds: Sequence[dict]) -> dict:
  """{figure: median, least and most of the rounds}."""
  return {
    name: {
      "median": statistics.median(each[name] for each in rounds),
      "least": min(each[name] for each in rounds),
      "most": max(each[name] for each in rounds),
    }
    for name in rounds[0]
  }


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--prompt", required=True)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--rounds", type=int, default=5)
  given = parser.parse_args()
  texts = [text for text, _ in movie_reviews.splits()["test"]]
  rounds: dict[int, list[dict]] = {clients: [] for clients in REQUESTS}
  with service(np.asarray(pt.load_prompt(given.prompt))) as port:
    for _ in range(given.rounds + 1):  # the first warms up
      for clients, found in rounds.items():
        found.append(load(port, clients, texts))
  results = {
    "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
    "versions": {
      name: importlib.metadata.version(name) for name in ("jax", "fastapi", "uvicorn")
    },
    "rounds": given.rounds,
    "clients": {clients: spread(found[1:]) for clients, found in rounds.items()},
  }
  given.out.write_text(json.dumps(results, indent=2) + "\n")
  print(json.dumps(results, indent=2))


if __name__ == "__main__":
  main()
