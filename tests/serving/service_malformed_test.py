"""Whatever a client sends, the answer is a clear 4xx and the service lives on."""

import json

import pytest
from live import raw, ready, running

OK = {"texts": ["dull"], "prompt": "mood"}
SHAPED = {  # JSON of another shape, or of values that cannot be used
  "a list": [],
  "a number": 7,
  "null": None,
  "nothing in it": {},
  "no texts": {"prompt": "mood"},
  "texts is empty": {"texts": []},
  "texts is a text": {"texts": "dull"},
  "texts of numbers": {"texts": [1]},
  "texts of null": {"texts": [None]},
  "texts of lists": {"texts": [["a"]]},
  "an empty text": {"texts": [""]},
  "a text of spaces": {"texts": ["  \n"]},
  "a null character": {"texts": ["a\x00b"]},
  "a text of too many tokens": {"texts": ["word " * 50]},
  "a text of too many characters": {"texts": ["x" * 20_001]},
  "too many texts": {"texts": ["x"] * 129},
  "an unknown prompt": {**OK, "prompt": "none"},
  "a prompt that is a path": {**OK, "prompt": "../../etc/passwd"},
  "a prompt that is a number": {**OK, "prompt": 5},
  "a prompt that is true": {**OK, "prompt": True},
  "a prompt that is a map": {**OK, "prompt": {"a": 1}},
  "fewer prompts than texts": {"texts": ["a", "b"], "prompt": ["mood"]},
  "more prompts than texts": {"texts": ["a"], "prompt": ["mood"] * 2},
  "no prompts": {"texts": ["a"], "prompt": []},
  "an unknown field": {**OK, "temperature": 0.5},
  "a field of another question": {**OK, "labels": ["a"]},
  "a timeout of 0": {**OK, "timeout_ms": 0},
  "a negative timeout": {**OK, "timeout_ms": -5},
  "a timeout that is text": {**OK, "timeout_ms": "100"},
  "a timeout that is true": {**OK, "timeout_ms": True},
  "half a millisecond": {**OK, "timeout_ms": 0.5},
  "a huge timeout": {**OK, "timeout_ms": 10**400},
}
BODIES = {  # no JSON at all
  "nothing": b"",
  "a word": b"hello",
  "cut": b'{"texts": ["a"',
  "more than one": b'{"texts": ["a"]} {}',
  "single quotes": b"{'texts': ['a']}",
  "a comment": b'{"texts": ["a"] /* x */}',
  "invalid UTF-8": b'{"texts": ["\xff\xfe"]}',
  "UTF-16": '{"texts": ["a"]}'.encode("utf-16"),
  "a lone surrogate": b'{"texts": ["\\ud800"]}',
  "a raw null": b'{"texts": ["a\x00"]}',
  "a hundred thousand lists": b"[" * 100_000,
  "deep maps": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
  "deep lists in texts": b'{"texts": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}
VALUES = {  # JSON to some readers
  "NaN": b'{"texts": ["a"], "timeout_ms": NaN}',
  "Infinity": b'{"texts": ["a"], "timeout_ms": Infinity}',
  "1e999": b'{"texts": ["a"], "timeout_ms": 1e999}',
  "many digits": b'{"texts": ["a"], "timeout_ms": ' + b"9" * 10_000 + b"}",
  "NaN for texts": b'{"texts": NaN}',
}
RANKED = {
  "no labels": {**OK},
  "labels is empty": {**OK, "labels": []},
  "labels of empty lists": {**OK, "labels": [[]]},
  "an empty label": {**OK, "labels": ["a", ""]},
  "a label twice": {**OK, "labels": ["a", "a"]},
  "labels of both kinds": {**OK, "labels": ["a", ["b"]]},
  "labels of numbers": {**OK, "labels": [1, 2]},
  "labels deeper": {**OK, "labels": [[["a"]]]},
  "more lists than texts": {**OK, "labels": [["a"], ["b"]]},
  "too many labels": {**OK, "labels": [f"l{i}" for i in range(65)]},
  "a label of too many tokens": {**OK, "labels": ["a b c d e f g h"]},
  "a label of many spaces": {**OK, "labels": ["a" + " " * 5000, "b"]},
  "a null character": {**OK, "labels": ["a\x00"]},
  "length_normalized is text": {**OK, "labels": ["a"], "length_normalized": "yes"},
  "length_normalized is 1": {**OK, "labels": ["a"], "length_normalized": 1},
}
SCORED = {
  "no targets": {**OK},
  "fewer targets than texts": {"texts": ["a", "b"], "targets": ["a"]},
  "targets is a text": {"texts": ["a"], "targets": "a"},
  "targets of lists": {"texts": ["a"], "targets": [["a"]]},
  "an empty target": {"texts": ["a"], "targets": [""]},
}


def send(client, body, path="/v1/predict", **headers):
  headers = {"Content-Type": "application/json"} | headers
  return client.call("POST", path, data=body, headers=headers)


def check(client, found, statuses):
  assert found.status_code in statuses, found.text
  assert set(found.json()) == {"error"}
  error = found.json()["error"]
  assert set(error) == {"code", "message"} and error["code"] and error["message"]
  assert len(found.content) < 8000 and "Traceback" not in found.text
  assert client.call("GET", "/readyz").status_code == 200


@pytest.mark.parametrize("body", SHAPED.values(), ids=SHAPED.keys())
def test_json_of_another_shape_is_refused(client, body):
  check(client, send(client, json.dumps(body)), {422})


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_no_json_is_refused(client, body):
  check(client, send(client, body), {400})


def test_faults_without_number_are_not_listed_one_by_one(client):
  body = json.dumps({"texts": ["a"], **dict.fromkeys(map(str, range(200_000)), 1)})
  found = send(client, body)
  check(client, found, {422})
  assert "200000 faults" in found.json()["error"]["message"]


@pytest.mark.parametrize("body", VALUES.values(), ids=VALUES.keys())
def test_numbers_that_are_none_are_refused(client, body):
  check(client, send(client, body), {400, 422})


@pytest.mark.parametrize("body", RANKED.values(), ids=RANKED.keys())
def test_labels_of_another_shape_are_refused(client, body):
  check(client, send(client, json.dumps(body), "/v1/rank"), {422})


@pytest.mark.parametrize("body", SCORED.values(), ids=SCORED.keys())
def test_targets_of_another_shape_are_refused(client, body):
  check(client, send(client, json.dumps(body), "/v1/score"), {422})


@pytest.mark.parametrize(
  "headers",
  [
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": ""},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/jsonx"},
    {"Content-Encoding": "gzip"},
  ],
)
def test_a_body_of_another_type_is_refused(client, headers):
  check(client, send(client, json.dumps(OK), **headers), {415})


def test_utf_8_may_be_named(client):
  kind = "Application/JSON; charset=UTF-8"
  assert send(client, json.dumps(OK), **{"Content-Type": kind}).status_code == 200


def test_a_fault_of_one_text_says_which(client):
  found = client.post("predict", texts=["fine", "word " * 50], prompt="mood")
  assert found.status_code == 422
  assert found.json()["error"]["message"].startswith("texts.1: the text has ")


def test_another_method_is_refused_with_those_there_are(client):
  found = client.call("POST", "/v1/prompts/x")
  check(client, found, {405})
  assert found.headers["Allow"] == "DELETE, PUT"
  for method, path in (("GET", "/v1/rank"), ("TRACE", "/healthz"), ("BREW", "/v1/score")):
    check(client, client.call(method, path), {405})


@pytest.mark.parametrize(
  "path", ["/v2", "/v1/", "/v1/prompts/", "/docs", "/%00", "/%ff%2F.."]
)
def test_another_path_is_not_found(client, path):
  check(client, client.call("GET", path), {404})


CHUNKED = (
  b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
  b"Transfer-Encoding: chunked\r\n\r\n"
)
RAW = {
  "no request": b"hello\r\n\r\n",
  "a null in the line": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
  "a head without end": b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
  "no length of any kind": CHUNKED + b"zzz\r\n\r\n",
  "two lengths": b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
  b"Content-Length: 2\r\n\r\nxx",
  "a negative length": b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
  b"Content-Length: -5\r\n\r\n",
}


@pytest.mark.parametrize("content", RAW.values(), ids=RAW.keys())
def test_what_is_no_http_is_refused(client, content):
  assert raw(client, content).startswith(b"HTTP/1.1 400")
  assert client.call("GET", "/readyz").status_code == 200


def test_chunks_beyond_the_limit_are_not_kept(predictor):
  with running(lambda: predictor, body_bytes=1000) as client:
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    body = chunk * 200 + b"0\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found = raw(ready(client), CHUNKED + body + last)
    assert found.startswith(b"HTTP/1.1 413") and b"too_large" in found
    assert found.count(b"HTTP/1.1 200") == 1  # what followed was still answered


def test_a_declared_length_beyond_the_limit_is_refused_unread(client):
  head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
  head += b"Content-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n"
  assert raw(client, head).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_arrive_is_not_waited_for(predictor):
  with running(lambda: predictor, body_s=0.3) as client:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    found = raw(ready(client), head)
    assert found.startswith(b"HTTP/1.1 408") and b"slow_body" in found
