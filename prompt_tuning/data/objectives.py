"""Pretraining examples from token arrays, in numpy: no TensorFlow on the pretraining host.

Every function takes a `numpy.random.Generator`, so a batch is a function of seed and
step, and a run resumes without any saved position.

  span corruption   Thank you <X> me to your party <Y>  ->  <X> for inviting <Y> last week
  prefix LM         Thank you for inviting  ->  me to your party last week
  labelled          sentiment: Thank you for inviting me  ->  positive
"""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable

import numpy as np

from prompt_tuning import checks

EOS = 1
Batch = dict[str, np.ndarray]
Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Tokens:
  """A tokenized corpus.

  Attributes:
    text: [length] uint16 or int32, documents one after another, each ended by EOS.
    inputs: [examples_len], the inputs of labelled examples one after another.
    starts: [examples + 1], where each labelled example begins in `inputs`.
    prefix: [examples], tokens at the head of each example that every window keeps.
    targets: [examples, target_len], 0 pads, EOS included.
  """

  text: np.ndarray
  inputs: np.ndarray
  starts: np.ndarray
  prefix: np.ndarray
  targets: np.ndarray


def tokenize(
  folder: pathlib.Path, encode: Callable[[list[str]], list[list[int]]]
) -> Tokens:
  """Tokenizes a corpus folder, or reads `tokens.npz` where it did so before."""
  cache = folder / "tokens.npz"
  if not cache.exists():
    text = (folder / "text.txt").read_text(encoding="utf-8").splitlines()
    rows = (folder / "labelled.jsonl").read_text(encoding="utf-8").splitlines()
    examples = [json.loads(row) for row in rows]
    if not text and not examples:
      raise checks.InputError(
        f"the corpus {folder} is empty, expected documents; run `prompt-tuning corpus`"
      )
    inputs = encode([e["inputs"] for e in examples])
    heads = {h: len(encode([h])[0]) for h in {_head(e["inputs"]) for e in examples}}
    targets = encode([e["targets"] for e in examples])
    np.savez(
      cache,
      text=_joined([[*ids, EOS] for ids in encode(text)]),
      inputs=_joined(inputs),
      starts=np.cumsum([0] + [len(ids) for ids in inputs]),
      prefix=np.array([heads[_head(e["inputs"])] for e in examples], np.int32),
      targets=_padded([[*ids, EOS] for ids in targets]),
    )
  with np.load(cache, allow_pickle=False) as arrays:
    return Tokens(**{f.name: arrays[f.name] for f in dataclasses.fields(Tokens)})


def _head(inputs: str) -> str:
  return inputs.partition(": ")[0] + ":"


def _joined(rows: list[list[int]]) -> np.ndarray:
  return np.array(list(itertools.chain.from_iterable(rows)), np.int32)


def _padded(rows: list[list[int]], length: int | None = None) -> np.ndarray:
  length = length or max(map(len, rows), default=0)
  out = np.zeros((len(rows), length), np.int32)
  for i, row in enumerate(rows):
    out[i, : len(row)] = row[:length]
  return out


def span_lengths(input_len: int, density: float = 0.15, mean_span: float = 3.0):
  """How many raw tokens fill `input_len` once corrupted, and the targets' length.

  Returns:
    (raw_len, target_len), both counting one EOS in what they produce.

  Raises:
    InputError: Not even one span fits.
  """

  def lengths(raw: int) -> tuple[int, int]:
    noise = round(raw * density)
    spans = round(noise / mean_span)
    return raw - noise + spans + 1, noise + spans + 1

  raw = input_len
  if lengths(raw)[1] < 3:
    raise checks.InputError(
      f"an input length of {input_len} is too short for one span of {mean_span} tokens "
      f"at density {density}; use at least {int(2 * mean_span / density)}"
    )
  while lengths(raw + 1)[0] <= input_len:
    raw += 1
  return raw, lengths(raw)[1]


def span_corruption(
  tokens: np.ndarray, rng: Rng, top: int, density: float = 0.15, mean_span: float = 3.0
) -> tuple[list[int], list[int]]:
  """Replaces random spans by sentinels (Raffel et al. 2020, section 3.1.4).

  Args:
    tokens: [raw_len] int.
    rng: Source of the spans.
    top: Id of the first sentinel, counted downwards.
    density: Share of tokens that are hidden.
    mean_span: Mean length of a hidden span.

  Returns:
    Inputs with one sentinel per hidden span, and targets with each sentinel followed
    by what it hides; both end in EOS.
  """
  noise = round(len(tokens) * density)
  spans = max(1, round(noise / mean_span))
  hidden = _partition(noise, spans, rng)
  shown = _partition(len(tokens) - noise, spans, rng)
  inputs: list[int] = []
  targets: list[int] = []
  at = 0
  for i, (keep, hide) in enumerate(zip(shown, hidden, strict=True)):
    inputs += [*tokens[at : at + keep], top - i]
    targets += [top - i, *tokens[at + keep : at + keep + hide]]
    at += keep + hide
  return [*inputs, EOS], [*targets, EOS]


def _partition(total: int, parts: int, rng: Rng) -> np.ndarray:
  """`parts` positive integers that sum to `total`, all such splits equally likely."""
  cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
  return np.diff(np.concatenate([[0], cuts, [total]]))


def prefix_lm(tokens: np.ndarray, rng: Rng, target_len: int) -> tuple[list, list]:
  """A prefix and its continuation, cut so that the continuation fits `target_len`."""
  least = len(tokens) - (target_len - 1)
  cut = int(rng.integers(max(1, least), len(tokens)))
  return [*tokens[:cut], EOS], [*tokens[cut:], EOS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
  """One kind of batch and how often it is drawn.

  Attributes:
    kind: "span_corruption", "prefix_lm" or "labelled".
    rate: Share of steps, relative to the other objectives.
    batch_size: Rows of a batch.
    input_len: Encoder tokens of a row.
    target_len: Decoder tokens of a row; span corruption computes its own.
  """

  kind: str
  rate: float = 1.0
  batch_size: int
  input_len: int
  target_len: int = 0

  def __post_init__(self):
    checks.choice("objective", self.kind, ("span_corruption", "prefix_lm", "labelled"))

  def batch(self, tokens: Tokens, rng: Rng, vocab_size: int) -> Batch:
    """A batch with T5X's feature names, int32, padded with 0."""
    rows = [self._row(tokens, rng, vocab_size - 1) for _ in range(self.batch_size)]
    target_len = self.target_len
    if self.kind == "span_corruption":
      target_len = span_lengths(self.input_len)[1]
    targets = _padded([row[1] for row in rows], target_len)
    return {
      "encoder_input_tokens": _padded([row[0] for row in rows], self.input_len),
      "decoder_target_tokens": targets,
      "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
      "decoder_loss_weights": (targets > 0).astype(np.int32),
    }

  def _row(self, tokens: Tokens, rng: Rng, top: int) -> tuple[list, list]:
    if self.kind == "labelled":
      return _labelled_row(tokens, rng, self.input_len)
    length = self.input_len
    if self.kind == "span_corruption":
      length = span_lengths(self.input_len)[0]
    at = int(rng.integers(0, len(tokens.text) - length))
    window = tokens.text[at : at + length]
    if self.kind == "span_corruption":
      return span_corruption(window, rng, top)
    return prefix_lm(window, rng, self.target_len)


def _labelled_row(tokens: Tokens, rng: Rng, input_len: int) -> tuple[list, list]:
  """A random window of a random labelled example, behind the example's head."""
  i = int(rng.integers(0, len(tokens.prefix)))
  row = tokens.inputs[tokens.starts[i] : tokens.starts[i + 1]]
  head, body = row[: tokens.prefix[i]], row[tokens.prefix[i] :]
  room = input_len - len(head) - 1
  at = int(rng.integers(0, max(1, len(body) - room + 1)))
  return [*head, *body[at : at + room], EOS], list(tokens.targets[i])
