"""Hugging Face folders of Llama-like models: every weight in its place, nothing guessed."""

import llama_files
import numpy as np
import pytest

import prompt_tuning as pt
from prompt_tuning import checks
from prompt_tuning.token_order import TokenOrder

torch = llama_files.torch

FACTS = {
  "vocab_size": llama_files.ROWS,
  "d_model": 64,
  "num_heads": 4,
  "num_kv_heads": 2,
  "d_kv": 16,
  "d_ff": 96,
  "num_layers": 2,
  "rope_base": 50_000.0,
  "norm_epsilon": 1e-6,
  "tied_logits": False,
  "attention_bias": False,
}
KINDS = {  # kind, fields of its config -> facts that differ
  "llama": ("llama", {}, {}),
  "tied": ("llama", {"tie_word_embeddings": True}, {"tied_logits": True}),
  "wide_heads": ("llama", {"head_dim": 24, "rms_norm_eps": 1e-5}, {"d_kv": 24}),
  "qwen2": ("qwen2", {}, {"attention_bias": True}),
  "mistral": ("mistral", {"sliding_window": None}, {}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  models = {}

  def save(name, shard="5GB"):
    if (name, shard) not in models:
      kind, changes, _ = KINDS[name]
      folder = tmp_path_factory.mktemp(name)
      model = llama_files.model(kind, **changes)
      model.save_pretrained(folder, max_shard_size=shard)
      llama_files.edit(folder, sliding_window=None)
      if kind == "mistral":
        text = (folder / "config.json").read_text()
        (folder / "config.json").write_text(text[:-1] + ', "sliding_window": null}')
      models[name, shard] = folder, llama_files.weights(model)
    return models[name, shard]

  return save


@pytest.fixture
def folder(saved, tmp_path):
  """A folder of a Llama that a test may change."""
  found, _ = saved("llama")
  for path in found.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  return tmp_path


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shard", ["5GB", "100KB"])
def test_every_weight_is_where_it_belongs(saved, name, shard):
  folder, theirs = saved(name, shard)
  assert (folder / "model.safetensors").exists() == (shard == "5GB")
  found = pt.load_checkpoint(str(folder))
  epsilon = KINDS[name][1].get("rms_norm_eps", 1e-6)
  assert (found.format, found.family) == ("Hugging Face", "llama")
  assert found.facts == FACTS | {"norm_epsilon": epsilon} | KINDS[name][2]
  assert {type(found.facts[key]) for key in ("rope_base", "norm_epsilon")} == {float}
  order = TokenOrder(0, 2)
  expected = {
    "token_embedder/embedding": order.arranged(theirs["model.embed_tokens.weight"]),
    "decoder/decoder_norm/scale": theirs["model.norm.weight"],
  }
  if "lm_head.weight" in theirs:
    head = theirs["lm_head.weight"]
    expected["decoder/logits_dense/kernel"] = order.arranged(head.T, axis=1)
  for number in range(2):
    here, there = f"decoder/layers_{number}", f"model.layers.{number}"
    for ours, name in {
      "pre_self_attention_layer_norm/scale": "input_layernorm.weight",
      "self_attention/query/kernel": "self_attn.q_proj.weight",
      "self_attention/key/kernel": "self_attn.k_proj.weight",
      "self_attention/value/kernel": "self_attn.v_proj.weight",
      "self_attention/out/kernel": "self_attn.o_proj.weight",
      "self_attention/query/bias": "self_attn.q_proj.bias",
      "self_attention/key/bias": "self_attn.k_proj.bias",
      "self_attention/value/bias": "self_attn.v_proj.bias",
      "pre_mlp_layer_norm/scale": "post_attention_layernorm.weight",
      "mlp/wi_0/kernel": "mlp.gate_proj.weight",
      "mlp/wi_1/kernel": "mlp.up_proj.weight",
      "mlp/wo/kernel": "mlp.down_proj.weight",
    }.items():
      if f"{there}.{name}" in theirs:
        expected[f"{here}/{ours}"] = theirs[f"{there}.{name}"].T
  assert set(found) == set(expected)
  assert len(expected) == len(theirs)
  for path, array in expected.items():
    assert found.shapes[path] == array.shape, path
    np.testing.assert_array_equal(found[path], array, err_msg=path)


def test_parts_of_a_table_in_our_order_are_parts_of_the_whole(saved):
  leaf = pt.load_checkpoint(str(saved("llama")[0])).leaf("token_embedder/embedding")
  whole = leaf.read()
  for rows in (slice(0, 4), slice(1, 2), slice(2, 90), slice(5, 5), slice(290, 300)):
    box = (rows, slice(8, 40))
    np.testing.assert_array_equal(leaf.read(box), whole[box])


def test_fields_as_transformers_4_wrote_them(folder):
  llama_files.edit(folder, rope_parameters=None, rope_theta=9e3, rope_scaling=None)
  assert pt.load_checkpoint(str(folder)).facts["rope_base"] == 9e3
  llama_files.edit(folder, rope_theta=None)
  assert pt.load_checkpoint(str(folder)).facts["rope_base"] == 1e4
  llama_files.edit(folder, num_key_value_heads=None)
  with pytest.raises(checks.InputError, match="k_proj"):  # as many as heads: too many
    pt.load_checkpoint(str(folder))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"hidden_act": "gelu"}, "hidden_act in its config.json is 'gelu'"),
    ({"mlp_bias": True}, "mlp_bias"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters .* 'yarn'"),
    (
      {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}},
      "rope_parameters .* 'linear'",
    ),
    (
      {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
      "partial_rotary_factor",
    ),
    ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
    ({"model_type": "mistral"}, "sliding_window .* '4096'"),
    ({"model_type": "mistral", "sliding_window": 9}, "sliding_window .* '9'"),
    ({"model_type": "gemma"}, "'gemma', expected one of t5, mt5, llama, qwen2, mistral"),
    ({"hidden_size": 1 << 40}, "hidden_size"),
    ({"num_hidden_layers": 1 << 19}, "num_hidden_layers"),
    ({"num_hidden_layers": 4000}, "missing"),
    ({"vocab_size": 301}, r"embed_tokens.weight .* \[300, 64\], expected \[301, 64\]"),
    ({"num_attention_heads": 3}, "heads do not fit"),
    ({"head_dim": 8}, "q_proj.weight"),
    ({"rms_norm_eps": -1}, "rms_norm_eps"),
    ({"rms_norm_eps": float("inf")}, "rms_norm_eps"),
    ({"eos_token_id": None}, "names no end of a text"),
    ({"eos_token_id": 300}, "its table has 300 rows"),
  ],
)
def test_what_a_model_here_does_not_compute_is_refused_by_name(folder, changes, message):
  (folder / "generation_config.json").unlink(missing_ok=True)
  llama_files.edit(folder, **changes)
  with pytest.raises(checks.InputError, match=message):
    pt.load_checkpoint(str(folder))


def test_a_bias_behind_attention_is_refused(tmp_path):
  llama_files.model("llama", attention_bias=True).save_pretrained(tmp_path)
  with pytest.raises(checks.InputError, match="attention_bias"):
    pt.load_checkpoint(str(tmp_path))


def test_a_head_that_differs_from_the_table_is_not_tied_to_it(folder):
  llama_files.edit(folder, tie_word_embeddings=True)
  assert pt.load_checkpoint(str(folder)).facts["tied_logits"] is False


def test_weights_that_are_missing_or_pickled_are_told(folder):
  weights = llama_files.model("llama", tie_word_embeddings=True)
  weights.save_pretrained(folder)
  llama_files.edit(folder, tie_word_embeddings=False)
  with pytest.raises(checks.InputError, match=r"- lm_head\.weight"):
    pt.load_checkpoint(str(folder))
  (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
  with pytest.raises(checks.InputError, match="weights are pickled"):
    pt.load_checkpoint(str(folder))
