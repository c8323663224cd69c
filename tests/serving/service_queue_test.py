"""The queue: shared passes, no room, deadlines, clients that leave, passes that fail."""

import concurrent.futures
import json
import socket
import threading

import pytest
from live import BATCH, Held, raw, ready, running, tiny_predictor, wait_until


@pytest.fixture
def pool():
  with concurrent.futures.ThreadPoolExecutor(8) as found:
    yield found


def ask(client, text, **body):
  return client.post("predict", texts=[text], **({"prompt": "mood"} | body))


def occupied(client, held, pool) -> concurrent.futures.Future:
  """Begins a pass that waits, so that what comes then stays in the queue."""
  held.go.clear()
  held.begun.clear()
  first = pool.submit(ask, client, "first")
  assert held.begun.wait(60)
  return first


def test_rows_of_all_prompts_and_kinds_share_a_pass(held, pool):
  with running(lambda: held) as client:
    ready(client)
    first = occupied(client, held, pool)
    others = [
      pool.submit(client.post, "predict", texts=["one"], prompt="mood"),
      pool.submit(client.post, "predict", texts=["two"], prompt="size"),
      pool.submit(client.post, "rank", texts=["three"], labels=["a", "b"]),
      pool.submit(client.post, "score", texts=["four"], targets=["a"], prompt="free"),
    ]
    wait_until(lambda: client.service.batcher.waiting == 4)
    held.go.set()
    assert {one.result().status_code for one in [first, *others]} == {200}
    assert sorted(held.passes[1]) == ["four", "one", "three", "two"]


def test_a_long_request_is_cut_and_its_answers_are_in_order(held, predictor):
  texts = [f"film number {i}" for i in range(3 * BATCH + 1)]
  with running(lambda: held) as client:
    found = ready(client).post("predict", texts=texts, prompt="mood").json()["answers"]
  assert [len(each) for each in held.passes] == [BATCH, BATCH, BATCH, 1]
  expected = predictor.predict(texts, "mood")
  assert [row["score"] for row in found] == pytest.approx(
    [row.score for row in expected], abs=1e-5
  )


def test_a_full_queue_says_when_to_come_back(held, pool):
  with running(lambda: held, queue=4, texts=3) as client:
    ready(client)
    first = occupied(client, held, pool)
    waiting = pool.submit(client.post, "predict", texts=["a", "b", "c"], prompt="mood")
    wait_until(lambda: client.service.batcher.waiting == 3)
    refused = client.post("predict", texts=["d", "e"], prompt="mood")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "queue_full"
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    fits = pool.submit(ask, client, "f")
    wait_until(lambda: client.service.batcher.waiting == 4)
    held.go.set()
    assert [one.result().status_code for one in (first, waiting, fits)] == [200] * 3
    assert client.metric("prompt_tuning_rejected_total") == 1
  assert not any("d" in each for each in held.passes)


def test_a_late_row_is_dropped_before_it_is_computed(held, pool):
  with running(lambda: held) as client:
    ready(client)
    first = occupied(client, held, pool)
    late = ask(client, "late", timeout_ms=100)
    assert late.status_code == 504 and late.json()["error"]["code"] == "deadline"
    assert "100 ms" in late.json()["error"]["message"]
    assert client.service.batcher.waiting == 0
    held.go.set()
    assert first.result().status_code == 200
    assert ask(client, "after").status_code == 200
  assert held.passes == [["first"], ["after"]]


def test_a_deadline_holds_while_the_row_is_computed(held):
  with running(lambda: held) as client:
    ready(client)
    held.go.clear()
    assert ask(client, "slow", timeout_ms=150).status_code == 504
    held.go.set()
    assert ask(client, "next").status_code == 200


def test_the_service_has_a_deadline_of_its_own_and_a_longest_one(held):
  with running(lambda: held, timeout_ms=100, max_timeout_ms=500) as client:
    ready(client)
    assert ask(client, "x", timeout_ms=501).status_code == 422
    held.go.clear()
    assert ask(client, "y").status_code == 504
    held.go.set()


def test_rows_of_a_client_that_left_are_dropped(held, pool):
  body = json.dumps({"texts": ["gone", "gone too"], "prompt": "mood"}).encode()
  head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
  head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
  with running(lambda: held) as client:
    ready(client)
    first = occupied(client, held, pool)
    with socket.create_connection(client.address) as leaving:
      leaving.sendall(head + body)
      wait_until(lambda: client.service.batcher.waiting == 2)
    wait_until(lambda: client.service.batcher.waiting == 0)
    other = pool.submit(ask, client, "other")
    wait_until(lambda: client.service.batcher.waiting == 1)
    held.go.set()
    assert first.result().status_code == other.result().status_code == 200
    assert client.metric("prompt_tuning_dropped_rows_total") == 2
  assert held.passes == [["first"], ["other"]]


def test_a_pass_that_fails_costs_its_own_rows_only(held, pool, caplog):
  with running(lambda: held) as client:
    ready(client)
    held.error = RuntimeError("device on fire, see /root/secret")
    failed = ask(client, "a secret text")
    assert failed.status_code == 500
    assert failed.json() == {
      "error": {
        "code": "failed",
        "message": "the service failed on this request; its log says why",
      }
    }
    held.error = None
    assert ask(client, "next").status_code == 200
  assert "device on fire" in caplog.text and "a secret text" not in caplog.text


def test_scores_that_are_no_numbers_are_an_error_and_no_broken_json(held):
  class Broken(Held):
    def answer(self, prepared):
      import dataclasses

      rows = super().answer(prepared)
      return [dataclasses.replace(row, score=float("nan")) for row in rows]

  with running(lambda: Broken(held)) as client:
    found = ask(ready(client), "x")
    assert found.status_code == 500 and found.json()["error"]["code"] == "failed"


def test_a_prompt_that_was_removed_fails_its_own_request_only(pool):
  held = Held(tiny_predictor())
  with running(lambda: held) as client:
    ready(client)
    first = occupied(client, held, pool)
    other = pool.submit(ask, client, "other", prompt="mood")
    orphan = pool.submit(ask, client, "orphan", prompt="free")
    ranked = pool.submit(ask, client, "orphan", prompt="size")
    wait_until(lambda: client.service.batcher.waiting == 3)
    removed = [
      pool.submit(client.call, "DELETE", f"/v1/prompts/{name}") for name in ("free", "size")
    ]
    wait_until(lambda: len(client.service.batcher._changes) == 2)
    held.go.set()
    assert [one.result().status_code for one in removed] == [204, 204]
    assert first.result().status_code == other.result().status_code == 200
    for one in (orphan.result(), ranked.result()):
      assert one.status_code == 422 and one.json()["error"]["code"] == "invalid"


def test_before_the_model_is_there_the_service_lives_and_says_so(predictor):
  there = threading.Event()

  def load():
    assert there.wait(60)
    return predictor

  with running(load) as client:
    assert client.call("GET", "/healthz").json() == {"status": "alive"}
    for path in ("/readyz", "/v1/prompts"):
      found = client.call("GET", path)
      assert found.status_code == 503 and found.headers["Retry-After"]
      assert found.json()["error"]["code"] == "loading"
    assert ask(client, "early").status_code == 503
    there.set()
    assert ask(ready(client), "now").status_code == 200


def test_a_stopping_service_answers_what_waits_and_takes_no_more(held, pool):
  with running(lambda: held) as client:
    ready(client)
    first = occupied(client, held, pool)
    waiting = [pool.submit(ask, client, f"row {i}") for i in range(3)]
    wait_until(lambda: client.service.batcher.waiting == 3)
    client.server.stop()
    for found in (client.call("GET", "/readyz"), ask(client, "more")):
      assert found.status_code == 503 and found.headers["Retry-After"]
      assert found.json()["error"]["code"] == "stopping"
    assert client.call("GET", "/healthz").status_code == 200
    held.go.set()
    assert [one.result().status_code for one in [first, *waiting]] == [200] * 4
    client.thread.join(30)
    assert not client.thread.is_alive()


def test_a_stopping_service_gives_up_after_its_grace(held, pool):
  with running(lambda: held, grace_s=1) as client:
    ready(client)
    first = occupied(client, held, pool)
    waiting = pool.submit(ask, client, "waits")
    wait_until(lambda: client.service.batcher.waiting == 1)
    client.server.stop()
    assert waiting.result().status_code == 503
    held.go.set()
    assert first.result().status_code == 200


def test_a_second_request_may_wait_behind_the_first_on_one_connection(client):
  body = json.dumps({"texts": ["dull"], "prompt": "mood"}).encode()
  head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n%b"
  head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
  one = head % (b"", len(body)) + body
  two = head % (b"Connection: close\r\n", len(body)) + body
  found = raw(client, one + two)
  assert found.count(b"HTTP/1.1 200 OK") == 2 and found.count(b'"text"') == 2
