"""The token, the hosts, what browsers are told, and what stays inside."""

import socket
import time

import pytest
from live import SECONDS, raw, ready, running, wait_until

from prompt_tuning import checks
from prompt_tuning.serving import security

TOKEN = "open-sesame-1234"
GUARDED = ("/v1/prompts", "/metrics", "/openapi.json", "/v1/none", "/favicon.ico")
OPEN = ("/", "/healthz", "/readyz")


@pytest.fixture(scope="module")
def guarded(predictor):
  with running(lambda: predictor, token=TOKEN) as found:
    yield ready(found)


@pytest.mark.parametrize(
  "given",
  ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"],
)
def test_without_the_token_nothing_is_told(guarded, given):
  for path in GUARDED:
    found = guarded.call("GET", path, headers={"Authorization": given})
    assert found.status_code == 401
    assert found.headers["WWW-Authenticate"] == "Bearer"
    assert found.json()["error"]["code"] == "unauthorized"
  for method, path in (("POST", "/v1/predict"), ("PUT", "/v1/prompts/x")):
    found = guarded.call(method, path, data=b"{", headers={"Authorization": given})
    assert found.status_code == 401


def test_probes_and_the_page_need_no_token(guarded):
  for path in OPEN:
    assert guarded.call("GET", path, headers={"Authorization": ""}).status_code == 200


def test_with_the_token_all_is_open(guarded):
  for path in GUARDED[:3]:
    assert guarded.call("GET", path).status_code == 200
  other = {"Host": "prompts.example.com", "Authorization": f"bearer {TOKEN}"}
  assert guarded.call("GET", "/v1/prompts", headers=other).status_code == 200
  schemes = guarded.call("GET", "/openapi.json").json()["components"]["securitySchemes"]
  assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.io"])
def test_without_a_token_only_names_of_this_machine_are_answered(client, host):
  found = client.call("GET", "/v1/prompts", headers={"Host": host})
  assert found.status_code == 403 and found.json()["error"]["code"] == "wrong_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8000"])
def test_names_of_this_machine_are_answered(client, host):
  assert client.call("GET", "/v1/prompts", headers={"Host": host}).status_code == 200


def test_other_origins_are_given_nothing(client):
  headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
  found = client.call("OPTIONS", "/v1/predict", headers=headers)
  assert found.status_code == 405
  found = client.call("GET", "/v1/prompts", headers=headers)
  assert not [name for name in found.headers if name.lower().startswith("access-control")]


def test_browsers_are_told_to_be_careful(client):
  page = client.call("GET", "/")
  policy = page.headers["Content-Security-Policy"]
  assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
  assert "unsafe" not in policy and policy.count("'sha256-") == 2
  assert page.headers["Content-Type"] == "text/html; charset=utf-8"
  for path in ("/", "/v1/prompts", "/none"):
    assert client.call("GET", path).headers["X-Content-Type-Options"] == "nosniff"
  assert "Server" not in page.headers


def test_the_page_needs_nothing_from_elsewhere(client):
  page = client.call("GET", "/").text
  assert "http:" not in page and "https:" not in page and "innerHTML" not in page


def test_a_fault_of_ours_tells_nothing_inward(predictor, caplog):
  class Broken:
    def __getattr__(self, name):
      return getattr(predictor, name)

    def prompts(self):
      raise RuntimeError("see /root/secret/place")

  with running(Broken) as client:
    found = ready(client).call("GET", "/v1/prompts")
  assert found.status_code == 500 and found.json()["error"]["code"] == "failed"
  assert "secret" not in found.text and "see /root/secret/place" in caplog.text


def test_the_log_has_a_line_per_request_and_no_text(client, caplog):
  def lines():
    """Those of the two requests; others may end late."""
    found = [row.getMessage() for row in caplog.records]
    return [line for line in found if " /v1/predict " in line or " /v1/none" in line]

  with caplog.at_level("INFO", logger="prompt_tuning.serving"):
    caplog.clear()
    client.post("predict", texts=["most private words"], prompt="mood")
    wait_until(lambda: len(lines()) == 1)  # it is written after the answer
    client.call("GET", "/v1/none%0Ax?secret=1")
    wait_until(lambda: len(lines()) == 2)
  assert lines()[0].startswith("POST /v1/predict 200 ")
  assert lines()[1].startswith("GET /v1/none%0Ax 404 ")
  assert "private" not in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(
  "begun", [b"", b"GET /", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"]
)
def test_connections_that_do_not_ask_are_closed(predictor, begun):
  with running(lambda: predictor, body_s=0.5) as client:
    with socket.create_connection(ready(client).address, timeout=SECONDS) as slow:
      slow.settimeout(0.1)
      slow.sendall(begun)
      dribble(slow)
    assert client.call("GET", "/healthz").status_code == 200


def test_a_connection_that_asks_stays_however_long(predictor):
  question = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
  with (
    running(lambda: predictor, body_s=1) as client,
    socket.create_connection(ready(client).address, timeout=SECONDS) as steady,
  ):
    for _ in range(5):
      for part in (question[:9], question[9:]):
        time.sleep(0.15)
        steady.sendall(part)
      found = b""
      while b"alive" not in found:
        part = steady.recv(65536)
        assert part, "it was closed"
        found += part


def test_a_refusal_arrives_though_the_body_comes_after_it(guarded):
  """Closed at once, the connection would be reset by the body, and the answer lost."""
  head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
  head += b"Content-Length: 100000\r\n\r\n"
  found = raw(guarded, head, b" " * 50_000, b" " * 50_000, pause=0.1)
  assert found.startswith(b"HTTP/1.1 401") and found.endswith(b"}}")


def dribble(slow: socket.socket) -> None:
  """Sends a byte now and then until the server closes."""
  end = time.monotonic() + 10
  while time.monotonic() < end:
    try:
      slow.sendall(b"x")
      if not slow.recv(65536):
        return
    except TimeoutError:
      pass
    except ConnectionError:
      return
  raise AssertionError("it is still open")


# The token's source.


def test_a_token_comes_from_the_file_else_from_the_environment(tmp_path):
  file = tmp_path / "token"
  file.write_text("from-the-file\n")
  environment = {security.VARIABLE: "from-the-environment"}
  assert security.token(str(file), environment) == b"from-the-file"
  assert security.token(None, environment) == b"from-the-environment"
  assert security.token(None, {}) is None


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 20, b"with\nseveral\nlines"])
def test_a_token_that_is_none_is_refused(tmp_path, content):
  file = tmp_path / "token"
  file.write_bytes(content)
  with pytest.raises(checks.InputError, match="token"):
    security.token(str(file), {})


def test_an_empty_variable_is_no_token():
  with pytest.raises(checks.InputError, match=security.VARIABLE):
    security.token(None, {security.VARIABLE: ""})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_strangers_need_a_token(host):
  security.check_address(host, is_guarded=True)
  with pytest.raises(checks.InputError, match="--token-file"):
    security.check_address(host, is_guarded=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "LocalHost", "::1"])
def test_this_machine_needs_none(host):
  security.check_address(host, is_guarded=False)
