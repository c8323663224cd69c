"""Whether what the gin file of a method says still holds once the files behind it are read.

models/x.gin  runs/x.gin  methods/x.gin     as its head says
models/x.gin  methods/x.gin  runs/x.gin     the same, or the run would set one of its macros
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

from prompt_tuning import checks

_LINE = re.compile(
  r"^(?:include\s+['\"](?P<file>[^'\"]+)|(?P<macro>[A-Z][A-Z0-9_]*)\s*=\s*(?P<value>[^#\n]*))",
  re.MULTILINE,
)
_OURS = "prompt_tuning/configs/"


@dataclasses.dataclass(frozen=True)
class _Said:
  """A macro that a file sets."""

  file: str
  macro: str
  value: str

  def is_of(self, *kinds: str) -> bool:
    """Whether its file is of one of these folders."""
    return self.file.startswith(kinds)


def check(names: Sequence[str], text: Callable[[str], str]) -> None:
  """Raises `InputError` where a model or run behind a method's file would undo it.

  Args:
    names: gin files in order.
    text: The content of one.
  """
  said = [line for name in names for line in _read(name, text)]
  last = {line.macro: line for line in said}
  for line in said:
    found = last[line.macro]
    undone = line.is_of("methods/") and found.is_of("models/", "runs/")
    if undone and found.value != line.value:
      raise checks.InputError(
        f"{found.file} comes behind {line.file} and sets {line.macro} again, expected the "
        "file of a method behind those of model and run; put it last"
      )


def _read(name: str, text: Callable[[str], str]) -> Iterator[_Said]:
  """What a file sets, in order, with what it includes."""
  for line in _LINE.finditer(text(name)):
    if line["file"]:
      yield from _read(line["file"], text)
    else:
      yield _Said(name.removeprefix(_OURS), line["macro"], line["value"].strip())
