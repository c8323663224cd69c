"""Hugging Face folders of Llama, SmolLM, Qwen2, and Mistral without a window.

What such a config can ask for beyond these (scaled rotary positions, a sliding window,
other activations, quantised weights) is refused by its name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import special_tokens
from prompt_tuning.checkpoints import huggingface_folder, llama_names
from prompt_tuning.checkpoints.checkpoint import Checkpoint, unreadable
from prompt_tuning.checkpoints.huggingface_folder import size_of, unsupported
from prompt_tuning.checkpoints.leaves import Leaf, equal

_MODEL_TYPES = ("llama", "qwen2", "mistral")
_FAMILIES = "Llama, Mistral or Qwen2 without it"
_SPELLING = llama_names.Spelling(
  layer="model.layers.{}",
  table="model.embed_tokens.weight",
  norm="model.norm.weight",
  head="lm_head.weight",
  inner={
    "pre_self_attention_layer_norm": "input_layernorm",
    "self_attention/query": "self_attn.q_proj",
    "self_attention/key": "self_attn.k_proj",
    "self_attention/value": "self_attn.v_proj",
    "self_attention/out": "self_attn.o_proj",
    "pre_mlp_layer_norm": "post_attention_layernorm",
    "mlp/wi_0": "mlp.gate_proj",
    "mlp/wi_1": "mlp.up_proj",
    "mlp/wo": "mlp.down_proj",
  },
)
_SURPLUS = ".rotary_emb.inv_freq"  # early versions stored what follows from the config
_OUT_BIAS = ".self_attn.o_proj.bias"
_WINDOW = 4096  # of a Mistral whose config does not say
_ROPE_BASE, _EPSILON = 10_000.0, 1e-6
# What transformers assumes of a config that does not say.
_KV_HEADS = {"llama": None, "qwen2": 32, "mistral": 8}


def find(path: epath.Path) -> epath.Path | None:
  """The folder that a path means, None where its model is of another family."""
  folder = huggingface_folder.find(path)
  if folder is None:
    return None
  kind = huggingface_folder.config_of(folder).get("model_type")
  return folder if kind in _MODEL_TYPES else None


def read(folder: epath.Path) -> Checkpoint:
  """Opens a folder; no weight is read but those that tell whether logits are tied.

  Raises:
    InputError: It is damaged, or asks for what is not there.
  """
  config = huggingface_folder.config_of(folder)
  _check(config, folder)
  tensors = {
    name: leaf
    for name, leaf in huggingface_folder.tensors_of(folder).items()
    if not name.endswith(_SURPLUS)
  }
  if any(name.endswith(_OUT_BIAS) for name in tensors):
    raise unsupported(folder, "attention_bias", True, (False,), _FAMILIES)
  facts = _facts(config, folder, tensors)
  if facts["tied_logits"]:
    tensors.pop(_SPELLING.head, None)
  special = special_tokens.of_folder(folder)
  found = llama_names.leaves_of(folder, tensors, facts, _SPELLING, special)
  order = special.order()
  return Checkpoint(
    folder, "Hugging Face", found, facts=facts, family=llama_names.FAMILY, order=order
  )


def _check(config: Mapping[str, Any], folder: epath.Path) -> None:
  """Raises `InputError` for what the model here does not compute."""
  kind, rope = config["model_type"], _rope(config)
  window = config.get("sliding_window", _WINDOW) if kind == "mistral" else None
  known = {
    "hidden_act": (config.get("hidden_act", "silu"), "silu"),
    "mlp_bias": (bool(config.get("mlp_bias")), False),
    "quantization_config": (config.get("quantization_config"), None),
    "use_sliding_window": (bool(config.get("use_sliding_window")), False),
    "sliding_window": (window, None),
    "rope_parameters": (rope.get("rope_type", rope.get("type", "default")), "default"),
    "rope_parameters of a layer": (any(isinstance(v, dict) for v in rope.values()), False),
    "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), 1.0),
  }
  for field, (value, expected) in known.items():
    if value != expected:
      raise unsupported(folder, field, value, (expected,), _FAMILIES)


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
  """Rotary positions as transformers 5 writes them, or 4: {} is none but the usual."""
  found = config.get("rope_parameters") or config.get("rope_scaling") or {}
  return found if isinstance(found, dict) else {"rope_type": found}


def _facts(
  config: Mapping[str, Any], folder: epath.Path, tensors: Mapping[str, Leaf]
) -> dict[str, Any]:
  kind = config["model_type"]
  sizes = {
    "vocab_size": size_of(config, "vocab_size", folder),
    "d_model": size_of(config, "hidden_size", folder),
    "num_heads": size_of(config, "num_attention_heads", folder),
    "d_ff": size_of(config, "intermediate_size", folder),
    "num_layers": size_of(config, "num_hidden_layers", folder),
  }
  heads = sizes["num_heads"]
  kv_heads = config.get("num_key_value_heads", _KV_HEADS[kind])
  sizes["num_kv_heads"] = size_of({"": kv_heads}, "", folder, heads)
  sizes["d_kv"] = size_of(config, "head_dim", folder, sizes["d_model"] // heads)
  if heads % sizes["num_kv_heads"] or sizes["d_kv"] % 2:
    raise unreadable(folder, f"its heads do not fit each other ({sizes})")
  table, head = (tensors.get(name) for name in (_SPELLING.table, _SPELLING.head))
  tied = bool(config.get("tie_word_embeddings", False))
  # As transformers: tied unless both are there and differ.
  if tied and table is not None and head is not None:
    is_sound = table.shape == (sizes["vocab_size"], sizes["d_model"])
    tied = is_sound and equal(table, head)
  base = _rope(config).get("rope_theta", config.get("rope_theta", _ROPE_BASE))
  bias = kind == "qwen2" or bool(config.get("attention_bias"))
  return sizes | {
    "rope_base": _positive(base, "rope_theta", folder),
    "norm_epsilon": _positive(config.get("rms_norm_eps", _EPSILON), "rms_norm_eps", folder),
    "tied_logits": tied,
    "attention_bias": bias,
  }


def _positive(value: Any, name: str, folder: epath.Path) -> float:
  if type(value) not in (int, float) or not 0 < value < np.inf:
    raise unreadable(folder, f"{name} in its config is {str(value)[:40]!r}")
  return float(value)
