"""Tiny Llama-like models on disk: random weights by transformers, GGUF files by gguf."""

import json
import os

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
_HINT = "is not installed; `pip install 'prompt-tuning[hf,llm]'` brings it"
torch = pytest.importorskip("torch", reason=f"torch {_HINT}")
transformers = pytest.importorskip("transformers", reason=f"transformers {_HINT}")
gguf = pytest.importorskip("gguf", reason=f"gguf {_HINT}")

ROWS = 300  # of the table
SIZES = {
  "vocab_size": ROWS,
  "hidden_size": 64,
  "intermediate_size": 96,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "eos_token_id": 2,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}}
_CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral"}
_INNER = {
  "input_layernorm": "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
}
_OUTER = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
}
METADATA = {
  "general.architecture": "llama",
  "llama.block_count": 2,
  "llama.context_length": 128,
  "llama.embedding_length": 64,
  "llama.feed_forward_length": 96,
  "llama.attention.head_count": 4,
  "llama.attention.head_count_kv": 2,
  "llama.rope.freq_base": 50_000.0,
  "llama.rope.dimension_count": 16,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.vocab_size": ROWS,
}


def model(kind="llama", **changes):
  """transformers' model of a kind, all of its weights random."""
  torch.manual_seed(0)
  name = _CLASSES[kind]
  config = getattr(transformers, f"{name}Config")(**{**SIZES, **ROPE, **changes})
  found = getattr(transformers, f"{name}ForCausalLM")(config).eval()
  with torch.no_grad():
    for weight in found.parameters():
      weight.copy_(torch.randn_like(weight))
  return found


def weights(found):
  """{name: array} of a model, each once."""
  return {name: weight.detach().numpy() for name, weight in found.named_parameters()}


def edit(folder, **changes):
  """Changes fields of config.json; None takes one away."""
  path = folder / "config.json"
  config = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def gguf_names(arrays, architecture="llama", heads=4, kv_heads=2):
  """{name in GGUF: array} as llama.cpp's converter stores a model's weights."""
  found = {}
  for name, array in arrays.items():
    stem, _, kind = name.rpartition(".")
    parts = stem.split(".", 3)
    is_layer = parts[:2] == ["model", "layers"]
    theirs = f"blk.{parts[2]}.{_INNER[parts[3]]}" if is_layer else _OUTER[stem]
    count = {"attn_q": heads, "attn_k": kv_heads}.get(theirs.split(".")[-1])
    if architecture == "llama" and count:
      halves = array.reshape(count, 2, len(array) // count // 2, *array.shape[1:])
      array = halves.swapaxes(1, 2).reshape(array.shape)
    found[f"{theirs}.{kind}"] = array
  return found


def write_gguf(path, tensors, metadata, kind="F32"):
  """A GGUF file; matrices are quantised to `kind`, vectors stay float32."""
  writer = gguf.GGUFWriter(path, metadata["general.architecture"])
  for key, value in metadata.items():
    if key == "general.architecture":
      continue
    if isinstance(value, bool):
      writer.add_bool(key, value)
    elif isinstance(value, int):
      writer.add_uint32(key, value)
    elif isinstance(value, float):
      writer.add_float32(key, value)
    elif isinstance(value, str):
      writer.add_string(key, value)
    else:
      writer.add_array(key, value)
  for name, array in tensors.items():
    type_ = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
    stored = gguf.quantize(np.ascontiguousarray(array), type_)
    writer.add_tensor(name, stored, raw_dtype=type_)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def dequantised(array, kind):
  """What quantising a matrix leaves of it."""
  type_ = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
  return gguf.dequantize(gguf.quantize(array, type_), type_)
