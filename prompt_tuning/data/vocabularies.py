"""Where a vocabulary lies, and making one.

Our own tasks speak `current()`, which a run sets from its macro VOCABULARY, so that one
setting decides for every task, online or off (`run_vocabulary`).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

from etils import epath

from prompt_tuning import checks, files, gguf_header, special_tokens, token_order
from prompt_tuning.data import quiet, tokenizer_files

T5_PATH = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
MT5_PATH = "gs://t5-data/vocabs/mc4.250000.100extra/sentencepiece.model"
EXTRA_IDS = 100  # sentinels above the pieces, as in every T5
FIRST_SENTINEL = "<extra_id_0>"  # the one with the highest id


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencePiece:
  """A SentencePiece vocabulary with sentinels.

  Attributes:
    sentencepiece_model_file: The .model file, local, gs:// or package://.
    extra_ids: Sentinels above the pieces.
  """

  sentencepiece_model_file: str = T5_PATH
  extra_ids: int = EXTRA_IDS
  order: ClassVar = token_order.OURS

  @property
  def name(self) -> str:
    """Where it lies."""
    return self.sentencepiece_model_file

  def load(self) -> Any:
    """The `seqio.SentencePieceVocabulary`.

    Raises:
      InputError: The file is absent or damaged.
    """
    return _load(str(files.path(self.sentencepiece_model_file)), self.extra_ids)

  def is_here(self) -> bool:
    """Whether its file is on this machine."""
    name = self.sentencepiece_model_file
    return not files.is_remote(name) and files.path(name).exists()

  def fingerprint(self) -> str:
    """SHA-256 of its file, which tells vocabularies apart."""
    return files.sha256(files.path(self.sentencepiece_model_file))

  def described(self) -> dict[str, Any]:
    """What a manifest says of it: its file's hash, sentinels and ids in all."""
    return {
      "sha256": self.fingerprint(),
      "extra_ids": self.extra_ids,
      "ids": self.load().vocab_size,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bytes:
  """ByT5's vocabulary: the 256 bytes behind pad 0, EOS 1 and unknown 2.

  Attributes:
    extra_ids: Sentinels above the bytes.
  """

  extra_ids: int = 0
  order: ClassVar = token_order.OURS

  @property
  def name(self) -> str:
    """It lies nowhere."""
    return "bytes"

  def load(self) -> Any:
    """The `seqio.ByteVocabulary`."""
    quiet.import_seqio()
    import seqio

    return seqio.ByteVocabulary(self.extra_ids)

  def is_here(self) -> bool:
    """It has no file to be missing."""
    return True

  def fingerprint(self) -> str:
    """There is only one, so its name will do."""
    return self.name

  def described(self) -> dict[str, Any]:
    """What a manifest says of it."""
    return {
      "sha256": self.fingerprint(),
      "extra_ids": self.extra_ids,
      "ids": self.load().vocab_size,
    }


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """The tokenizer of a decoder-only model, its ids in our order: pad 0, EOS 1.

  Attributes:
    path: A folder with tokenizer.json, or a GGUF file; local or package://.
    specials: Whether special tokens that are spelled out in a text are those tokens.
    chat: Whether inputs are a user's turn in the chat template of the model.
  """

  path: str
  specials: bool = False
  chat: bool = False

  @property
  def name(self) -> str:
    """Where it lies."""
    return self.path

  @property
  def order(self) -> token_order.TokenOrder:
    """Which of its tokens stand at 0 and 1."""
    return special_tokens.of(files.path(self.path)).order()

  def load(self) -> Any:
    """The `TokenizerVocabulary`.

    Raises:
      InputError: It is absent, damaged or of a kind that is not known.
    """
    return _load_tokenizer(str(files.path(self.path)), self.specials)

  def load_inputs(self) -> Any:
    """The vocabulary of inputs, which puts them into the chat template where asked.

    Raises:
      InputError: As `load`, or there is no template.
    """
    if not self.chat:
      return self.load()
    return _load_chat(str(files.path(self.path)), self.specials)

  def is_here(self) -> bool:
    """Whether its file is on this machine."""
    if files.is_remote(self.path):
      return False
    return tokenizer_files.find(files.path(self.path)) is not None

  def fingerprint(self) -> str:
    """SHA-256 of the tokenizer, which tells vocabularies apart; marked where it chats."""
    found = tokenizer_files.fingerprint(files.path(self.path))
    return f"{found} chat" if self.chat else found

  def described(self) -> dict[str, Any]:
    """What a manifest says of it: its hash and ids in all."""
    return {
      "sha256": self.fingerprint(),
      "extra_ids": 0,
      "ids": self.load().vocab_size,
    }


Vocabulary = SentencePiece | Bytes | Tokenizer


def inputs(vocabulary: Vocabulary) -> Any:
  """The seqio vocabulary of inputs."""
  if isinstance(vocabulary, Tokenizer):
    return vocabulary.load_inputs()
  return vocabulary.load()


def targets(vocabulary: Vocabulary) -> Any:
  """The seqio vocabulary of targets."""
  return vocabulary.load()


T5 = SentencePiece()
MT5 = SentencePiece(sentencepiece_model_file=MT5_PATH)
BYT5 = Bytes()
EMBEDDED = SentencePiece(
  sentencepiece_model_file="package://assets/t5_1_1_reviews/sentencepiece.model"
)


def of_size(rows: int) -> Vocabulary:
  """The vocabulary of the published models whose embedding table has so many rows.

  Raises:
    InputError: There is none.
  """
  known: dict[int, Vocabulary] = {4096: EMBEDDED, 32128: T5, 250112: MT5, 384: BYT5}
  if rows not in known:
    raise checks.InputError(
      f"no published model has a table of {rows} rows, expected one of {sorted(known)}; "
      "name the vocabulary"
    )
  return known[rows]


def named(text: str | None) -> Vocabulary | None:
  """The vocabulary that a flag names: a file or folder of one, or "bytes"."""
  if text is None:
    return None
  if text == BYT5.name:
    return BYT5
  tokenizer = Tokenizer(text)
  if text.endswith(gguf_header.SUFFIX) or tokenizer.is_here():
    return tokenizer
  return SentencePiece(sentencepiece_model_file=text)


_current: list[Vocabulary] = []


def use(vocabulary: Vocabulary | None) -> None:
  """Makes `vocabulary` the one that built-in tasks speak; None gives each its default."""
  _current[:] = [] if vocabulary is None else [vocabulary]


def chosen() -> Vocabulary | None:
  """The vocabulary of the run, None where no run has set one."""
  return _current[0] if _current else None


def current(default: Vocabulary = T5) -> Vocabulary:
  """The vocabulary of the run, or `default`."""
  return chosen() or default


def train(
  texts: Sequence[pathlib.Path], out: pathlib.Path, pieces: int, threads: int = 2
) -> None:
  """Trains a SentencePiece unigram model laid out as T5's: pad 0, EOS 1, unknown 2.

  Case-folding and byte fallback, so that a small vocabulary covers any text.

  Args:
    texts: Files with one document per line.
    out: Path of the .model file.
    pieces: Pieces without sentinels.
    threads: Processor threads.

  Raises:
    InputError: There is no text, or too little for so many pieces.
  """
  import sentencepiece

  if not any(path.exists() and path.stat().st_size for path in texts):
    raise checks.InputError(
      f"there is no text in {', '.join(map(str, texts))}, expected one document per "
      "line; run `prompt-tuning corpus`"
    )
  try:
    sentencepiece.SentencePieceTrainer.train(
      input=",".join(map(str, texts)),
      model_prefix=str(out.with_suffix("")),
      vocab_size=pieces,
      model_type="unigram",
      normalization_rule_name="nmt_nfkc_cf",
      byte_fallback=True,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      input_sentence_size=300_000,
      max_sentence_length=100_000,
      num_threads=threads,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise checks.InputError(
      f"no vocabulary of {pieces} pieces could be trained ({str(error)[-160:]}); use "
      "more text or fewer pieces"
    ) from error
  out.with_suffix(".vocab").unlink(missing_ok=True)


@functools.cache
def _load_tokenizer(path: str, specials: bool) -> Any:
  quiet.import_seqio()
  tokenizer, special = tokenizer_files.load(epath.Path(path))
  from prompt_tuning.data import tokenizer_vocabulary

  return tokenizer_vocabulary.TokenizerVocabulary(tokenizer, special, specials)


@functools.cache
def _load_chat(path: str, specials: bool) -> Any:
  quiet.import_seqio()
  tokenizer, special = tokenizer_files.load(epath.Path(path))
  from prompt_tuning.data import chat_templates, tokenizer_vocabulary

  spelled = _load_tokenizer(path, True)
  bos, eos = (
    "" if token is None else tokenizer.id_to_token(token) or ""
    for token in (special.bos, special.eos)
  )
  turn = chat_templates.turn(epath.Path(path), bos, eos)
  around = (tuple(spelled.encode(turn.before)), tuple(spelled.encode(turn.after)))
  return tokenizer_vocabulary.TokenizerVocabulary(tokenizer, special, specials, around)


@functools.cache
def _load(path: str, extra_ids: int) -> Any:
  quiet.import_seqio()
  import seqio

  vocabulary = seqio.SentencePieceVocabulary(path, extra_ids)
  try:
    _ = vocabulary.vocab_size
  except Exception as error:  # TensorFlow's and SentencePiece's own kinds
    raise checks.InputError(
      f"the vocabulary {path} cannot be read ({str(error)[:120]}), expected a "
      "SentencePiece model; correct VOCABULARY, or --vocabulary of `prompt-tuning tasks`"
    ) from error
  return vocabulary
