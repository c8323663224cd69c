"""Who may ask: a token, names of this machine, headers that keep browsers careful."""

import hmac
import ipaddress
import pathlib
from collections.abc import Mapping

from prompt_tuning import checks
from prompt_tuning.serving.refusals import Refusal

VARIABLE = "PROMPT_TUNING_TOKEN"
OPEN = ("/", "/healthz", "/readyz")  # what needs no token
HEADERS = (
  (b"x-content-type-options", b"nosniff"),
  (b"cache-control", b"no-store"),
  (b"referrer-policy", b"no-referrer"),
)
_SHORTEST = 8
_LOCAL = ("localhost", "127.0.0.1", "::1")


def token(file: str | None, environment: Mapping[str, str]) -> bytes | None:
  """The token of a service: that of a file, else of the environment, else none.

  Raises:
    InputError: It cannot be read, or is short or no plain ASCII.
  """
  if file is None and VARIABLE not in environment:
    return None
  where = VARIABLE if file is None else f"--token-file {file}"
  try:
    text = environment[VARIABLE] if file is None else pathlib.Path(file).read_text("ascii")
  except (OSError, ValueError) as error:
    raise checks.InputError(
      f"{where} cannot be read ({getattr(error, 'strerror', None) or 'no ASCII'}), "
      "expected a file with the token; name one"
    ) from error
  found = text.strip()
  if len(found) < _SHORTEST or not found.isascii() or not found.isprintable():
    raise checks.InputError(
      f"{where} holds {len(found)} characters, expected at least {_SHORTEST} of plain "
      "ASCII; e.g. those of `openssl rand -hex 16`"
    )
  return found.encode()


def check_address(host: str, is_guarded: bool) -> None:
  """Raises `InputError` where strangers could ask without a token."""
  if not is_guarded and not is_local(host):
    raise checks.InputError(
      f"--host {host} can be reached from elsewhere, expected a token then; give "
      f"--token-file or {VARIABLE}, or leave --host out"
    )


def is_local(host: str) -> bool:
  """Whether only this machine reaches an address."""
  try:
    return host.lower() in _LOCAL or ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


class Guard:
  """Refuses requests without the token, or, where there is none, for other hosts.

  The latter stops a web page whose name was made to point to this machine ("DNS
  rebinding") from asking in the name of its visitor.
  """

  def __init__(self, expected: bytes | None):
    self._expected = expected

  def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
    """Raises `Refusal` unless the request may pass."""
    if self._expected is None:
      host = headers.get(b"host", b"").decode("latin-1")
      if host and not is_local(_without_port(host)):
        message = "the Host is another than this machine; ask it by its own name"
        raise Refusal(403, "wrong_host", message)
    elif path not in OPEN:
      scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
      is_right = hmac.compare_digest(given.strip(), self._expected)
      if scheme.lower() != b"bearer" or not is_right:
        message = "the token is missing or wrong; send Authorization: Bearer TOKEN"
        raise Refusal(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def _without_port(host: str) -> str:
  if host.startswith("["):
    return host[1:].partition("]")[0]
  return host.rpartition(":")[0] if ":" in host else host
