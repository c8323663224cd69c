"""The queue: shared passes, no room, deadlines, clients that leave, passes that fail."""

import concurrent.futures
import contextlib
import json
import signal
import socket
import threading
import time

import pytest
from live import BATCH, SECONDS, Held, raw, ready, running, tiny_predictor, wait_until

from prompt_tuning.serving import server
from prompt_tuning.serving.limits import Limits

HEAD = (
  b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
  b"Content-Length: %d\r\n\r\n"
)


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
  with running(lambda: held) as client:
    ready(client)
    first = occupied(client, held, pool)
    with socket.create_connection(client.address) as leaving:
      leaving.sendall(HEAD % len(body) + body)
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
    for name in ("free", "size"):  # at once, whatever pass is going on
      assert client.call("DELETE", f"/v1/prompts/{name}").status_code == 204
    held.go.set()
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
    time.sleep(3 * server._LINGER_S)  # an answer takes longer than the server lingers
    assert client.call("GET", "/healthz").status_code == 200
    assert client.thread.is_alive() and not any(one.done() for one in [first, *waiting])
    held.go.set()
    assert [one.result().status_code for one in [first, *waiting]] == [200] * 4
    client.thread.join(30)
    assert not client.thread.is_alive()


def test_a_stopping_service_gives_up_after_its_grace(held, pool):
  with running(lambda: held, grace_s=4 * server._LINGER_S) as client:
    ready(client)
    first = occupied(client, held, pool)
    waiting = pool.submit(ask, client, "waits")
    wait_until(lambda: client.service.batcher.waiting == 1)
    start = time.monotonic()
    client.server.stop()
    assert waiting.result().status_code == 503
    assert time.monotonic() - start >= client.service.limits.grace_s
    assert client.thread.is_alive() and not first.done()
    held.go.set()
    assert first.result().status_code == 200


def test_a_pass_that_outlives_the_grace_is_answered_with_an_error(held, pool):
  with running(lambda: held, grace_s=0.2) as client:
    client.server.config.timeout_graceful_shutdown = 1
    first = occupied(ready(client), held, pool)
    client.server.stop()
    check_stopping(first.result())
    client.thread.join(SECONDS)
    assert not client.thread.is_alive()
    held.go.set()


def test_a_second_signal_waits_for_no_answer(held, pool):
  with running(lambda: held) as client:
    first = occupied(ready(client), held, pool)
    client.server.handle_exit(signal.SIGTERM, None)
    time.sleep(3 * server._LINGER_S)
    assert client.thread.is_alive() and not first.done()
    client.server.handle_exit(signal.SIGTERM, None)
    check_stopping(first.result())
    client.thread.join(3)
    assert not client.thread.is_alive()
    held.go.set()


def check_stopping(found) -> None:
  assert found.status_code == 503 and found.headers["Retry-After"]
  assert found.json()["error"]["code"] == "stopping"


def test_an_unfinished_body_does_not_delay_the_end(predictor):
  with running(lambda: predictor) as client:
    with socket.create_connection(ready(client).address, timeout=SECONDS) as slow:
      slow.sendall(HEAD % 100 + b"{")
      wait_until(lambda: client.server.gate.in_flight == 1)
      client.server.stop()
      found = b"".join(iter(lambda: slow.recv(65536), b""))
    assert found.startswith(b"HTTP/1.1 503") and b'"stopping"' in found
    client.thread.join(5)
    assert not client.thread.is_alive()


# Bodies that do not end, of many clients.


@contextlib.contextmanager
def unfinished(client, count, part):
  """Connections that send a part of a body of 1000 bytes."""
  gate = client.server.gate
  with contextlib.ExitStack() as stack:
    for _ in range(count):
      one = stack.enter_context(socket.create_connection(client.address, timeout=SECONDS))
      one.sendall(HEAD % 1000 + part)
    wait_until(lambda: (gate.in_flight, gate.intake.size) == (count, count * len(part)))
    yield
  wait_until(lambda: (gate.in_flight, gate.intake.size) == (0, 0))


def check_busy(found) -> None:
  assert found.status_code == 503 and found.headers["Retry-After"]
  assert found.json()["error"]["code"] == "busy"


def test_bodies_that_arrive_have_a_common_limit(predictor):
  with running(lambda: predictor, body_bytes=1000, bodies_bytes=2500) as client:
    ready(client)
    body = json.dumps({"texts": ["dull"], "prompt": "mood"})
    kind = {"Content-Type": "application/json"}
    with unfinished(client, 3, b" " * 800):
      for method, path in (("POST", "/v1/predict"), ("PUT", "/v1/prompts/new")):
        check_busy(client.call(method, path, data=body + " " * 500, headers=kind))
      assert client.server.gate.intake.size == 2400
      assert client.call("POST", "/v1/predict", data=body, headers=kind).status_code == 200
    found = client.call("POST", "/v1/predict", data=body + " " * 500, headers=kind)
    assert found.status_code == 200


def test_the_largest_body_fits_alone(predictor):
  with running(lambda: predictor, body_bytes=1000, bodies_bytes=1) as client:
    assert ask(ready(client), "dull").status_code == 200


def test_metrics_and_probes_are_answered_however_busy(predictor):
  most = Limits(queue=1, texts=1).requests
  with (
    running(lambda: predictor, queue=1, texts=1) as client,
    unfinished(ready(client), most, b""),
  ):
    check_busy(ask(client, "one more"))
    for path in ("/metrics", "/healthz", "/readyz"):
      assert client.call("GET", path).status_code == 200


def test_a_second_request_may_wait_behind_the_first_on_one_connection(client):
  body = json.dumps({"texts": ["dull"], "prompt": "mood"}).encode()
  head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n%b"
  head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
  one = head % (b"", len(body)) + body
  two = head % (b"Connection: close\r\n", len(body)) + body
  found = raw(client, one + two)
  assert found.count(b"HTTP/1.1 200 OK") == 2 and found.count(b'"text"') == 2
