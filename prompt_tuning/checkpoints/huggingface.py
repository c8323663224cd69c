"""Hugging Face folders of T5, T5 1.1, LM-adapted T5, FLAN-T5, mT5 and ByT5.

  config.json
  model.safetensors, or model.safetensors.index.json and the shards that it names

A kernel is stored [out, in] there and [in, out] in T5X; the position table [buckets, heads]
there and [num_heads, buckets] in T5X. Logits are `lm_head` or, without one, the embedding
table; whether the decoder's output is scaled by d_model**-0.5 first is a matter of its own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.checkpoints import leaves as stored
from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.checkpoints.checkpoint import Checkpoint, unreadable
from prompt_tuning.checkpoints.huggingface_folder import (
  CONFIG,
  INDEX,
  WEIGHTS,
  config_of,
  size_of,
  tensors_of,
  unknown_architecture,
  unsupported,
)
from prompt_tuning.checkpoints.leaves import Leaf, Scaled, Transposed
from prompt_tuning.progress import Progress

_MODEL_TYPES = ("t5", "mt5")
_FAMILIES = "T5, mT5 or ByT5"
_EMBEDDING, _LOGITS = "token_embedder/embedding", "decoder/logits_dense/kernel"
_TABLE, _HEAD = "shared.weight", "lm_head.weight"
# Copies of the table, and a weight that early versions had and never used.
_SURPLUS = re.compile(
  r"(encoder|decoder)\.embed_tokens\.weight"
  r"|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
)
_ACTIVATIONS = {  # feed_forward_proj -> mlp_activations; gelu is the tanh approximation
  "gated-gelu": ("gelu", "linear"),
  "gated-gelu_new": ("gelu", "linear"),
  "gated-relu": ("relu", "linear"),
  "gelu_new": ("gelu",),
  "relu": ("relu",),
}
_EPSILON = 1e-6
_SHARD_BYTES = 5_000_000_000
_MT5_VOCABULARY = 250_000  # ids from which a vocabulary is mT5's
_KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out"}


def read(folder: epath.Path) -> Checkpoint:
  """Opens a folder; no weight is read but those that tell whether logits are tied.

  Raises:
    InputError: It is damaged or of another architecture.
  """
  config = config_of(folder)
  tensors = {
    name: leaf for name, leaf in tensors_of(folder).items() if not _SURPLUS.fullmatch(name)
  }
  facts = _facts(config, folder)
  head = tensors.pop(_HEAD, None)
  gated = len(facts["mlp_activations"]) == 2
  depths = (
    size_of(config, "num_layers", folder),
    size_of(config, "num_decoder_layers", folder, config.get("num_layers")),
  )
  table = {name: (path, turn) for name, path, turn in names(*depths, gated)}
  checks.names(
    f"the Hugging Face checkpoint {folder}",
    table.keys() - tensors.keys(),
    tensors.keys() - table.keys(),
    "choose a T5, mT5 or ByT5 with a language model head",
  )
  found = {
    path: Transposed(tensors[name]) if turn else tensors[name]
    for name, (path, turn) in table.items()
  }
  for name, leaf in ((_TABLE, tensors[_TABLE]), (_HEAD, head)):
    if leaf is not None and (len(leaf.shape) != 2 or 0 in leaf.shape):
      raise unreadable(folder, f"{name} is {list(leaf.shape)}, not [vocab, d_model]")
  logits = _logits(tensors[_TABLE], head, _is_scaled(config))
  if logits is not None:
    found[_LOGITS] = logits
  return Checkpoint(folder, "Hugging Face", found, facts=facts)


def names(
  num_encoder_layers: int, num_decoder_layers: int, gated: bool
) -> Iterator[tuple[str, str, bool]]:
  """(Hugging Face name, T5X path, transposed) of every weight but the logits'."""
  yield _TABLE, _EMBEDDING, False
  mlp = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
  towers = {
    "encoder": (num_encoder_layers, (("SelfAttention", "attention"),)),
    "decoder": (
      num_decoder_layers,
      (
        ("SelfAttention", "self_attention"),
        ("EncDecAttention", "encoder_decoder_attention"),
      ),
    ),
  }
  for tower, (depth, attentions) in towers.items():
    positions = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield f"{tower}.{positions}", f"{tower}/relpos_bias/rel_embedding", True
    yield f"{tower}.final_layer_norm.weight", f"{tower}/{tower}_norm/scale", False
    for number in range(depth):
      here, there = f"{tower}.block.{number}.layer", f"{tower}/layers_{number}"
      for part, (theirs, ours) in enumerate(attentions):
        norm = ours.replace("encoder_decoder", "cross")
        yield (
          f"{here}.{part}.layer_norm.weight",
          f"{there}/pre_{norm}_layer_norm/scale",
          False,
        )
        for letter, kernel in _KERNELS.items():
          path = f"{there}/{ours}/{kernel}/kernel"
          yield f"{here}.{part}.{theirs}.{letter}.weight", path, True
      last = f"{here}.{len(attentions)}"
      yield f"{last}.layer_norm.weight", f"{there}/pre_mlp_layer_norm/scale", False
      for kernel in mlp:
        path = f"{there}/mlp/{kernel}/kernel"
        yield f"{last}.DenseReluDense.{kernel}.weight", path, True


def save(
  folder: epath.Path,
  params: Mapping[str, Leaf],
  config: Mapping[str, Any],
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes a folder that `transformers` loads, whole or not at all.

  Args:
    folder: A new folder.
    params: {T5X path: leaf}, exactly those of the model.
    config: Fields of `T5Config`.
    shard_bytes: Most bytes of one file of weights.

  Raises:
    InputError: The folder exists, or parameters are missing or unexpected.
  """
  gated, tied = len(config["mlp_activations"]) == 2, config["tied_logits"]
  depths = config["num_encoder_layers"], config["num_decoder_layers"]
  table = list(names(*depths, gated)) + ([] if tied else [(_HEAD, _LOGITS, True)])
  paths = {path for _, path, _ in table}
  checks.names(
    "the checkpoint",
    paths - params.keys(),
    params.keys() - paths,
    "Hugging Face's T5 has no other weights",
  )
  tensors = {n: Transposed(params[p]) if turn else params[p] for n, p, turn in table}
  with files.new_folder(folder) as place:
    _write_weights(place, tensors, shard_bytes)
    _write_json(place / CONFIG, _config(config, tensors[_TABLE].dtype.name))
    tokens = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    _write_json(place / "generation_config.json", tokens)


def _logits(table: Leaf, head: Leaf | None, scaled: bool) -> Leaf | None:
  """The kernel of the logits; None for T5 1.0's, the scaled embedding table."""
  if head is not None and stored.equal(table, head):
    head = None
  if head is None and scaled:
    return None
  kernel = Transposed(table if head is None else head)
  return Scaled(kernel, table.shape[1] ** -0.5) if scaled else kernel


def _is_scaled(config: Mapping[str, Any]) -> bool:
  """Whether `transformers` scales the decoder's output: T5 1.0 only, by its own rules."""
  if config.get("model_type") != "t5":
    return False
  tied = config.get("tie_word_embeddings") is not False
  return bool(config.get("scale_decoder_outputs", tied))


def _facts(config: Mapping[str, Any], folder: epath.Path) -> dict[str, Any]:
  """What `T5Config` needs beyond shapes."""
  if config.get("model_type") not in _MODEL_TYPES:
    raise unknown_architecture(folder, config.get("model_type"))
  epsilon = config.get("layer_norm_epsilon", _EPSILON)
  if epsilon != _EPSILON:
    raise unsupported(folder, "layer_norm_epsilon", epsilon, (_EPSILON,), _FAMILIES)
  usual = "gated-gelu" if config["model_type"] == "mt5" else "relu"
  projection = str(config.get("feed_forward_proj", usual))
  if projection not in _ACTIVATIONS:
    raise unsupported(folder, "feed_forward_proj", projection, _ACTIVATIONS, _FAMILIES)
  distance = size_of(config, "relative_attention_max_distance", folder, 128)
  return {
    "mlp_activations": _ACTIVATIONS[projection],
    "relative_max_distance": distance,
  }


def _write_weights(place: epath.Path, tensors: Mapping[str, Leaf], most: int) -> None:
  """One file, or several with an index where they are larger than `most` bytes."""
  shards: list[dict[str, Leaf]] = [{}]
  size = 0
  for name, leaf in tensors.items():
    if shards[-1] and size + stored.nbytes(leaf) > most:
      shards.append({})
      size = 0
    shards[-1][name] = leaf
    size += stored.nbytes(leaf)
  bar, metadata = Progress("write", len(tensors)), {"format": "pt"}
  if len(shards) == 1:
    safetensors_files.write(place / WEIGHTS, tensors, metadata, bar.advance)
    bar.close()
    return
  where: dict[str, str] = {}
  for number, shard in enumerate(shards, 1):
    name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
    safetensors_files.write(place / name, shard, metadata, bar.advance)
    where |= dict.fromkeys(shard, name)
  bar.close()
  total = sum(map(stored.nbytes, tensors.values()))
  _write_json(place / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
  """config.json, as `transformers` 4 and 5 read it."""
  activations = tuple(config["mlp_activations"])
  projections = [name for name, found in _ACTIVATIONS.items() if found == activations]
  if not projections:
    raise checks.InputError(
      f"the model's mlp_activations are {activations}, expected one of "
      f"{sorted(set(_ACTIVATIONS.values()))}; Hugging Face's T5 has no other"
    )
  tied = config["tied_logits"]
  is_mt5 = config["vocab_size"] >= _MT5_VOCABULARY and not tied
  return {
    "architectures": [f"{'MT5' if is_mt5 else 'T5'}ForConditionalGeneration"],
    "model_type": "mt5" if is_mt5 else "t5",
    "d_ff": config["d_ff"],
    "d_kv": config["d_kv"],
    "d_model": config["d_model"],
    "num_heads": config["num_heads"],
    "num_layers": config["num_encoder_layers"],
    "num_decoder_layers": config["num_decoder_layers"],
    "vocab_size": config["vocab_size"],
    "relative_attention_num_buckets": config["relative_buckets"],
    "relative_attention_max_distance": config["relative_max_distance"],
    "feed_forward_proj": projections[0],
    "tie_word_embeddings": tied,
    "layer_norm_epsilon": _EPSILON,
    "dropout_rate": 0.1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "use_cache": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "torch_dtype": dtype,
  }


def _write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
