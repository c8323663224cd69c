"""Prompts that come while the service runs: bytes of a request, or a file of a folder."""

import os
import pathlib
import stat
import tempfile
from collections.abc import Sequence

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import prompt_files, safetensors_files
from prompt_tuning.predictor import Predictor
from prompt_tuning.serving.schemas import LONGEST_LABEL

_SHOWN = 200  # characters of a path
_REMEDY = "send one float array [prompt_len, d_model] as safetensors"


def add(
  predictor: Predictor,
  name: str,
  content: bytes,
  labels: Sequence[str] | None,
  most_labels: int,
) -> None:
  """Adds the prompt in the bytes of a safetensors file, which may name its labels.

  Raises:
    InputError: It cannot be used; the message names no file of this machine.
  """
  if not safetensors_files.is_one(content[:16], len(content)):
    raise checks.InputError(f"the bytes of {name!r} are no safetensors file; {_REMEDY}")
  with tempfile.TemporaryDirectory(prefix="prompt-") as folder:
    path = pathlib.Path(folder, "prompt.safetensors")
    path.write_bytes(content)
    try:
      file = prompt_files.read(files.path(path))
      _check_labels(file.metadata.get("labels"), most_labels)
      predictor.add(name, str(path), labels)
    except checks.InputError as error:
      text = str(error).replace(str(path), repr(name)).replace(folder, "it")
      raise checks.InputError(text) from None


def _check_labels(labels: object, most: int) -> None:
  """Raises `InputError` for more than a request may name, before they become tokens."""
  if not isinstance(labels, list):
    return  # the predictor says what is wrong with anything else
  longest = max((len(label) for label in labels if isinstance(label, str)), default=0)
  if len(labels) > most or longest > LONGEST_LABEL:
    raise checks.InputError(
      f"the file names {len(labels)} labels of up to {longest} characters, expected at "
      f"most {most} of {LONGEST_LABEL}; name them in the address"
    )


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
