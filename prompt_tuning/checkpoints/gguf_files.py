"""GGUF files of Llama-like models, the format of llama.cpp, quantised or not.

A tensor is dequantised to float32 when it is read, a few thousand rows at a time. Queries
and keys of the architecture "llama" lie there with the halves of a head interleaved:

  there   a0 b0 a1 b1 a2 b2 ...        here   a0 a1 a2 ... b0 b1 b2 ...
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, gguf_header, special_tokens
from prompt_tuning.checkpoints import leaves, llama_names
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.leaves import Index, Leaf, Rows
from prompt_tuning.gguf_header import unreadable
from prompt_tuning.types import Shape

find = gguf_header.find
_ARCHITECTURES = ("llama", "qwen2")
_INTERLEAVED = ("llama",)  # architectures whose queries and keys are
_SPELLING = llama_names.Spelling(
  layer="blk.{}",
  table="token_embd.weight",
  norm="output_norm.weight",
  head="output.weight",
  inner={
    "pre_self_attention_layer_norm": "attn_norm",
    "self_attention/query": "attn_q",
    "self_attention/key": "attn_k",
    "self_attention/value": "attn_v",
    "self_attention/out": "attn_output",
    "pre_mlp_layer_norm": "ffn_norm",
    "mlp/wi_0": "ffn_gate",
    "mlp/wi_1": "ffn_up",
    "mlp/wo": "ffn_down",
  },
)
_QUERY_BIAS = "blk.0.attn_q.bias"
_ROPE_FACTORS = "rope_freqs.weight"
_ROPE_BASE = 10_000.0
_SIZES = {  # metadata of the architecture -> fact
  "block_count": "num_layers",
  "embedding_length": "d_model",
  "feed_forward_length": "d_ff",
  "attention.head_count": "num_heads",
}
_OTHERS = (
  "attention.head_count_kv",
  "attention.key_length",
  "attention.layer_norm_rms_epsilon",
  "attention.value_length",
  "context_length",
  "rope.dimension_count",
  "rope.freq_base",
  "vocab_size",
)
_NEUTRAL = {  # metadata that would change what a model computes, and when they do not
  "attention.causal": True,
  "attention.sliding_window": 0,
  "expert_count": 0,
  "expert_used_count": 0,
  "rope.scale_linear": 1,
  "rope.scaling.factor": 1,
  "rope.scaling.type": "none",
}
_CHUNK = 1 << 22  # elements that are dequantised at a time


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a file.

  Attributes:
    shape: Its shape, a vector's or a matrix's.
    path: The file.
    name: In the file, for messages.
    kind: GGML's type.
    offset: Of its first byte in the file.
    block: Elements of a row that are quantised together, and the bytes that they take.
  """

  shape: Shape
  path: epath.Path
  name: str
  kind: Any
  offset: int
  block: tuple[int, int]
  dtype = np.dtype(np.float32)

  @property
  def _row(self) -> int:
    """Bytes of a row in the file."""
    return _row(self.shape, self.block)

  def read(self, index: Index | None = None, dtype: np.dtype | None = None) -> np.ndarray:
    """See `Leaf`; reads the rows that the box touches."""
    box = leaves.bounded(index or leaves.whole(self.shape), self.shape)
    *first, columns = box
    rows = first[0] if first else slice(0, 1)
    count, width = max(rows.stop - rows.start, 0), self.shape[-1]
    span = max(columns.stop - columns.start, 0)
    values = np.empty((count, span), self.dtype if dtype is None else dtype)
    step = max(1, _CHUNK // max(width, 1))
    with self.path.open("rb") as source:
      source.seek(self.offset + rows.start * self._row)
      for begin in range(0, count, step):
        end = min(begin + step, count)
        content = source.read((end - begin) * self._row)
        values[begin:end] = self._values(content, end - begin)[:, columns]
    return values if first else values[0]

  def _values(self, content: bytes, rows: int) -> np.ndarray:
    """[rows, width] float32 of the bytes of so many rows."""
    import gguf

    if len(content) != rows * self._row:
      raise unreadable(self.path, f"it ends in the middle of {self.name}")
    stored = np.frombuffer(content, np.uint8).reshape(rows, self._row)
    return gguf.dequantize(stored, self.kind)


def read(path: epath.Path) -> Checkpoint:
  """Opens a file; no tensor is read.

  Raises:
    InputError: It is damaged, of another architecture, or asks for what is not there; or
      the `gguf` package is missing.
  """
  header = gguf_header.read(path)
  architecture = header.metadata.get("general.architecture")
  if architecture not in _ARCHITECTURES:
    known = f"one of {', '.join(_ARCHITECTURES)}"
    raise _unsupported(path, "its architecture", architecture, known)
  facts = _facts(path, _own(path, header.metadata, architecture), header)
  tensors = {name: _tensor(path, name, header) for name in header.tensors}
  if architecture in _INTERLEAVED:
    tensors = {name: _in_halves(name, leaf, facts) for name, leaf in tensors.items()}
  special = special_tokens.of_gguf(path, header.metadata)
  found = llama_names.leaves_of(path, tensors, facts, _SPELLING, special)
  return Checkpoint(path, "GGUF", found, facts=facts, family=llama_names.FAMILY)


def _own(path: epath.Path, metadata: Mapping[str, Any], architecture: str) -> dict:
  """The architecture's metadata, once none asks for what is not there."""
  if metadata.get("split.count", 0) not in (0, 1):
    raise _unsupported(path, "split.count", metadata["split.count"], "one file")
  prefix = f"{architecture}."
  own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
  for key, value in own.items():
    if key in _SIZES or key in _OTHERS:
      continue
    neutral = _NEUTRAL.get(key)
    if key not in _NEUTRAL or not np.isscalar(value) or value != neutral:
      expected = "none" if neutral is None else repr(neutral)
      raise _unsupported(path, prefix + key, value, expected)
  return own


def _facts(
  path: epath.Path, own: Mapping[str, Any], header: gguf_header.Header
) -> dict[str, Any]:
  facts = {fact: _whole(path, own, key) for key, fact in _SIZES.items()}
  heads = facts["num_heads"]
  d_kv = _whole(path, own, "attention.key_length", facts["d_model"] // heads)
  kv_heads = _whole(path, own, "attention.head_count_kv", heads)
  for key in ("attention.value_length", "rope.dimension_count"):
    if _whole(path, own, key, d_kv) != d_kv:
      raise _unsupported(path, key, own[key], f"the size of a head, {d_kv}")
  if facts["num_layers"] > llama_names.MOST_LAYERS or heads % kv_heads or d_kv % 2:
    raise unreadable(path, f"its sizes do not fit each other ({facts}, {kv_heads}, {d_kv})")
  table = header.tensors.get(_SPELLING.table)
  if table is None:
    raise unreadable(path, f"{_SPELLING.table} is not in it")
  return facts | {
    "vocab_size": _whole(path, own, "vocab_size", table.shape[0] if table.shape else 0),
    "num_kv_heads": kv_heads,
    "d_kv": d_kv,
    "rope_base": _positive(path, own, "rope.freq_base", _ROPE_BASE),
    "norm_epsilon": _positive(path, own, "attention.layer_norm_rms_epsilon"),
    "tied_logits": _SPELLING.head not in header.tensors,
    "attention_bias": _QUERY_BIAS in header.tensors,
  }


def _whole(
  path: epath.Path, own: Mapping[str, Any], key: str, default: int | None = None
) -> int:
  value = own.get(key, default)
  if type(value) is not int or not 0 < value <= llama_names.MOST_SIZE:
    raise unreadable(path, f"{key} is {str(value)[:40]!r}, no size")
  return value


def _positive(
  path: epath.Path, own: Mapping[str, Any], key: str, default: float | None = None
) -> float:
  value = own.get(key, default)
  if type(value) is not float or not 0 < value < np.inf:
    raise unreadable(path, f"{key} is {str(value)[:40]!r}, no positive number")
  return float(str(np.float32(value)))  # 1e-05, where float32 has 9.99999975e-06


def _tensor(path: epath.Path, name: str, header: gguf_header.Header) -> Leaf:
  """A tensor whose bytes are in the file, all of them."""
  if name == _ROPE_FACTORS:
    raise _unsupported(path, "it has a tensor that scales positions,", name, "none")
  shape, number, offset = header.tensors[name]
  kind, block = _kind(path, number)
  try:
    shape = leaves.shape_of(shape)
  except ValueError as error:
    raise unreadable(path, f"{name}: {error}") from error
  if not 1 <= len(shape) <= 2 or 0 in shape or shape[-1] % block[0]:
    raise unreadable(path, f"{name} is {list(shape)} in blocks of {block[0]}")
  if offset + math.prod(shape[:-1]) * _row(shape, block) > header.size:
    raise unreadable(path, f"it ends in the middle of {name}")
  return Tensor(shape, path, name, kind, offset, block)


def _row(shape: Shape, block: tuple[int, int]) -> int:
  """Bytes of a row of that shape in the file."""
  elements, nbytes = block
  return shape[-1] // elements * nbytes


def _kind(path: epath.Path, number: int) -> tuple[Any, tuple[int, int]]:
  """GGML's type of that number, and its blocks."""
  try:
    import gguf
  except ImportError as error:
    raise checks.InputError(
      f"the GGUF file {path} needs the package gguf, which is not installed; "
      "`pip install 'prompt-tuning[llm]'` brings it"
    ) from error
  name = str(number)
  try:
    kind = gguf.GGMLQuantizationType(number)
    name = kind.name
    elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
    gguf.dequantize(np.zeros((1, nbytes), np.uint8), kind)
  except (ValueError, KeyError, NotImplementedError) as error:
    known = "F32, F16, BF16, Q8_0, Q4_1 or another that gguf dequantises"
    raise _unsupported(path, "the type of a tensor", name, known) from error
  return kind, (elements, nbytes)


def _in_halves(name: str, leaf: Leaf, facts: Mapping[str, Any]) -> Leaf:
  """Queries and keys with the halves of each head one after the other."""
  heads = {"attn_q": facts["num_heads"], "attn_k": facts["num_kv_heads"]}
  count, d_kv = heads.get(name.split(".")[-2]), facts["d_kv"]
  if count is None or leaf.shape[0] != count * d_kv:
    return leaf  # others, and those whose shape is refused later
  order = np.arange(count * d_kv, dtype=np.int32).reshape(count, d_kv // 2, 2)
  return Rows(leaf, order.swapaxes(1, 2).reshape(-1))


def _unsupported(
  path: epath.Path, what: str, found: object, expected: str
) -> checks.InputError:
  return checks.InputError(
    f"the GGUF file {path} is of a model that is not supported: {what} is "
    f"{str(found)[:60]!r}, expected {expected}; choose another, or the model's Hugging "
    "Face folder"
  )
