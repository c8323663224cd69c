"""A plain Llama computes what transformers does, whole and token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks, formats, model_configs
from prompt_tuning.models.llama import Llama
from prompt_tuning.models.llama_config import LlamaConfig
from prompt_tuning.models.masks import decoder_mask
from prompt_tuning.models.rotary import Rotation

llama_files = pytest.importorskip("llama_files")
SHAPES = {
  "grouped": ("llama", {}),
  "one head of keys": ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
  "as many heads": ("llama", {"num_key_value_heads": 4}),
  "wide heads": ("llama", {"head_dim": 24}),
  "qwen2": ("qwen2", {"use_sliding_window": False}),
}
TOKENS = np.random.default_rng(0).integers(3, llama_files.ROWS, (2, 9)).astype(np.int32)


def both(folder, kind="llama", **changes):
  """transformers' model, and ours read from its folder with the order of their ids."""
  theirs = llama_files.model(kind, **changes)
  with llama_files.torch.no_grad():
    for weight in theirs.parameters():
      weight.mul_(0.3)
  theirs.save_pretrained(folder)
  found = formats.load(str(folder))
  return theirs, Llama(model_configs.of(found), found)


def swapped(tokens):
  """Their ids of ours: EOS, 2 there, is 1 here."""
  return np.select([tokens == 1, tokens == 2], [2, 1], tokens)


def logits_of(theirs, tokens):
  with llama_files.torch.no_grad():
    found = theirs(llama_files.torch.tensor(swapped(tokens)).long()).logits.numpy()
  return found[..., swapped(np.arange(found.shape[-1]))]


def positions(length):
  return jnp.arange(length, dtype=jnp.int32)[None]


def whole(model, tokens):
  rows, length = tokens.shape
  mask = decoder_mask(jnp.ones((rows, length), bool))
  return model.logits(model.hidden(model.embed(tokens), mask, positions(length)))


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(tmp_path, shape):
  kind, changes = SHAPES[shape]
  theirs, model = both(tmp_path / "model", kind, **changes)
  expected = logits_of(theirs, TOKENS)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(whole(model, TOKENS), expected, rtol=1e-4, atol=1e-4)


def test_cached_decoding_is_the_whole_pass(tmp_path):
  _, model = both(tmp_path / "model")
  expected = whole(model, TOKENS)
  read, mask = 4, decoder_mask(jnp.ones((2, 4), bool))
  context = model.prefill(
    model.embed(TOKENS[:, :read]), mask, positions(read), jnp.ones((2, read), bool)
  )
  first = jnp.full((2,), read, jnp.int32)
  cache = model.start_cache((context,), first, 2, 5)
  for place in range(read, TOKENS.shape[1]):
    found, cache = model.decode_step(TOKENS[:, place], cache)
    np.testing.assert_allclose(found, expected[:, place], rtol=1e-4, atol=1e-4)


def test_half_precision_is_near(tmp_path):
  theirs, _ = both(tmp_path / "model")
  found = formats.load(str(tmp_path / "model"))
  model = Llama(model_configs.of(found, dtype="bfloat16"), found)
  error = np.abs(whole(model, TOKENS) - logits_of(theirs, TOKENS)).max()
  assert 0 < error < 0.3


def test_only_distances_count():
  turned = Rotation.at(positions(6), 8, 100.0)
  later = Rotation.at(positions(6) + 40, 8, 100.0)
  x = jax.random.normal(jax.random.key(0), (1, 6, 2, 8))
  scores = [jnp.einsum("bqhd,bkhd->bhqk", r(x), r(x)) for r in (turned, later)]
  np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-4)
  assert np.abs(scores[0] - jnp.einsum("bqhd,bkhd->bhqk", x, x)).max() > 0.1


@pytest.mark.parametrize("sizes", [{"num_kv_heads": 3}, {"d_kv": 7}])
def test_heads_that_do_not_divide_are_refused(sizes):
  given = {"num_heads": 4, "num_kv_heads": 2, "d_kv": 8, **sizes}
  with pytest.raises(checks.InputError, match="a divisor of the first and an even width"):
    LlamaConfig(vocab_size=8, d_model=8, d_ff=8, num_layers=1, **given)
