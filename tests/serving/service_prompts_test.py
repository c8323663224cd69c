"""Prompts that come and go while the service answers."""

import concurrent.futures
import json
import os
import threading

import numpy as np
import pytest
import safetensors.numpy
from live import WIDTH, ready, running, tiny_predictor

from prompt_tuning.checkpoints import prompt_files


def drawn(seed: int, length: int = 4, width: int = WIDTH) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=(length, width)).astype(np.float32)


def stored(array: np.ndarray, **metadata) -> bytes:
  text = {key: json.dumps(value) for key, value in metadata.items()}
  return safetensors.numpy.save({"prompt": array}, text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  found = tmp_path_factory.mktemp("given") / "prompts"
  (found / "deep").mkdir(parents=True)
  prompt_files.save_prompt(str(found / "deep" / "one.safetensors"), drawn(5))
  (found.parent / "secret.safetensors").write_bytes(stored(drawn(6)))
  os.symlink(found.parent / "secret.safetensors", found / "out.safetensors")
  os.symlink(found / "deep" / "one.safetensors", found / "in.safetensors")
  os.symlink(found.parent, found / "up")
  os.mkfifo(found / "pipe")
  return found


@pytest.fixture(scope="module")
def client(folder):
  with running(tiny_predictor, prompt_dir=folder, body_bytes=100_000) as found:
    yield ready(found)


def put(client, name, content, kind="application/octet-stream", query=""):
  return client.call(
    "PUT", f"/v1/prompts/{name}{query}", data=content, headers={"Content-Type": kind}
  )


def put_file(client, path, name="filed"):
  return put(client, name, json.dumps({"path": path}), "application/json")


def names(client):
  return [row["name"] for row in client.call("GET", "/v1/prompts").json()["prompts"]]


def test_a_prompt_is_added_asked_and_removed(client):
  array = drawn(1)
  found = put(client, "new.one", stored(array, task="t", step=3), query="?label=a&label=b")
  assert found.status_code == 200, found.text
  assert found.json() == {
    "name": "new.one",
    "length": 4,
    "labels": ["a", "b"],
    "metadata": {"task": "t", "step": 3},
  }
  alone = tiny_predictor()
  alone.add("new.one", array, ["a", "b"])
  (answer,) = client.post("predict", texts=["dull"], prompt="new.one").json()["answers"]
  (own,) = alone.predict(["dull"], "new.one")
  assert answer["text"] == own.text and answer["score"] == pytest.approx(
    own.score, abs=1e-5
  )
  assert client.call("DELETE", "/v1/prompts/new.one").status_code == 204
  again = client.call("DELETE", "/v1/prompts/new.one")
  assert again.status_code == 404 and again.json()["error"]["code"] == "not_found"
  gone = client.post("predict", texts=["dull"], prompt="new.one")
  assert gone.status_code == 422 and "new.one" in gone.json()["error"]["message"]


def test_a_file_of_the_folder_is_added_also_through_a_link_that_stays(client):
  for path in ("deep/one.safetensors", "in.safetensors", "deep/../deep/one.safetensors"):
    assert put_file(client, path).status_code == 200
    assert client.call("DELETE", "/v1/prompts/filed").status_code == 204


@pytest.mark.parametrize(
  "path",
  [
    "../secret.safetensors",
    "deep/../../secret.safetensors",
    "out.safetensors",
    "up/secret.safetensors",
    "/etc/passwd",
    "~/x",
    "package://assets/t5_1_1_reviews",
    "gs://bucket/prompt",
    "deep",
    ".",
    "pipe",
    "none.safetensors",
    "x\x00y",
    "a" * 1000,
  ],
)
def test_nothing_outside_of_the_folder_is_opened(client, folder, path):
  found = put_file(client, path)
  assert found.status_code == 422, found.text
  assert "is no file in the folder of prompts" in found.json()["error"]["message"]
  assert str(folder.parent) not in found.text and "filed" not in names(client)


def test_an_absolute_path_into_the_folder_is_no_name_in_it(client, folder):
  assert put_file(client, str(folder / "in.safetensors")).status_code == 422


def test_without_a_folder_no_path_is_taken(predictor):
  with running(lambda: predictor) as client:
    found = put_file(ready(client), "x.safetensors")
    assert found.status_code == 422 and "--prompt-dir" in found.json()["error"]["message"]


BAD = {
  "another width": stored(drawn(0, width=24)),
  "too long": stored(drawn(0, length=7)),
  "another model": stored(drawn(0), base_fingerprint="0" * 64, base_model="/root/other"),
  "labels of no kind": stored(drawn(0), labels=5),
  "labels of numbers": stored(drawn(0), labels=[1, 2]),
  "no labels": stored(drawn(0), labels=[]),
  "labels of a map": stored(drawn(0), labels={"a": 1}),
  "half a character": stored(drawn(0), labels=["\ud800", "a"]),
  "a null character": stored(drawn(0), labels=["a\0", "b"]),
  "more labels than a request": stored(drawn(0), labels=[f"w{i}" for i in range(9000)]),
  "a label of spaces": stored(drawn(0), labels=["a" + " " * 5000, "b"]),
  "not finite": stored(np.full((2, WIDTH), np.nan, np.float32)),
  "integers": safetensors.numpy.save({"prompt": np.zeros((2, WIDTH), np.int32)}),
  "of three axes": stored(np.zeros((2, 3, WIDTH), np.float32)),
  "two tensors": safetensors.numpy.save({"a": drawn(0), "b": drawn(1)}),
  "cut": stored(drawn(0))[:-5],
  "a promise of more": (1 << 40).to_bytes(8, "little") + b"{}",
  "no header": b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"{" * 16,
  "nothing": b"",
  "text": b"hello there, this is no prompt",
  "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
  "pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system.",
}


def test_a_misspelt_field_of_the_address_is_refused(client):
  query = "/v1/prompts/new?labels=a&labels=b"
  kind = {"Content-Type": "application/octet-stream"}
  found = client.call("PUT", query, data=stored(drawn(0)), headers=kind)
  assert found.status_code == 422 and "'labels'" in found.json()["error"]["message"]
  assert "new" not in names(client)


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_prompt_of_this_model_is_refused(client, content):
  found = put(client, "bad", content)
  assert found.status_code == 422, found.text
  message = found.json()["error"]["message"]
  assert message and "/tmp" not in message and ".venv" not in message
  assert "bad" not in names(client)


def test_a_full_bank_says_so(client):
  for seed in range(3):
    assert put(client, f"p{seed}", stored(drawn(seed))).status_code == 200
  full = put(client, "p3", stored(drawn(3)))
  assert full.status_code == 422 and "full" in full.json()["error"]["message"]
  assert put(client, "p2", stored(drawn(9))).status_code == 200  # replaces its namesake
  for seed in range(3):
    assert client.call("DELETE", f"/v1/prompts/p{seed}").status_code == 204


@pytest.mark.parametrize("name", ["a" * 65, ".hidden", "a%20b", "a%00", "%C3%A4", "a%0Ab"])
def test_a_name_is_letters_digits_and_few_signs(client, name):
  found = put(client, name, stored(drawn(0)))
  assert found.status_code == 422, found.text


@pytest.mark.parametrize("name", ["..%2Fx", "a/b", "%2e%2e/x"])
def test_a_name_is_no_path(client, name):
  assert put(client, name, stored(drawn(0))).status_code in (404, 405, 422)


def test_a_large_body_is_refused_declared_or_not(client):
  content = b"\x08\x00\x00\x00\x00\x00\x00\x00" + bytes(150_000)
  for body in (content, (content[i : i + 1000] for i in range(0, len(content), 1000))):
    found = put(client, "large", body)
    assert found.status_code == 413 and found.json()["error"]["code"] == "too_large"
  big = put_file(client, "deep/one.safetensors")
  assert big.status_code == 200
  assert client.call("DELETE", "/v1/prompts/filed").status_code == 204


def test_prompts_change_under_load_and_no_answer_is_wrong(client):
  """Of two prompts that take turns under one name, each with labels of its own."""
  arrays = [drawn(20), drawn(21, length=2)]
  labels = [["red", "blue"], ["up", "down"]]
  alone = tiny_predictor()
  expected = {}
  for array, words in zip(arrays, labels, strict=True):
    alone.add("turn", array, words)
    (own,) = alone.predict(["a text"], "turn")
    expected[tuple(words)] = own
  fixed = alone.predict(["a text"], "mood")[0]
  over = threading.Event()

  def change():
    for turn in range(60):
      words = labels[turn % 2]
      query = "?" + "&".join(f"label={word}" for word in words)
      found = put(client, "turn", stored(arrays[turn % 2]), query=query)
      assert found.status_code == 200, found.text
      if turn % 10 == 9:
        assert client.call("DELETE", "/v1/prompts/turn").status_code == 204
    over.set()

  def ask(_):
    statuses = set()
    while not over.is_set():
      found = client.post("predict", texts=["a text"] * 2, prompt=["turn", "mood"])
      statuses.add(found.status_code)
      if found.status_code == 422:
        assert "turn" in found.json()["error"]["message"]
        continue
      turned, steady = found.json()["answers"]
      own = expected[tuple(row["label"] for row in turned["scores"])]
      assert turned["text"] == own.text
      assert turned["score"] == pytest.approx(own.score, abs=1e-5)
      assert steady["score"] == pytest.approx(fixed.score, abs=1e-5)
    return statuses

  with concurrent.futures.ThreadPoolExecutor(9) as pool:
    changing = pool.submit(change)
    seen = set().union(*pool.map(ask, range(8)))
    changing.result()
  assert 200 in seen and seen <= {200, 422}
