"""A value in a row of somebody's table as text."""

import math
from collections.abc import Mapping
from typing import Any


class Unusable(Exception):
  """What is wrong with a row, as the end of a sentence."""


def text(column: str, value: Any) -> str:
  """A value as the text that a vocabulary can encode.

  Raises:
    Unusable: There is none, or it is no text.
  """
  if value is None or (isinstance(value, float) and math.isnan(value)):
    raise Unusable(f"{column!r} has no value")
  if isinstance(value, list | tuple | Mapping):
    raise Unusable(f"{column!r} is a {type(value).__name__}, expected text or a number")
  found = value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)
  if "\0" in found:
    raise Unusable(f"{column!r} holds a NUL byte")
  try:
    found.encode()
  except UnicodeEncodeError as error:
    raise Unusable(f"{column!r} is not UTF-8 at character {error.start + 1}") from error
  return found
