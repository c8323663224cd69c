"""Prompts that come while the service runs: bytes of a request, or a file of a folder."""

import os
import pathlib
import stat
import tempfile
from collections.abc import Sequence

from prompt_tuning import checks
from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.predictor import Predictor

_SHOWN = 200  # characters of a path
_REMEDY = "send one float array [prompt_len, d_model] as safetensors"


def add(
  predictor: Predictor, name: str, content: bytes, labels: Sequence[str] | None
) -> None:
  """Adds the prompt in the bytes of a safetensors file.

  Raises:
    InputError: It cannot be used; the message names no file of this machine.
  """
  if not safetensors_files.is_one(content[:16], len(content)):
    raise checks.InputError(f"the bytes of {name!r} are no safetensors file; {_REMEDY}")
  with tempfile.TemporaryDirectory(prefix="prompt-") as folder:
    path = pathlib.Path(folder, "prompt.safetensors")
    path.write_bytes(content)
    try:
      predictor.add(name, str(path), labels)
    except checks.InputError as error:
      text = str(error).replace(str(path), repr(name)).replace(folder, "it")
      raise checks.InputError(text) from None


def read(folder: pathlib.Path | None, name: str, most: int) -> bytes:
  """The bytes of a file in `folder`, which no name and no link leaves.

  Args:
    folder: The folder that the service was given; None where it was given none.
    name: Relative to it.
    most: Largest file in bytes.

  Raises:
    InputError: There is no such file in it, or it is too large.
  """
  if folder is None:
    raise checks.InputError(
      "the service has no folder of prompts, expected one; send the bytes of the prompt, "
      "or start the service with --prompt-dir"
    )
  root = folder.resolve()
  nothing = checks.InputError(
    f"{name[:_SHOWN]!r} is no file in the folder of prompts; name one, relative to it"
  )
  try:
    place = (root / name).resolve(strict=True)
    if not place.is_relative_to(root) or pathlib.PurePath(name).is_absolute():
      raise nothing
    with open(place, "rb", opener=_opened) as source:
      content = source.read(most + 1)
  except (OSError, ValueError, RuntimeError):
    raise nothing from None
  if len(content) > most:
    raise checks.InputError(
      f"{name[:_SHOWN]!r} has more than {most} bytes, expected a prompt; name another file"
    )
  return content


def _opened(place: str, flags: int) -> int:
  """Opens a plain file. Its links were followed; one that was put here since is not."""
  handle = os.open(place, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe does not block
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise OSError("no plain file")
  return handle
