"""The page at `/`: one file, without anything from elsewhere."""

import base64
import functools
import hashlib
import pathlib
import re


@functools.cache
def html() -> bytes:
  """The page."""
  return pathlib.Path(__file__).with_name("index.html").read_bytes()


@functools.cache
def policy() -> str:
  """Content-Security-Policy: the page's own script and style run, and nothing else."""
  script, style = (_digest(tag) for tag in (b"script", b"style"))
  return (
    f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  )


def _digest(tag: bytes) -> str:
  found = re.search(rb"<%b>(.*?)</%b>" % (tag, tag), html(), re.DOTALL)
  assert found is not None, tag
  return f"'sha256-{base64.b64encode(hashlib.sha256(found[1]).digest()).decode()}'"
