"""GGUF files of Llama-like models, the format of llama.cpp, quantised or not.

Queries and keys of the architecture "llama" have the halves of a head interleaved there:

  there   a0 b0 a1 b1 a2 b2 ...        here   a0 a1 a2 ... b0 b1 b2 ...
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import gguf_header, special_tokens
from prompt_tuning.checkpoints import gguf_tensors, llama_names
from prompt_tuning.checkpoints.checkpoint import Checkpoint
from prompt_tuning.checkpoints.gguf_tensors import unsupported
from prompt_tuning.checkpoints.leaves import Leaf, Rows
from prompt_tuning.gguf_header import unreadable

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
    raise unsupported(path, "its architecture", architecture, known)
  facts = _facts(path, _own(path, header.metadata, architecture), header)
  tensors = {name: gguf_tensors.tensor(path, name, header) for name in header.tensors}
  if architecture in _INTERLEAVED:
    tensors = {name: _in_halves(name, leaf, facts) for name, leaf in tensors.items()}
  special = special_tokens.of_gguf(path, header.metadata)
  found = llama_names.leaves_of(path, tensors, facts, _SPELLING, special)
  order = special.order()
  return Checkpoint(
    path, "GGUF", found, facts=facts, family=llama_names.FAMILY, order=order
  )


def _own(path: epath.Path, metadata: Mapping[str, Any], architecture: str) -> dict:
  """The architecture's metadata, once none asks for what is not there."""
  if metadata.get("split.count", 0) not in (0, 1):
    raise unsupported(path, "split.count", metadata["split.count"], "one file")
  prefix = f"{architecture}."
  own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
  for key, value in own.items():
    if key in _SIZES or key in _OTHERS:
      continue
    neutral = _NEUTRAL.get(key)
    if key not in _NEUTRAL or not np.isscalar(value) or value != neutral:
      expected = "none" if neutral is None else repr(neutral)
      raise unsupported(path, prefix + key, value, expected)
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
      raise unsupported(path, key, own[key], f"the size of a head, {d_kv}")
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


def _in_halves(name: str, leaf: Leaf, facts: Mapping[str, Any]) -> Leaf:
  """Queries and keys with the halves of each head one after the other."""
  module = name.rpartition(".")[0].rpartition(".")[2]
  heads = {"attn_q": facts["num_heads"], "attn_k": facts["num_kv_heads"]}
  count, d_kv = heads.get(module), facts["d_kv"]
  if count is None or leaf.shape[0] != count * d_kv:
    return leaf  # others, and those whose shape is refused later
  order = np.arange(count * d_kv, dtype=np.int32).reshape(count, d_kv // 2, 2)
  return Rows(leaf, order.swapaxes(1, 2).reshape(-1))
