"""The special tokens of a tokenizer: what its files say of them, and the order they give.

  a GGUF file    tokenizer.ggml.*
  a folder       tokenizer.json and tokenizer_config.json; EOS else from
                 generation_config.json or config.json

Whoever reads a model's table and whoever reads its tokenizer ask here, so that both have
the same order.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, gguf_header
from prompt_tuning.token_order import TokenOrder

TOKENIZER = "tokenizer.json"
_CONFIG, _OLDER = "tokenizer_config.json", "special_tokens_map.json"
_MODEL_CONFIGS = ("generation_config.json", "config.json")
_RESERVED = (2, 3, 5)  # of tokenizer.ggml.token_type: unknown, control, unused
_GGML = "tokenizer.ggml."
_MOST = 1 << 24  # tokens of any vocabulary


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
  """Special tokens by the tokenizer's own ids.

  Attributes:
    where: The file or folder, for messages.
    reserved: Ids that text never becomes.
    count: Ids in all; None where no tokenizer is there.
    pad: Of padding, None without one; likewise `bos`, `eos` and `unk`.
    bos: Of the beginning of a text.
    eos: Of its end.
    unk: Of what the tokenizer lacks.
  """

  where: str
  reserved: frozenset[int] = frozenset()
  count: int | None = None
  pad: int | None = None
  bos: int | None = None
  eos: int | None = None
  unk: int | None = None

  def order(self) -> TokenOrder:
    """The order of tokens here.

    At 0 stands the first of these that is reserved and neither BOS nor EOS: their 0,
    their padding, their last. Without a tokenizer their 0 stays.

    Raises:
      InputError: There is none such, or no EOS.
    """
    if self.eos is None:
      raise checks.InputError(
        f"{self.where} names no end of a text, expected an eos_token_id; put it into its "
        "generation_config.json, or choose another"
      )
    if self.count is None:
      return TokenOrder(0, self.eos)
    if not 0 <= self.eos < self.count:
      raise checks.InputError(
        f"{self.where} ends a text with token {self.eos}, expected one of its {self.count} "
        "tokens; correct its eos_token_id, or choose another"
      )
    free = self.reserved - {self.bos, self.eos}
    for token in (0, self.pad, max(free, default=None)):
      if token in free:
        return TokenOrder(token, self.eos)
    raise checks.InputError(
      f"the tokenizer of {self.where} has no special token besides the beginning and the "
      "end of a text, expected one that can stand for padding; choose another"
    )


def of(path: epath.Path) -> SpecialTokens:
  """Those of a folder with tokenizer.json, or of a GGUF file.

  Raises:
    InputError: There is neither, or it is damaged.
  """
  folder = folder_of(path)
  if (folder / TOKENIZER).is_file():
    return of_folder(folder)
  found = gguf_header.find(path)
  if found is None:
    raise checks.InputError(
      f"there is no tokenizer at {path}, expected a folder with {TOKENIZER} or a GGUF "
      "file; correct the path"
    )
  return of_gguf(found, gguf_header.read(found).metadata)


def folder_of(path: epath.Path) -> epath.Path:
  """The folder that a path to tokenizer.json or to a folder means."""
  return path.parent if path.name == TOKENIZER else path


def of_gguf(path: epath.Path, metadata: Mapping[str, Any]) -> SpecialTokens:
  """Those of a GGUF file.

  Raises:
    InputError: Its tokens are damaged.
  """
  kinds = metadata.get(f"{_GGML}token_type")
  tokens = metadata.get(f"{_GGML}tokens")
  ids: dict[str, Any] = {
    name: metadata.get(f"{_GGML}{word}_token_id")
    for name, word in (
      ("pad", "padding"),
      ("bos", "bos"),
      ("eos", "eos"),
      ("unk", "unknown"),
    )
  }
  if not all(value is None or type(value) is int for value in ids.values()):
    raise gguf_header.unreadable(path, f"its token ids are {str(ids)[:120]}")
  if tokens is None:
    return SpecialTokens(str(path), **ids)
  if not isinstance(tokens, list):
    raise gguf_header.unreadable(path, f"{_GGML}tokens is no list of texts")
  if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
    raise gguf_header.unreadable(path, f"{_GGML}token_type is not there for every token")
  reserved = frozenset(np.flatnonzero(np.isin(kinds, _RESERVED)).tolist())
  return SpecialTokens(str(path), reserved, len(tokens), **ids)


def of_folder(folder: epath.Path) -> SpecialTokens:
  """Those of a Hugging Face folder, with a tokenizer or without.

  Raises:
    InputError: A file is damaged.
  """
  configs = [_json(folder / name) for name in _MODEL_CONFIGS]
  stated = [_first(config.get("eos_token_id")) for config in configs]
  eos = next((token for token in stated if token is not None), None)
  if not (folder / TOKENIZER).is_file():
    return SpecialTokens(str(folder), eos=eos)
  try:
    tokenizer = _json(folder / TOKENIZER)
    added = {row["content"]: row for row in tokenizer.get("added_tokens") or []}
    ids = _ids(tokenizer["model"]["vocab"]) | {n: row["id"] for n, row in added.items()}
    reserved = frozenset(row["id"] for row in added.values() if row["special"])
    count = max(ids.values()) + 1
    if count > _MOST or min(ids.values()) < 0:
      raise ValueError(f"it has ids up to {count - 1}")
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise _damaged(folder / TOKENIZER, repr(error)) from error
  named = {n: ids.get(text) for n, text in _names(folder).items()}
  if named.get("eos") is None:
    named["eos"] = eos
  return SpecialTokens(str(folder), reserved, count, **named)


def _names(folder: epath.Path) -> dict[str, str]:
  """The texts of pad, bos, eos and unk, as far as they are named."""
  config = _json(folder / _OLDER) | _json(folder / _CONFIG)
  found = {}
  for name in ("pad", "bos", "eos", "unk"):
    token = config.get(f"{name}_token")
    text = token.get("content") if isinstance(token, dict) else token
    if isinstance(text, str):
      found[name] = text
  return found


def _ids(vocabulary: Any) -> dict[str, int]:
  """{text: id} of a model's vocabulary, which is a map, or Unigram's list of pieces."""
  if isinstance(vocabulary, dict):
    return vocabulary
  return {row[0]: number for number, row in enumerate(vocabulary)}


def _first(token: Any) -> int | None:
  """An id, or the first of several."""
  token = next(iter(token), None) if isinstance(token, list) else token
  return token if type(token) is int else None


def _json(path: epath.Path) -> dict[str, Any]:
  """A JSON file's map; empty where there is no file."""
  if not path.is_file():
    return {}
  try:
    found = json.loads(path.read_bytes())
  except (ValueError, OSError, RecursionError) as error:
    raise _damaged(path, str(error)) from error
  if not isinstance(found, dict):
    raise _damaged(path, "it is no map")
  return found


def _damaged(path: epath.Path, why: str) -> checks.InputError:
  return checks.InputError(
    f"{path} cannot be read ({why[:120]}), expected what save_pretrained writes; copy it "
    "again or choose another"
  )
