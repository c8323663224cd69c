"""What is said to a person whose input cannot be used.

Every message has three parts: what was found, what was expected, what to do.
Commands turn `InputError` into one line on stderr and exit status 2.
"""

import difflib
import math
from collections.abc import Iterable, Sequence


class InputError(ValueError):
  """Something that the caller gave cannot be used; the message says what to do."""


def nearest(name: str, known: Iterable[str], count: int = 5) -> list[str]:
  """The known names most like `name`, best first."""
  return difflib.get_close_matches(name, sorted(set(known)), n=count, cutoff=0.4)


def unknown(kind: str, name: str, known: Sequence[str]) -> InputError:
  """An error for a name that is not registered, with the nearest that are."""
  close = nearest(name, known)
  if close:
    hint = f"the nearest known: {', '.join(close)}"
  elif known:
    hint = f"known: {', '.join(sorted(known)[:20])}"
  else:
    hint = "none is registered"
  return InputError(f"unknown {kind} {name!r}; {hint}")


def choice(kind: str, value: str, known: Sequence[str]) -> str:
  """Returns `value`, or raises `InputError` when it is not one of `known`."""
  if value not in known:
    raise unknown(kind, value, list(known))
  return value


def one_of(values: Sequence[object]) -> str:
  """What may be chosen, as "1, 2 or 4"; at most the last eight."""
  shown = [str(value) for value in values][-8:]
  if len(shown) < 2:
    return "".join(shown)
  return f"{', '.join(shown[:-1])} or {shown[-1]}"


def shape(what: str, found: Sequence[int], expected: Sequence[int], remedy: str) -> None:
  """Raises `InputError` unless the two shapes are equal."""
  if tuple(found) != tuple(expected):
    raise InputError(f"{what} has shape {list(found)}, expected {list(expected)}; {remedy}")


def names(what: str, missing: Iterable[str], unexpected: Iterable[str], remedy: str):
  """Raises `InputError` listing missing (`-`) and unexpected (`+`) names."""
  lines = [f"  - {name}" for name in sorted(missing)]
  lines += [f"  + {name}" for name in sorted(unexpected)]
  if lines:
    raise InputError(
      f"{what} does not fit the model (- missing, + unexpected); {remedy}\n"
      + "\n".join(lines)
    )


def number(macro: str, value: object, least: float, remedy: str) -> None:
  """Raises `InputError` unless `value` is a finite number and at least `least`."""
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not least <= value < math.inf:  # type: ignore[operator]
    raise InputError(f"{macro} is {value!r}, expected a number from {least:g}; {remedy}")


def whole(macro: str, value: object, least: int, remedy: str) -> None:
  """Raises `InputError` unless `value` is a whole number and at least `least`."""
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    raise InputError(
      f"{macro} is {value!r}, expected a whole number from {least}; {remedy}"
    )


def text(macro: str, value: object, remedy: str) -> None:
  """Raises `InputError` unless `value` is a text."""
  if not isinstance(value, str):
    raise InputError(f"{macro} is {value!r}, expected a text; {remedy}")


def texts(macro: str, value: object, remedy: str) -> None:
  """Raises `InputError` unless `value` is a list of one or more texts."""
  is_list = isinstance(value, list | tuple) and len(value) > 0
  if not is_list or not all(isinstance(each, str) for each in value):  # type: ignore[attr-defined]
    raise InputError(f"{macro} is {value!r}, expected a list of texts; {remedy}")
