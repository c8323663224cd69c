"""/openapi.json says what the service does: hundreds of requests are drawn from it."""

import pathlib
import subprocess
import sys

import pytest
from live import ready, running, tiny_predictor

# A deadline of 1 ms is allowed, so 504 is no fault; and a text of the right shape may have
# too many tokens, so not every request that the schema allows is answered.
CONFIG = """
[checks]
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]
"""


@pytest.mark.slow
def test_no_request_gets_what_the_schema_does_not_say(tmp_path):
  (tmp_path / "schemathesis.toml").write_text(CONFIG)
  with running(tiny_predictor) as client:
    found = subprocess.run(
      [
        pathlib.Path(sys.executable).with_name("schemathesis"),
        "--config-file=schemathesis.toml",
        "run",
        f"{ready(client).url}/openapi.json",
        "--max-examples=15",
        "--seed=1",
        "--no-color",
        "--suppress-health-check=all",
      ],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      timeout=240,
      check=False,
    )
    assert client.call("GET", "/readyz").status_code == 200
  assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
  print(found.stdout[-600:])
