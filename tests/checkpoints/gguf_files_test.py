"""GGUF files: the same weights as the Hugging Face folder's, and no trust in a header."""

import struct
import tracemalloc

import llama_files
import numpy as np
import pytest

import prompt_tuning as pt
from prompt_tuning import checks

METADATA = llama_files.METADATA
TOKENS = {
  "tokenizer.ggml.tokens": [f"t{i}" for i in range(llama_files.ROWS)],
  "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (llama_files.ROWS - 3),
  "tokenizer.ggml.bos_token_id": 1,
  "tokenizer.ggml.eos_token_id": 2,
}
QWEN2 = {k.replace("llama", "qwen2"): v for k, v in METADATA.items()} | {
  "general.architecture": "qwen2"
}


@pytest.fixture(scope="module")
def theirs():
  return llama_files.weights(llama_files.model("llama", rms_norm_eps=1e-5))


@pytest.fixture(scope="module")
def good(tmp_path_factory, theirs):
  """The bytes of a good file."""
  path = tmp_path_factory.mktemp("good") / "model.gguf"
  tensors = llama_files.gguf_names(theirs)
  return llama_files.write_gguf(path, tensors, METADATA | TOKENS).read_bytes()


@pytest.fixture
def write(tmp_path, theirs):
  def write(metadata=None, tensors=None, kind="F32"):
    tensors = llama_files.gguf_names(theirs) if tensors is None else tensors
    metadata = METADATA | TOKENS | (metadata or {})
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return llama_files.write_gguf(tmp_path / "model.gguf", tensors, metadata, kind)

  return write


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q4_0", "Q5_1"])
@pytest.mark.parametrize(
  ("architecture", "tied"), [("llama", False), ("llama", True), ("qwen2", False)]
)
def test_it_holds_what_the_hugging_face_folder_holds(tmp_path, kind, architecture, tied):
  model = llama_files.model(architecture, rms_norm_eps=1e-5, tie_word_embeddings=tied)
  arrays = llama_files.weights(model)
  tensors = llama_files.gguf_names(arrays, architecture)
  metadata = (METADATA if architecture == "llama" else QWEN2) | TOKENS
  found = pt.load_checkpoint(
    str(llama_files.write_gguf(tmp_path / "m.gguf", tensors, metadata, kind))
  )
  with llama_files.torch.no_grad():
    for name, weight in model.named_parameters():
      left = llama_files.dequantised(arrays[name], kind)
      weight.copy_(llama_files.torch.tensor(left))
  model.save_pretrained(tmp_path / "folder")
  other = pt.load_checkpoint(str(tmp_path / "folder"))
  assert (found.format, found.family) == ("GGUF", "llama")
  assert found.facts == other.facts
  assert found.shapes == other.shapes
  for path in other:
    assert found[path].dtype == np.float32
    np.testing.assert_array_equal(found[path], other[path], err_msg=path)


def test_transformers_reads_the_same_weights_from_the_file(write, theirs):
  path = write({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["a b"]})
  read = llama_files.transformers.AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name
  )
  arrays = llama_files.weights(read)
  assert arrays.keys() == theirs.keys()
  for name, array in theirs.items():
    np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_parts_are_parts_of_the_whole(write):
  found = pt.load_checkpoint(str(write(kind="Q8_0")))
  boxes = {
    "token_embedder/embedding": (slice(1, 40), slice(8, 33)),
    "decoder/layers_1/self_attention/query/kernel": (slice(3, 64), slice(5, 21)),
    "decoder/layers_0/mlp/wo/kernel": (slice(0, 0), slice(0, 64)),
    "decoder/decoder_norm/scale": (slice(7, 30),),
  }
  for path, box in boxes.items():
    part = found.leaf(path).read(box, np.dtype(np.float16))
    np.testing.assert_array_equal(part, found[path][box].astype(np.float16))


def test_a_folder_with_one_file_means_it_and_one_with_two_is_refused(write):
  path = write()
  assert pt.load_checkpoint(str(path.parent)).format == "GGUF"
  (path.parent / "other.gguf").write_bytes(path.read_bytes())
  with pytest.raises(checks.InputError, match=r"several GGUF files \(model.gguf, other"):
    pt.load_checkpoint(str(path.parent))


def test_what_may_be_left_out_has_the_usual_value(write):
  absent = ("rope.freq_base", "rope.dimension_count", "vocab_size", "context_length")
  found = pt.load_checkpoint(str(write({f"llama.{key}": None for key in absent})))
  assert (found.facts["rope_base"], found.facts["vocab_size"]) == (1e4, llama_files.ROWS)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"general.architecture": "gemma2"},
      "architecture is 'gemma2', expected .*llama",
    ),
    ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn'"),
    ({"llama.rope.scaling.factor": 4.0}, "llama.rope.scaling.factor"),
    ({"llama.expert_count": 8}, "llama.expert_count is '8'"),
    ({"llama.attention.sliding_window": 512}, "sliding_window is '512'"),
    ({"llama.attention.causal": False}, "causal"),
    ({"llama.some_new_thing": 3}, "llama.some_new_thing"),
    ({"llama.attention.head_count": [4, 4]}, "attention.head_count"),
    ({"llama.rope.dimension_count": 8}, "rope.dimension_count is '8'"),
    ({"llama.attention.value_length": 8}, "value_length is '8'"),
    ({"llama.attention.key_length": 8}, "rope.dimension_count"),
    ({"llama.attention.head_count_kv": 3}, "sizes do not fit"),
    ({"llama.block_count": 3}, r"- blk\.2\.attn_k\.weight"),
    ({"llama.block_count": 1}, r"\+ blk\.1\.attn_k\.weight"),
    ({"llama.block_count": 1 << 19}, "sizes do not fit"),
    ({"llama.embedding_length": None}, "embedding_length is 'None'"),
    (
      {"llama.embedding_length": 128, "llama.rope.dimension_count": 32},
      r"\[300, 64\], expected \[300, 128\]",
    ),
    ({"llama.vocab_size": 200}, r"\[300, 64\], expected \[200, 64\]"),
    ({"llama.feed_forward_length": 64}, "ffn_gate.weight"),
    ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "rms_epsilon"),
    ({"llama.rope.freq_base": "x"}, "freq_base"),
    ({"split.count": 3}, "split.count is '3'"),
    ({"tokenizer.ggml.eos_token_id": None}, "names no end of a text"),
    ({"tokenizer.ggml.eos_token_id": 4000}, "ends a text with token 4000"),
    ({"tokenizer.ggml.token_type": [3]}, "token_type is not there for every token"),
    ({"tokenizer.ggml.tokens": "x"}, "no list of texts"),
  ],
)
def test_what_a_model_here_does_not_compute_is_refused_by_name(write, changes, message):
  with pytest.raises(checks.InputError, match=message):
    pt.load_checkpoint(str(write(changes)))


@pytest.mark.parametrize(
  ("name", "array", "message"),
  [
    ("rope_freqs.weight", np.ones(8, np.float32), "scales positions.* 'rope_freqs.weight'"),
    ("blk.0.attn_output.bias", np.ones(64, np.float32), r"\+ blk.0.attn_output.bias"),
    ("x", np.ones(8, np.float32), r"\+ x$"),
    ("token_embd.weight", None, "token_embd.weight is not in it"),
    ("blk.0.attn_q.weight", np.ones((32, 64), np.float32), r"\[32, 64\], expected \[64"),
    ("blk.0.ffn_up.weight", None, r"- blk.0.ffn_up.weight"),
  ],
)
def test_tensors_that_do_not_fit_are_named(write, theirs, name, array, message):
  tensors = llama_files.gguf_names(theirs) | {name: array}
  tensors = {key: value for key, value in tensors.items() if value is not None}
  with pytest.raises(checks.InputError, match=message):
    pt.load_checkpoint(str(write(tensors=tensors)))


def refused(path, content, message):
  """Opening says `message` and takes no memory for what the header promises."""
  path.write_bytes(content)
  tracemalloc.start()
  try:
    with pytest.raises(checks.InputError, match=message) as caught:
      pt.load_checkpoint(str(path))
    _, most = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert most < 20 * len(content) + (1 << 20)
  assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.001, 0.005, 0.01, 0.02, 0.03, 0.5, 0.9999])
def test_a_file_that_ends_early_is_told(tmp_path, good, part):
  end = int(part * len(good))
  message = "no model checkpoint|damaged|begin|ends in the middle"
  refused(tmp_path / "model.gguf", good[:end], message)


@pytest.mark.parametrize(
  ("offset", "format", "value", "message"),
  [
    (0, "4s", b"GGML", "does not begin with GGUF"),
    (4, "<I", 9, "version is 9"),
    (4, "<I", 3 << 24, "version"),
    (8, "<Q", 1 << 60, "promises 1152921504606846976 entries"),
    (16, "<Q", 1 << 62, "promises 4611686018427387904 entries"),
    (24, "<Q", 1 << 63, "promises 9223372036854775808 bytes"),
    (24, "<Q", 0, "type"),
  ],
)
def test_a_header_is_not_taken_on_trust(tmp_path, good, offset, format, value, message):
  content = bytearray(good)
  struct.pack_into(format, content, offset, value)
  refused(tmp_path / "model.gguf", bytes(content), message)


def info(content, name):
  """Offset behind a tensor's name in the header."""
  text = struct.pack("<Q", len(name)) + name.encode()
  return content.index(text) + len(text)


@pytest.mark.parametrize(
  ("place", "format", "value", "message"),
  [
    (0, "<I", 1000, "1000 axes"),
    (4, "<Q", 1 << 47, "ends in the middle|array has|expected"),
    (12, "<Q", 0, "token_embd.weight is"),
    (12, "<Q", 1 << 60, "sizes"),
    (20, "<I", 77, "type of a tensor is '77'"),
    (20, "<I", 9, "type of a tensor is 'Q8_1'"),
    (24, "<Q", 1 << 62, "ends in the middle of token_embd.weight"),
  ],
)
def test_a_tensor_is_where_it_says_or_refused(
  tmp_path, good, place, format, value, message
):
  content = bytearray(good)
  struct.pack_into(format, content, info(good, "token_embd.weight") + place, value)
  refused(tmp_path / "model.gguf", bytes(content), message)


def test_damage_anywhere_in_a_header_is_a_sentence_or_harmless(tmp_path, good):
  rng = np.random.default_rng(0)
  end = info(good, "output_norm.weight")
  path = tmp_path / "model.gguf"
  for _ in range(150):
    content = bytearray(good)
    content[rng.integers(end)] ^= 1 << rng.integers(8)
    path.write_bytes(bytes(content))
    try:
      found = pt.load_checkpoint(str(path))
    except checks.InputError:
      continue
    assert set(found) == set(found.shapes)


def test_a_file_that_shrinks_after_it_was_opened_is_told(write):
  path = write()
  found = pt.load_checkpoint(str(path))
  path.write_bytes(path.read_bytes()[:-64])
  with pytest.raises(checks.InputError, match="ends in the middle of"):
    for name in found:
      found[name]
