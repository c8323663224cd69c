r"""The chat template of a model: what stands around the turn of a user.

  <|im_start|>user\n   Review: a tidy little movie.   <|im_end|>\n<|im_start|>assistant\n
  before               the text                       after

It is rendered once, around a mark; a text itself never meets it, so that no text can end
its own turn.
"""

import json
from typing import Any, NamedTuple, NoReturn

from etils import epath

from prompt_tuning import checks, gguf_header, special_tokens

_MARK = "\N{WHITE CIRCLE}the text\N{WHITE CIRCLE}"
_FILE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"
_KEY = "chat_template"


class Turn(NamedTuple):
  """What stands before and after a text, special tokens spelled out."""

  before: str
  after: str


def turn(path: epath.Path, bos: str = "", eos: str = "") -> Turn:
  """The turn of a user, and the beginning of the answer to it.

  Args:
    path: A folder with a tokenizer, or a GGUF file.
    bos: The beginning of a text as the tokenizer spells it, for templates that put it.
    eos: The end of one.

  Raises:
    InputError: There is no template, or none that can be rendered; or the package jinja2
      is missing.
  """
  try:
    import jinja2
    import jinja2.sandbox
  except ImportError as error:
    raise checks.InputError(
      f"the chat template of {path} needs the package jinja2, which is not installed; "
      "`pip install 'prompt-tuning[llm]'` brings it"
    ) from error
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
  )
  environment.globals["raise_exception"] = _refused
  try:
    whole = environment.from_string(_source(path)).render(
      messages=[{"role": "user", "content": _MARK}],
      add_generation_prompt=True,
      bos_token=bos,
      eos_token=eos,
    )
  except (jinja2.TemplateError, TypeError, ValueError, RecursionError) as error:
    raise _unusable(path, str(error)) from error
  before, mark, after = whole.partition(_MARK)
  if not mark or _MARK in after:
    raise _unusable(path, "it does not have the text of a user once")
  return Turn(before, after)


def _source(path: epath.Path) -> str:
  """The template as Jinja.

  Raises:
    InputError: There is none.
  """
  found = _of_gguf(path) or _of_folder(special_tokens.folder_of(path))
  if isinstance(found, list):  # several, by name
    named = {row["name"]: row["template"] for row in found}
    found = named.get("default")
  if not isinstance(found, str):
    raise checks.InputError(
      f"{path} has no chat template, expected one where CHAT is True; leave CHAT out, or "
      "choose a model that was tuned for chats"
    )
  return found


def _of_gguf(path: epath.Path) -> Any:
  file = gguf_header.find(path)
  return file and gguf_header.read(file).metadata.get(f"tokenizer.{_KEY}")


def _of_folder(folder: epath.Path) -> Any:
  if (folder / _FILE).is_file():
    return (folder / _FILE).read_text(encoding="utf-8")
  if not (folder / _CONFIG).is_file():
    return None
  return json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get(_KEY)


def _refused(message: str) -> NoReturn:
  raise ValueError(message)


def _unusable(path: epath.Path, why: str) -> checks.InputError:
  return checks.InputError(
    f"the chat template of {path} cannot be used ({why[:160]}), expected one for the turn "
    "of a user; leave CHAT out, or choose another model"
  )
