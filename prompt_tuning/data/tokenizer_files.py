"""Where a tokenizer of the `tokenizers` package lies: tokenizer.json, or a GGUF file."""

import hashlib
from typing import TYPE_CHECKING, Any

from etils import epath

from prompt_tuning import checks, gguf_header, special_tokens
from prompt_tuning.data import gguf_tokenizers
from prompt_tuning.special_tokens import TOKENIZER, SpecialTokens

if TYPE_CHECKING:
  import tokenizers


def find(path: epath.Path) -> epath.Path | None:
  """The file that a path means: tokenizer.json or a folder with it, or a GGUF file."""
  json = special_tokens.folder_of(path) / TOKENIZER
  return json if json.is_file() else gguf_header.find(path)


def load(path: epath.Path) -> tuple["tokenizers.Tokenizer", SpecialTokens]:
  """The tokenizer and its special tokens.

  Raises:
    InputError: It is absent, damaged or of a kind that is not known; or the `tokenizers`
      package is missing.
  """
  try:
    import tokenizers
  except ImportError as error:
    raise checks.InputError(
      f"the tokenizer {path} needs the package tokenizers, which is not installed; "
      "`pip install 'prompt-tuning[llm]'` brings it"
    ) from error
  place = find(path)
  if place is None or place.name == TOKENIZER:
    special = special_tokens.of(path)
    text = (special_tokens.folder_of(path) / TOKENIZER).read_text(encoding="utf-8")
    try:
      found = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing narrower
      raise checks.InputError(
        f"the tokenizer {path} cannot be read ({str(error)[:120]}), expected what "
        "save_pretrained writes; copy it again or choose another"
      ) from error
    found.no_truncation()
    found.no_padding()
    return found, special
  metadata = gguf_header.read(place).metadata
  return gguf_tokenizers.build(place, metadata), special_tokens.of_gguf(place, metadata)


def fingerprint(path: epath.Path) -> str:
  """SHA-256 of the tokenizer alone, weights aside, and of our order of its tokens.

  Raises:
    InputError: It is absent or damaged.
  """
  special = special_tokens.of(path)
  place = find(path)
  assert place is not None  # or `of` had raised
  known = hashlib.sha256(repr(special.order()).encode())
  if place.name == TOKENIZER:
    known.update(place.read_bytes())
    return known.hexdigest()
  for key, value in sorted(gguf_header.read(place).metadata.items()):
    if key.startswith(gguf_tokenizers.PREFIX):
      known.update(f"{key}={_plain(value)!r}".encode())
  return known.hexdigest()


def _plain(value: Any) -> Any:
  """An array as a list; other values as they are."""
  return value.tolist() if hasattr(value, "tolist") else value
