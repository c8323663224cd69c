"""The parameters of Llama-like models: our paths, their shapes, their names elsewhere.

  here            decoder/layers_3/self_attention/query/kernel
  Hugging Face    model.layers.3.self_attn.q_proj.weight
  GGUF            blk.3.attn_q.weight

A kernel is stored [out, in] elsewhere and [in, out] here; tokens stand in our order here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints.checkpoint import unreadable
from prompt_tuning.checkpoints.leaves import Leaf, Rows, Transposed
from prompt_tuning.special_tokens import SpecialTokens
from prompt_tuning.types import Shape

FAMILY = "llama"
EMBEDDING, LOGITS = "token_embedder/embedding", "decoder/logits_dense/kernel"
MOST_LAYERS, MOST_SIZE = 4096, 1 << 20
_BIASED = ("query", "key", "value")


class Spelling(NamedTuple):
  """How a format calls the parameters.

  Attributes:
    layer: Prefix of a layer, its number as {}.
    table: The embedding table.
    norm: The last norm.
    head: The logits' matrix.
    inner: {our path in a layer without its last part: name in a layer without its last}.
  """

  layer: str
  table: str
  norm: str
  head: str
  inner: Mapping[str, str]


def names(facts: Mapping[str, Any], spelling: Spelling) -> Iterator[tuple[str, str]]:
  """(name in the format, our path) of every parameter that a model with `facts` has."""
  yield spelling.table, EMBEDDING
  yield spelling.norm, "decoder/decoder_norm/scale"
  if not facts["tied_logits"]:
    yield spelling.head, LOGITS
  for number in range(facts["num_layers"]):
    for ours, theirs in spelling.inner.items():
      path = f"decoder/layers_{number}/{ours}"
      name = f"{spelling.layer.format(number)}.{theirs}"
      is_norm = ours.endswith("norm")
      yield f"{name}.weight", f"{path}/{'scale' if is_norm else 'kernel'}"
      if facts["attention_bias"] and ours.endswith(_BIASED):
        yield f"{name}.bias", f"{path}/bias"


def shape(path: str, facts: Mapping[str, Any]) -> Shape:
  """The shape of a parameter here, from the model's facts."""
  width, d_ff = facts["d_model"], facts["d_ff"]
  queries = facts["num_heads"] * facts["d_kv"]
  keys = facts["num_kv_heads"] * facts["d_kv"]
  module, _, kind = path.rpartition("/")
  outs = {"query": queries, "key": keys, "value": keys, "wi_0": d_ff, "wi_1": d_ff}
  ins = {"out": queries, "wo": d_ff}
  if path == EMBEDDING:
    return facts["vocab_size"], width
  if path == LOGITS:
    return width, facts["vocab_size"]
  name = module.rpartition("/")[2]
  if kind == "kernel":
    return ins.get(name, width), outs.get(name, width)
  return (outs.get(name, width),)


def leaves_of(
  path: epath.Path,
  tensors: Mapping[str, Leaf],
  facts: Mapping[str, Any],
  spelling: Spelling,
  special: SpecialTokens,
) -> dict[str, Leaf]:
  """Parameters by our paths, in our layout and our order of tokens.

  Args:
    path: The checkpoint, for messages.
    tensors: {name in the format: leaf}, halves of heads in Hugging Face's order.
    facts: See `Checkpoint.facts`.
    spelling: The format's.
    special: The special tokens that the checkpoint states.

  Raises:
    InputError: Tensors are missing, unexpected or of other shapes than `facts` say.
  """
  table = dict(names(facts, spelling))
  what = f"the checkpoint {path}"
  remedy = "choose a complete Llama, Mistral or Qwen2"
  checks.names(what, table.keys() - tensors.keys(), tensors.keys() - table.keys(), remedy)
  for name, ours in table.items():
    expected = shape(ours, facts)
    stored = expected[::-1] if ours.endswith("/kernel") else expected
    checks.shape(f"{name} of {what}", tensors[name].shape, stored, remedy)
  order, rows = special.order(), facts["vocab_size"]
  if max(order.pad, order.eos) >= rows or min(order.pad, order.eos) < 0:
    raise unreadable(path, f"its table has {rows} rows, its special tokens are {order}")
  theirs = order.theirs(rows)
  found = {}
  for name, ours in table.items():
    leaf = tensors[name]
    leaf = Rows(leaf, theirs) if ours in (EMBEDDING, LOGITS) else leaf
    found[ours] = Transposed(leaf) if ours.endswith("/kernel") else leaf
  return found
