"""Hugging Face folders: transformers and this package compute the same from either's."""

import dataclasses
import json
import os
import pickle
import shutil
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from etils import epath
from flax import nnx
from safetensors import numpy as safetensors

import prompt_tuning as pt
from prompt_tuning import checks, convert, trees
from prompt_tuning.checkpoints import huggingface, safetensors_files
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.models.config import T5Config

os.environ.setdefault("HF_HUB_OFFLINE", "1")
_HINT = "is not installed; `pip install prompt-tuning[hf]` brings it"
torch = pytest.importorskip("torch", reason=f"torch {_HINT}")
transformers = pytest.importorskip("transformers", reason=f"transformers {_HINT}")

NUMBERS = {
  "vocab_size": 48,
  "d_model": 16,
  "d_kv": 6,
  "d_ff": 20,
  "num_heads": 4,
  "num_layers": 3,
  "num_decoder_layers": 2,
}
GATED = {"feed_forward_proj": "gated-gelu"}
UNSCALED = {"tie_word_embeddings": False}
# (class, whether the head is a matrix of its own, fields of the config)
FAMILIES: dict[str, tuple[str, bool, dict[str, Any]]] = {
  "t5_1_0": ("T5", False, {"feed_forward_proj": "relu"}),
  "t5_1_1": ("T5", True, GATED | UNSCALED),
  "t5_1_1_shared": ("T5", False, GATED | UNSCALED),
  "own_head_scaled": ("T5", True, GATED),
  "mt5": ("MT5", True, GATED),
  "byt5": ("T5", True, GATED | UNSCALED | {"num_layers": 4, "num_decoder_layers": 1}),
  "gated_relu": (
    "T5",
    True,
    {
      "feed_forward_proj": "gated-relu",
      "relative_attention_num_buckets": 8,
      "relative_attention_max_distance": 20,
      **UNSCALED,
    },
  ),
  "gelu_new": ("T5", False, {"feed_forward_proj": "gelu_new"}),
}
ACTIVATIONS = {
  "gelu_new": ("gelu",),
  "relu": ("relu",),
  "gated-gelu": ("gelu", "linear"),
  "gated-relu": ("relu", "linear"),
}


def padded(lengths, longest, seed):
  tokens = np.random.default_rng(seed).integers(3, 48, (len(lengths), longest))
  return np.where(np.arange(longest) < np.array(lengths)[:, None], tokens, 0)


INPUTS = padded([24, 13, 1], 24, 0).astype(np.int32)
TARGETS = padded([12, 5, 1], 12, 1).astype(np.int32)
SHIFTED = np.pad(TARGETS, ((0, 0), (1, 0)))[:, :-1]
REAL = TARGETS > 0


def their_model(name):
  kind, own_head, changes = FAMILIES[name]
  torch.manual_seed(33 + list(FAMILIES).index(name))  # some rows end early
  config = getattr(transformers, f"{kind}Config")(**{**NUMBERS, **changes})
  model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
  if own_head:
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
  with torch.no_grad():
    for path, weight in model.named_parameters():
      if weight.ndim == 1:
        weight.mul_(1 + 0.3 * torch.randn_like(weight))
      elif "relative" in path:
        weight.normal_()
      elif path == "shared.weight":
        weight.mul_(0.3)  # so that the layers, not the last token, choose the next
  return model


def their_logits(model):
  with torch.no_grad():
    return model(
      input_ids=torch.tensor(INPUTS).long(),
      attention_mask=torch.tensor(INPUTS > 0).long(),
      decoder_input_ids=torch.tensor(SHIFTED).long(),
    ).logits.numpy()[REAL]


def config_of(checkpoint):
  return T5Config.of_shapes(checkpoint.shapes, **checkpoint.facts)


def our_model(folder):
  checkpoint = pt.load_checkpoint(str(folder))
  return pt.PromptedT5(pt.T5(config_of(checkpoint), checkpoint))


@nnx.jit
def logits_of(model):
  return model.logits(INPUTS, SHIFTED, TARGETS)


@nnx.jit
def tokens_of(model):
  return model.generate(INPUTS, 8)[0]


def our_logits(folder):
  return np.asarray(logits_of(our_model(folder)))[REAL]


def loaded(folder):
  return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def assert_equal(one, other):
  assert one.keys() == other.keys()
  for path in one:
    assert one[path].dtype == other[path].dtype, path
    np.testing.assert_array_equal(one[path], other[path], err_msg=path)


class Family(NamedTuple):
  name: str
  theirs: Any
  folder: epath.Path  # written by transformers
  again: epath.Path  # read from `folder` and written by this package


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
  place = epath.Path(tmp_path_factory.mktemp(request.param))
  model = their_model(request.param)
  model.save_pretrained(place / "theirs")
  convert.convert(str(place / "theirs"), str(place / "again"), "hf")
  return Family(request.param, model, place / "theirs", place / "again")


def test_logits_are_those_of_transformers(family):
  theirs = their_logits(family.theirs)
  np.testing.assert_allclose(our_logits(family.folder), theirs, rtol=0, atol=1e-4)


def test_transformers_computes_the_same_from_what_is_written(family):
  np.testing.assert_allclose(
    their_logits(loaded(family.again)), their_logits(family.theirs), rtol=0, atol=1e-4
  )


def test_transformers_misses_nothing_and_finds_nothing_else_in_what_is_written(family):
  kind = transformers.AutoModelForSeq2SeqLM
  _, report = kind.from_pretrained(family.again, output_loading_info=True)
  assert not any(report.values()), report


def test_shapes_and_facts_tell_the_whole_config(family):
  theirs = family.theirs.config
  checkpoint = pt.load_checkpoint(str(family.folder))
  assert config_of(checkpoint) == T5Config(
    vocab_size=theirs.vocab_size,
    d_model=theirs.d_model,
    num_heads=theirs.num_heads,
    d_kv=theirs.d_kv,
    d_ff=theirs.d_ff,
    num_encoder_layers=theirs.num_layers,
    num_decoder_layers=theirs.num_decoder_layers,
    relative_buckets=theirs.relative_attention_num_buckets,
    relative_max_distance=theirs.relative_attention_max_distance,
    mlp_activations=ACTIVATIONS[theirs.feed_forward_proj],
    tied_logits=family.name in ("t5_1_0", "gelu_new"),
  )


def test_what_is_written_reads_back_as_it_was(family):
  before, after = (pt.load_checkpoint(str(f)) for f in (family.folder, family.again))
  assert_equal(dict(before), dict(after))
  assert before.facts == after.facts


def test_writing_again_changes_no_byte(family, tmp_path):
  convert.convert(str(family.again), str(tmp_path / "third"), "hf")
  assert {f.name: f.read_bytes() for f in (tmp_path / "third").iterdir()} == {
    f.name: f.read_bytes() for f in family.again.iterdir()
  }


@pytest.mark.parametrize("family", ["t5_1_0", "own_head_scaled", "byt5"], indirect=True)
def test_transformers_generates_the_same_tokens_from_what_is_written(family):
  theirs = loaded(family.again).generate(
    input_ids=torch.tensor(INPUTS).long(),
    attention_mask=torch.tensor(INPUTS > 0).long(),
    max_new_tokens=8,
    do_sample=False,
    num_beams=1,
  )
  ours = tokens_of(our_model(family.again))
  assert not theirs[:, 0].any() and len(theirs.unique()) > 2  # the start token, others
  for mine, other in zip(np.asarray(ours), theirs[:, 1:].numpy(), strict=True):
    np.testing.assert_array_equal(np.trim_zeros(mine, "b"), np.trim_zeros(other, "b"))


def test_every_parameter_of_the_model_has_one_name_there(tiny_config):
  rows = list(huggingface.names(2, 2, gated=True))
  paths = {path for _, path, _ in rows}
  expected = trees.flat_variables(pt.T5.abstract(tiny_config)).keys()
  assert expected - paths == {"decoder/logits_dense/kernel"} and not paths - expected
  assert len(rows) == len(paths) == len({name for name, _, _ in rows})


@pytest.mark.parametrize("kind", ["t5", "mt5"])
@pytest.mark.parametrize("tied", [True, False, None])
@pytest.mark.parametrize("scaled", [True, False, None])
def test_the_head_is_scaled_when_transformers_scales(folder, kind, tied, scaled):
  edit_config(
    folder, model_type=kind, tie_word_embeddings=tied, scale_decoder_outputs=scaled
  )
  theirs = transformers.AutoConfig.from_pretrained(folder)
  scales = kind == "t5" and theirs.scale_decoder_outputs
  head = safetensors.load_file(folder / "model.safetensors")["lm_head.weight"].T
  np.testing.assert_allclose(
    pt.load_checkpoint(str(folder))["decoder/logits_dense/kernel"],
    head / 4 if scales else head,
    rtol=1e-6,
  )


# --- One folder, in parts and in other dtypes.


@pytest.fixture(scope="module")
def t5_1_1():
  return their_model("t5_1_1")


@pytest.fixture(scope="module")
def whole(t5_1_1, tmp_path_factory):
  place = epath.Path(tmp_path_factory.mktemp("whole") / "model")
  t5_1_1.save_pretrained(place)
  return place


@pytest.fixture(scope="module")
def shards(t5_1_1, tmp_path_factory):
  place = epath.Path(tmp_path_factory.mktemp("shards") / "model")
  t5_1_1.save_pretrained(place, max_shard_size="8KB")
  return place


@pytest.fixture
def folder(whole, tmp_path):
  return epath.Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture
def in_shards(shards, tmp_path):
  return epath.Path(shutil.copytree(shards, tmp_path / "model"))


def edit_config(folder, **changes):
  config = json.loads((folder / "config.json").read_text()) | changes
  kept = {name: value for name, value in config.items() if value is not None}
  (folder / "config.json").write_text(json.dumps(kept))


def edit_tensors(folder, edit):
  tensors = safetensors.load_file(folder / "model.safetensors")
  edit(tensors)
  safetensors.save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def edit_index(folder, **content):
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps(json.loads(index.read_text()) | content))


def places_of(folder):
  return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def parts(folder):
  checkpoint = pt.load_checkpoint(str(folder))
  return checkpoint.leaves, dataclasses.asdict(config_of(checkpoint))


def test_shards_of_transformers_are_read_as_one(whole, shards):
  assert len(list(shards.glob("model-*.safetensors"))) > 3
  assert_equal(dict(pt.load_checkpoint(str(shards))), dict(pt.load_checkpoint(str(whole))))


def test_transformers_reads_our_shards(whole, t5_1_1, tmp_path):
  leaves, config = parts(whole)
  target = epath.Path(tmp_path / "new")
  huggingface.save(target, leaves, config, shard_bytes=6000)
  assert not (target / "model.safetensors").exists()
  np.testing.assert_array_equal(their_logits(loaded(target)), their_logits(t5_1_1))
  assert_equal(dict(pt.load_checkpoint(str(target))), dict(pt.load_checkpoint(str(whole))))


def test_no_shard_is_larger_than_asked_and_the_index_adds_up(whole, tmp_path):
  leaves, config = parts(whole)
  target = epath.Path(tmp_path / "new")
  huggingface.save(target, leaves, config, shard_bytes=6000)
  files = sorted(target.glob("model-*.safetensors"))
  assert len(files) > 3
  assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
  found = {file.name: safetensors.load_file(file) for file in files}
  sizes = [sum(x.nbytes for x in tensors.values()) for tensors in found.values()]
  assert max(sizes) <= 6000
  index = json.loads((target / "model.safetensors.index.json").read_text())
  assert index["metadata"]["total_size"] == sum(sizes)
  assert index["weight_map"] == {n: file for file, names in found.items() for n in names}


@pytest.mark.parametrize("shard_bytes", [6000, 10**9])
def test_every_file_says_that_it_is_pytorch_s_as_transformers_4_demands(
  whole, tmp_path, shard_bytes
):
  target = epath.Path(tmp_path / "new")
  huggingface.save(target, *parts(whole), shard_bytes)
  for file in target.glob("*.safetensors"):
    assert safetensors_files.read(file).metadata == {"format": "pt"}


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(whole, tmp_path):
  leaves, config = parts(whole)
  target = epath.Path(tmp_path / "new")
  huggingface.save(target, leaves, config, shard_bytes=1)
  assert len(list(target.glob("model-*.safetensors"))) == len(leaves)
  assert_equal(dict(pt.load_checkpoint(str(target))), dict(pt.load_checkpoint(str(whole))))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_dtype_and_values(dtype, tmp_path):
  model = their_model("t5_1_1").to(getattr(torch, dtype))
  model.save_pretrained(tmp_path / "theirs")
  convert.convert(str(tmp_path / "theirs"), str(tmp_path / "again"), "hf")
  weights = {name: w.float().detach().numpy() for name, w in model.named_parameters()}
  rows = [*huggingface.names(3, 2, True)]
  rows.append(("lm_head.weight", "decoder/logits_dense/kernel", True))
  for place in ("theirs", "again"):
    found = pt.load_checkpoint(str(tmp_path / place))
    assert len(found) == len(rows)
    for name, path, turn in rows:
      assert found[path].dtype == found.leaves[path].dtype == np.dtype(dtype)
      expected = weights[name].T if turn else weights[name]
      np.testing.assert_array_equal(found[path].astype(np.float32), expected)


def test_transformers_reads_our_bfloat16_as_such(whole, tmp_path):
  options = convert.Options(dtype="bfloat16")
  convert.convert(str(whole), str(tmp_path / "half"), "hf", options)
  model = loaded(tmp_path / "half")
  assert model.dtype == torch.bfloat16
  table = pt.load_checkpoint(str(whole))["token_embedder/embedding"]
  np.testing.assert_array_equal(
    model.shared.weight.float().detach().numpy(),
    table.astype(ml_dtypes.bfloat16).astype(np.float32),
  )


def test_a_vocabulary_of_mt5_is_written_as_mt5(tmp_path):
  config = T5Config(
    vocab_size=250112,
    d_model=2,
    num_heads=1,
    d_kv=2,
    d_ff=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  shapes = trees.flat_variables(pt.T5.abstract(config))
  leaves = {
    path: Inline(np.ones(x.shape, ml_dtypes.bfloat16)) for path, x in shapes.items()
  }
  huggingface.save(epath.Path(tmp_path / "new"), leaves, dataclasses.asdict(config))
  assert type(loaded(tmp_path / "new")) is transformers.MT5ForConditionalGeneration
  found = pt.load_checkpoint(str(tmp_path / "new"))
  assert config_of(found) == config


def test_a_file_of_weights_means_its_folder(whole):
  found = pt.load_checkpoint(str(whole / "model.safetensors"))
  assert found.path == whole and found.format == "Hugging Face"


def test_no_weight_is_read_but_table_and_head_until_it_is_asked_for(whole, monkeypatch):
  names, read = [], safetensors_files.Tensor.read

  def recorded(self, *box):
    names.append(self.name)
    return read(self, *box)

  monkeypatch.setattr(safetensors_files.Tensor, "read", recorded)  # still reads
  found = pt.load_checkpoint(str(whole))
  assert set(names) <= {"shared.weight", "lm_head.weight"}
  assert found.nbytes == sum(array.nbytes for array in found.values())


def test_copies_that_early_versions_stored_are_ignored(folder):
  before = dict(pt.load_checkpoint(str(folder)))
  positions = "relative_attention_bias.weight"

  def add(tensors):
    for tower in ("encoder", "decoder"):
      tensors[f"{tower}.embed_tokens.weight"] = tensors["shared.weight"].copy()
    unused = tensors[f"decoder.block.0.layer.0.SelfAttention.{positions}"].copy()
    tensors[f"decoder.block.0.layer.1.EncDecAttention.{positions}"] = unused

  edit_tensors(folder, add)
  assert_equal(dict(pt.load_checkpoint(str(folder))), before)


def test_of_one_file_and_an_index_the_one_is_read_that_transformers_reads(in_shards, whole):
  shutil.copy(whole / "model.safetensors", in_shards)
  edit_tensors(in_shards, lambda t: t["shared.weight"].fill(2))
  theirs = loaded(in_shards).shared.weight.detach().numpy()
  ours = pt.load_checkpoint(str(in_shards))["token_embedder/embedding"]
  np.testing.assert_array_equal(ours, theirs)


def test_a_stored_copy_of_the_table_is_a_shared_head(folder):
  edit_tensors(folder, lambda t: t.update({"lm_head.weight": t["shared.weight"].copy()}))
  edit_config(folder, tie_word_embeddings=True, scale_decoder_outputs=True)
  found = pt.load_checkpoint(str(folder))
  assert config_of(found).tied_logits
  theirs = their_logits(loaded(folder))
  np.testing.assert_allclose(our_logits(folder), theirs, rtol=0, atol=1e-4)


def test_a_config_without_a_depth_of_the_decoder_has_one_depth(folder):
  def cut(tensors):
    for name in [n for n in tensors if n.startswith("encoder.block.2.")]:
      del tensors[name]

  edit_tensors(folder, cut)
  edit_config(folder, num_layers=2, num_decoder_layers=None)
  config = config_of(pt.load_checkpoint(str(folder)))
  assert (config.num_encoder_layers, config.num_decoder_layers) == (2, 2)


# --- What is refused, and how.


def refusal(path):
  with pytest.raises(checks.InputError) as error:
    pt.load_checkpoint(str(path))
  assert str(path) in str(error.value)
  return str(error.value).replace(str(path), "")  # its name proves nothing


class Trap:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 5])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_pickled_weights_are_refused_and_never_run(folder, name, protocol, tmp_path):
  trap = tmp_path / "trap"
  (folder / "model.safetensors").unlink()
  (folder / name).write_bytes(pickle.dumps(Trap(trap), protocol))
  text = refusal(folder)
  assert "pickled" in text and "save_pretrained" in text
  refusal(folder / name)
  assert not trap.exists()
  pickle.loads((folder / name).read_bytes())
  assert trap.exists()  # the trap is one


def test_pickled_weights_beside_safe_ones_are_ignored(folder, whole, tmp_path):
  trap = tmp_path / "trap"
  (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(trap)))
  assert_equal(dict(pt.load_checkpoint(str(folder))), dict(pt.load_checkpoint(str(whole))))
  assert not trap.exists()


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("model_type", "umt5"),
    ("model_type", "bart"),
    ("model_type", None),
    ("model_type", ["t5"]),
    ("layer_norm_epsilon", 1e-5),
    ("feed_forward_proj", "gelu"),
    ("feed_forward_proj", "gated-silu"),
    ("feed_forward_proj", "swish"),
    ("feed_forward_proj", 7),
    ("feed_forward_proj", "gated-swish-relu"),
    ("num_layers", "3"),
    ("num_layers", 3.0),
    ("num_layers", True),
    ("num_layers", 0),
    ("num_layers", -1),
    ("num_layers", 10**9),
    ("num_layers", 100_000),
    ("num_layers", None),
    ("num_decoder_layers", "2"),
    ("num_decoder_layers", -1),
    ("num_decoder_layers", 10**9),
    ("relative_attention_max_distance", -128),
    ("relative_attention_max_distance", "128"),
  ],
)
def test_a_config_of_another_model_is_refused(folder, field, value):
  edit_config(folder, **{field: value})
  text = refusal(folder)
  assert field in text
  assert field == "layer_norm_epsilon" or str(value) in text


def test_a_table_of_another_rank_is_refused(folder):
  edit_config(folder, tie_word_embeddings=True, scale_decoder_outputs=True)
  edit_tensors(folder, lambda t: t.update({"shared.weight": t["shared.weight"][0].copy()}))
  with pytest.raises(checks.InputError, match=r"shared\.weight"):
    pt.load_checkpoint(str(folder))


@pytest.mark.parametrize(
  "content", [b"", b'{"model_type"', b"[]", b'"t5"', b"\xff\xfe\x00", b"[" * 100_000]
)
def test_a_config_that_is_no_map_is_refused(folder, content):
  (folder / "config.json").write_bytes(content)
  assert "/config.json cannot be read" in refusal(folder)


def test_missing_and_surplus_tensors_are_listed_by_name(folder):
  lost = "encoder.block.1.layer.0.SelfAttention.q.weight"
  edit_tensors(folder, lambda t: t.update({"adapter.down.weight": t.pop(lost)}))
  lines = refusal(folder).splitlines()
  assert lines[1:] == [f"  - {lost}", "  + adapter.down.weight"]


def test_a_depth_that_is_not_the_file_s_is_refused_by_name(folder):
  edit_config(folder, num_layers=2)
  lines = refusal(folder).splitlines()[1:]
  assert len(lines) == 9 and all(n.startswith("  + encoder.block.2.") for n in lines)


def test_a_model_without_a_decoder_is_refused(folder):
  def cut(tensors):
    for name in [n for n in tensors if n.startswith(("decoder", "lm_head"))]:
      del tensors[name]

  edit_tensors(folder, cut)
  text = refusal(folder)
  assert "  - decoder.final_layer_norm.weight" in text and "language model head" in text


@pytest.mark.parametrize(
  "place", ["../outside.safetensors", "{absolute}", "sub/inside.safetensors", "..", ""]
)
def test_an_index_cannot_point_outside(in_shards, tmp_path, place):
  place = place.format(absolute=tmp_path / "outside.safetensors")
  (in_shards / "sub").mkdir()
  places = places_of(in_shards)
  for copy in (tmp_path / "outside.safetensors", in_shards / "sub/inside.safetensors"):
    shutil.copy(in_shards / places["shared.weight"], copy)
  edit_index(in_shards, weight_map=places | {"shared.weight": place})
  text = refusal(in_shards)
  assert "/model.safetensors.index.json" in text
  assert "points outside" in text and repr(place) in text


@pytest.mark.parametrize("places", [None, [], "model.safetensors", {"shared.weight": 1}])
def test_an_index_without_a_map_is_refused(in_shards, places):
  edit_index(in_shards, weight_map=places)
  text = refusal(in_shards)
  assert "/model.safetensors.index.json" in text and "weight_map" in text


def test_an_index_that_names_a_tensor_in_another_shard_is_refused(in_shards):
  places = places_of(in_shards)
  wrong = next(p for p in places.values() if p != places["shared.weight"])
  edit_index(in_shards, weight_map=places | {"shared.weight": wrong})
  text = refusal(in_shards)
  assert f"/{wrong} cannot be read" in text and "shared.weight is not in it" in text


def test_a_missing_shard_is_named(in_shards):
  lost = places_of(in_shards)["shared.weight"]
  (in_shards / lost).unlink()
  assert f"/{lost} cannot be read" in refusal(in_shards)


def test_a_shard_that_was_cut_is_named(in_shards):
  cut = in_shards / places_of(in_shards)["decoder.block.0.layer.2.layer_norm.weight"]
  cut.write_bytes(cut.read_bytes()[:-1])
  assert f"/{cut.name} cannot be read" in refusal(in_shards)


def test_a_tensor_that_an_index_leaves_out_is_missed(in_shards):
  places = places_of(in_shards)
  del places["shared.weight"]
  edit_index(in_shards, weight_map=places)
  assert "  - shared.weight" in refusal(in_shards).splitlines()


def test_a_folder_without_weights_is_no_checkpoint(folder):
  (folder / "model.safetensors").unlink()
  assert "no model checkpoint" in refusal(folder)


# --- Writing is whole or not at all.


@pytest.mark.parametrize("is_file", [True, False])
def test_what_exists_is_not_overwritten(whole, tmp_path, is_file):
  target = epath.Path(tmp_path / "taken")
  mine = target if is_file else target / "mine"
  mine.parent.mkdir(exist_ok=True)
  mine.write_text("mine")
  with pytest.raises(checks.InputError, match="taken exists"):
    huggingface.save(target, *parts(whole))
  with pytest.raises(checks.InputError, match="taken exists"):
    convert.convert(str(whole), str(target), "hf")
  assert mine.read_text() == "mine"
  assert sorted(tmp_path.rglob("*")) == sorted({tmp_path / "taken", tmp_path / mine})


@dataclasses.dataclass(frozen=True)
class Failing(Inline):
  error: type[BaseException]

  def read(self, *box):
    raise self.error("the disk is gone")


@pytest.mark.parametrize("shard_bytes", [6000, 10**9])
@pytest.mark.parametrize("error", [checks.InputError, SystemExit])
def test_nothing_is_left_of_a_save_that_failed(whole, tmp_path, error, shard_bytes):
  leaves, config = parts(whole)
  path = "decoder/layers_1/mlp/wo/kernel"
  leaves = leaves | {path: Failing(leaves[path].read(), error)}
  with pytest.raises(error, match="the disk is gone"):
    huggingface.save(epath.Path(tmp_path / "new"), leaves, config, shard_bytes)
  assert not list(tmp_path.iterdir())


def test_a_save_with_other_parameters_is_refused_before_anything_is_written(
  whole, tmp_path
):
  leaves, config = parts(whole)
  leaves["decoder/adapter/kernel"] = leaves.pop("decoder/layers_1/mlp/wo/kernel")
  with pytest.raises(checks.InputError) as error:
    huggingface.save(epath.Path(tmp_path / "new"), leaves, config)
  assert str(error.value).splitlines()[1:] == [
    "  - decoder/layers_1/mlp/wo/kernel",
    "  + decoder/adapter/kernel",
  ]
  assert not list(tmp_path.iterdir())
