"""A tokenizer out of the metadata of a GGUF file.

tokenizer.ggml.model   "gpt2": BPE over bytes, cut before by the rules that
                       tokenizer.ggml.pre names; "llama": SentencePiece's BPE
.tokens .token_type    every token and its kind
.merges                pairs, the first merged first; SentencePiece has scores instead
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from prompt_tuning import checks, gguf_header

if TYPE_CHECKING:
  import tokenizers

PREFIX = "tokenizer.ggml."
_CONTROL, _USER_DEFINED, _NORMAL = 3, 4, 1
_SPACE = "▁"
_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"llama-bpe": _WORDS % "{1,3}", "qwen2": _WORDS % ""}
_CUTS = ("gpt-2", "smollm", *_SPLITS)  # tokenizer.ggml.pre


def build(path: epath.Path, metadata: Mapping[str, Any]) -> "tokenizers.Tokenizer":
  """The tokenizer that metadata describe.

  Raises:
    InputError: They are damaged or of a kind that is not known here.
  """
  import tokenizers

  tokens = metadata.get(f"{PREFIX}tokens")
  kinds = metadata.get(f"{PREFIX}token_type")
  if not isinstance(tokens, list) or kinds is None or len(set(tokens)) != len(tokens):
    raise gguf_header.unreadable(path, "its tokens are missing or not all different")
  model = metadata.get(f"{PREFIX}model")
  builders = {"gpt2": _of_bytes, "llama": _of_sentencepiece}
  if model not in builders:
    raise _unsupported(path, f"{PREFIX}model", model, builders)
  try:
    built = builders[model](path, metadata, tokens, kinds.tolist())
  except checks.InputError:
    raise
  except Exception as error:  # the package raises nothing narrower
    raise gguf_header.unreadable(path, f"its tokenizer ({str(error)[:120]})") from error
  for kind, add in (
    (_CONTROL, built.add_special_tokens),
    (_USER_DEFINED, built.add_tokens),
  ):
    options = {"normalized": False, "special": kind == _CONTROL}
    texts = (text for text, found in zip(tokens, kinds, strict=True) if found == kind)
    add([tokenizers.AddedToken(text, **options) for text in texts])
  return built


def _of_bytes(
  path: epath.Path, metadata: Mapping[str, Any], tokens: list[str], kinds: list[int]
) -> "tokenizers.Tokenizer":
  from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

  cut = metadata.get(f"{PREFIX}pre")
  if cut not in _CUTS:
    raise _unsupported(path, f"{PREFIX}pre", cut, _CUTS)
  merges = [tuple(pair.split(" ", 1)) for pair in metadata[f"{PREFIX}merges"]]
  vocabulary = {text: number for number, text in enumerate(tokens)}
  found = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=cut == "llama-bpe"))
  to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut not in _SPLITS)
  if cut in _SPLITS:
    words = pre_tokenizers.Split(Regex(_SPLITS[cut]), "isolated")
    found.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])
  elif cut == "smollm":
    digits = pre_tokenizers.Digits(individual_digits=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([digits, to_bytes])
  else:
    found.pre_tokenizer = to_bytes
  if cut == "qwen2":
    found.normalizer = normalizers.NFC()
  found.decoder = decoders.ByteLevel()
  return found


def _of_sentencepiece(
  path: epath.Path, metadata: Mapping[str, Any], tokens: list[str], kinds: list[int]
) -> "tokenizers.Tokenizer":
  from tokenizers import Tokenizer, decoders, models, normalizers

  vocabulary = {text: number for number, text in enumerate(tokens)}
  scores = metadata[f"{PREFIX}scores"].tolist()
  merges = list(_merges(tokens, kinds, scores))
  unknown = tokens[metadata.get(f"{PREFIX}unknown_token_id", 0)]
  model = models.BPE(
    vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True
  )
  found = Tokenizer(model)
  spaced = metadata.get(f"{PREFIX}add_space_prefix", True)
  before = [normalizers.Prepend(_SPACE)] if spaced else []
  found.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", _SPACE)])
  after = [decoders.Strip(" ", 1, 0)] if spaced else []
  to_text = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
  found.decoder = decoders.Sequence([*to_text, *after])
  return found


def _merges(
  tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]
) -> Iterator[tuple[str, str]]:
  """Every pair that makes a piece, best piece first: SentencePiece merges by score."""
  rows = zip(tokens, kinds, scores, strict=True)
  pieces = {text: score for text, kind, score in rows if kind == _NORMAL}
  for whole in sorted(pieces, key=pieces.__getitem__, reverse=True):
    for cut in range(1, len(whole)):
      if whole[:cut] in pieces and whole[cut:] in pieces:
        yield whole[:cut], whole[cut:]


def _unsupported(path: epath.Path, key: str, found: object, known: Any) -> Exception:
  return checks.InputError(
    f"the GGUF file {path} has a tokenizer that is not supported: {key} is "
    f"{str(found)[:40]!r}, expected one of {', '.join(known)}; name the folder of the "
    "model's tokenizer.json"
  )
