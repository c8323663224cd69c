"""PEFT adapters: peft and this package compute the same from either's."""

import json
import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from etils import epath
from flax import nnx
from safetensors import numpy as safetensors

import prompt_tuning as pt
from prompt_tuning import checks, convert, formats
from prompt_tuning.checkpoints import peft as adapters
from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.models.config import T5Config

os.environ.setdefault("HF_HUB_OFFLINE", "1")
_HINT = "is not installed; `pip install prompt-tuning[hf]` brings it"
torch = pytest.importorskip("torch", reason=f"torch {_HINT}")
transformers = pytest.importorskip("transformers", reason=f"transformers {_HINT}")
peft = pytest.importorskip("peft", reason=f"peft {_HINT}")
pytestmark = pytest.mark.filterwarnings(
  "ignore:Could not find a config file", "ignore:.is_gradient_checkpointing"
)

METADATA = {
  "base_fingerprint": "0123abcd",
  "base_model": "google/t5-v1_1-base",
  "vocabulary": {"size": 48, "sha256": "ff00"},
  "task": "glue_rte_v002",
  "step": 30000,
  "score": 0.625,
  "metrics": {"accuracy": 62.5, "f1": None},
  "library_version": "0.1.0",
}


def padded(lengths, longest, seed):
  tokens = np.random.default_rng(seed).integers(3, 48, (len(lengths), longest))
  return np.where(np.arange(longest) < np.array(lengths)[:, None], tokens, 0)


INPUTS = padded([12, 7, 1], 12, 0).astype(np.int32)
TARGETS = padded([6, 3, 1], 6, 1).astype(np.int32)
SHIFTED = np.pad(TARGETS, ((0, 0), (1, 0)))[:, :-1]
REAL = TARGETS > 0
PROMPT = np.random.default_rng(2).normal(0, 3, (6, 16)).astype(np.float32)
HEARD = {"input_ids": INPUTS, "attention_mask": INPUTS > 0}


@pytest.fixture(scope="module", params=["relu", "gated-gelu"])
def base(request, tmp_path_factory):
  torch.manual_seed(36)  # some rows end early
  config = transformers.T5Config(
    vocab_size=48,
    d_model=16,
    d_kv=6,
    d_ff=20,
    num_heads=4,
    num_layers=2,
    num_decoder_layers=1,
    decoder_start_token_id=0,
    feed_forward_proj=request.param,
    tie_word_embeddings=request.param == "relu",
  )
  model = transformers.T5ForConditionalGeneration(config)
  if request.param == "gated-gelu":
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
  with torch.no_grad():
    model.shared.weight.mul_(0.3)
    for path, weight in model.named_parameters():
      if "relative" in path:
        weight.normal_()
  place = tmp_path_factory.mktemp("base") / request.param
  model.save_pretrained(place)
  return place


def their_model(base):
  return transformers.AutoModelForSeq2SeqLM.from_pretrained(base)


def heard():
  return {name: torch.tensor(array).long() for name, array in HEARD.items()}


def their_logits(model):
  with torch.no_grad():
    found = model.eval()(**heard(), decoder_input_ids=torch.tensor(SHIFTED).long())
  return found.logits.numpy()[REAL]


def their_tokens(model):
  model.eval()
  found = model.generate(**heard(), max_new_tokens=8, do_sample=False, num_beams=1)
  assert not found[:, 0].any()  # the start token
  return [np.trim_zeros(row, "b").tolist() for row in found[:, 1:].numpy()]


def our_model(base, prompt):
  checkpoint = pt.load_checkpoint(str(base))
  config = T5Config.of_shapes(checkpoint.shapes, **checkpoint.facts)
  return pt.PromptedT5(pt.T5(config, checkpoint), pt.PromptBank(prompt))


@nnx.jit
def logits_of(model):
  return model.logits(INPUTS, SHIFTED, TARGETS)


@nnx.jit
def tokens_of(model):
  return model.generate(INPUTS, 8)[0]


def our_logits(model):
  return np.asarray(logits_of(model))[REAL]


def our_tokens(model):
  tokens = tokens_of(model)
  return [np.trim_zeros(row, "b").tolist() for row in np.asarray(tokens)]


@pytest.fixture
def prompt(tmp_path):
  path = tmp_path / "prompt.safetensors"
  pt.save_prompt(str(path), PROMPT, METADATA)
  return path


@pytest.fixture
def adapter(tmp_path):
  place = epath.Path(tmp_path / "adapter")
  adapters.save(place, prompt_file(PROMPT, METADATA))
  return place


def prompt_file(array, metadata=None):
  return PromptFile(array, dict(metadata or {}), epath.Path("memory"), "numpy")


def test_peft_computes_the_same_from_an_adapter_written_here(base, adapter):
  plain = their_logits(their_model(base))
  tuned = peft.PeftModel.from_pretrained(their_model(base), adapter)
  ours = our_model(base, PROMPT)
  theirs = their_logits(tuned)
  np.testing.assert_allclose(our_logits(ours), theirs, rtol=0, atol=1e-4)
  assert np.abs(theirs - plain).max() > 0.1  # the prompt is heard
  assert our_tokens(ours) == their_tokens(tuned)


@pytest.mark.parametrize("submodules", [None, 1])
def test_an_adapter_written_by_peft_computes_the_same_here(base, submodules, tmp_path):
  config = peft.PromptTuningConfig(
    task_type="SEQ_2_SEQ_LM", num_virtual_tokens=5, num_transformer_submodules=submodules
  )
  tuned = peft.get_peft_model(their_model(base), config)
  rows = tuned.prompt_encoder["default"].embedding.weight
  assert rows.shape[0] == 5 * (submodules or 2)
  torch.manual_seed(6)
  torch.nn.init.normal_(rows, std=3)
  tuned.save_pretrained(tmp_path / "there")
  found = formats.read_prompt(str(tmp_path / "there"))
  np.testing.assert_array_equal(found.prompt, rows[:5].detach().numpy())
  assert found.metadata == {"base_model": str(base), "prompt_length": 5}
  ours = our_model(base, found.prompt)
  np.testing.assert_allclose(our_logits(ours), their_logits(tuned), rtol=0, atol=1e-4)
  assert our_tokens(ours) == their_tokens(tuned)


def test_an_adapter_that_peft_writes_again_has_the_same_prompt(base, adapter, tmp_path):
  tuned = peft.PeftModel.from_pretrained(their_model(base), adapter)
  tuned.save_pretrained(tmp_path / "again")
  np.testing.assert_array_equal(pt.load_prompt(str(tmp_path / "again")), PROMPT)


def test_peft_reads_the_config_as_prompt_tuning_of_a_seq2seq_model(adapter):
  config = peft.PeftConfig.from_pretrained(str(adapter))
  assert isinstance(config, peft.PromptTuningConfig)
  assert (config.peft_type, config.task_type) == ("PROMPT_TUNING", "SEQ_2_SEQ_LM")
  assert (config.num_virtual_tokens, config.token_dim) == PROMPT.shape
  assert config.num_transformer_submodules == 1 and config.inference_mode


def test_what_is_known_of_a_prompt_survives_an_adapter(prompt, tmp_path):
  convert.convert(str(prompt), str(tmp_path / "adapter"), "peft")
  found = formats.read_prompt(str(tmp_path / "adapter"))
  assert found.metadata == METADATA | {"prompt_length": 6, "d_model": 16}
  assert found.format == "PEFT adapter" and found.path == tmp_path / "adapter"
  convert.convert(str(tmp_path / "adapter"), str(tmp_path / "b.safetensors"), "safetensors")
  before, after = (
    formats.read_prompt(str(p)) for p in (prompt, tmp_path / "b.safetensors")
  )
  assert after.metadata == before.metadata
  np.testing.assert_array_equal(after.prompt, before.prompt)


def test_the_base_is_the_one_named_else_the_prompt_s_else_none(prompt, tmp_path):
  def written(name, source, base=None):
    options = convert.Options(base=base)
    convert.convert(str(source), str(tmp_path / name), "peft", options)
    config = json.loads((tmp_path / name / "adapter_config.json").read_text())
    found = formats.read_prompt(str(tmp_path / name)).metadata["base_model"]
    assert config["base_model_name_or_path"] == found
    return found

  np.save(tmp_path / "bare.npy", PROMPT)
  assert written("named", prompt, "our/model") == "our/model"
  assert written("known", prompt) == METADATA["base_model"]
  assert written("bare", tmp_path / "bare.npy") is None
  assert written("again", tmp_path / "named") == "our/model"


def test_an_adapter_becomes_plain_numpy(adapter, tmp_path):
  convert.convert(str(adapter), str(tmp_path / "plain.npy"), "npy")
  np.testing.assert_array_equal(np.load(tmp_path / "plain.npy"), PROMPT)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_adapter_is_stored_in_the_dtype_that_was_asked_for(prompt, dtype, tmp_path):
  options = convert.Options(dtype=dtype)
  convert.convert(str(prompt), str(tmp_path / "half"), "peft", options)
  weights = epath.Path(tmp_path / "half" / "adapter_model.safetensors")
  found = safetensors_files.read(weights).leaves["prompt_embeddings"]
  assert found.dtype == np.dtype(dtype)
  np.testing.assert_array_equal(found.read(), PROMPT.astype(np.dtype(dtype)))


def test_a_bank_of_one_is_a_prompt_and_a_bank_of_two_is_refused(tmp_path):
  adapters.save(epath.Path(tmp_path / "one"), prompt_file(PROMPT[None]))
  np.testing.assert_array_equal(pt.load_prompt(str(tmp_path / "one")), PROMPT)
  two = prompt_file(np.stack([PROMPT, PROMPT]))
  with pytest.raises(checks.InputError, match=r"memory .*bank of 2 prompts"):
    adapters.save(epath.Path(tmp_path / "two"), two)
  assert [child.name for child in tmp_path.iterdir()] == ["one"]


def test_a_file_of_weights_means_its_folder(adapter):
  found = formats.read_prompt(str(adapter / "adapter_model.safetensors"))
  assert found.path == adapter and found.format == "PEFT adapter"


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_is_read_as_float32(adapter, dtype):
  edit_tensors(adapter, {"prompt_embeddings": PROMPT.astype(dtype)})
  found = pt.load_prompt(str(adapter))
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, PROMPT.astype(dtype).astype(np.float32))


# --- What is refused, and how.


def edit_config(adapter, **changes):
  config = json.loads((adapter / "adapter_config.json").read_text()) | changes
  kept = {name: value for name, value in config.items() if value is not None}
  (adapter / "adapter_config.json").write_text(json.dumps(kept))


def edit_tensors(adapter, tensors):
  safetensors.save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})


def refusal(path):
  with pytest.raises(checks.InputError) as error:
    formats.read_prompt(str(path))
  assert str(path) in str(error.value)
  return str(error.value).replace(str(path), "")  # its name proves nothing


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("peft_type", "LORA"),
    ("peft_type", "PREFIX_TUNING"),
    ("peft_type", "P_TUNING"),
    ("peft_type", "MULTITASK_PROMPT_TUNING"),
    ("peft_type", None),
    ("task_type", "SEQ_CLS"),
    ("task_type", None),
  ],
)
def test_an_adapter_of_another_method_or_task_is_refused(adapter, field, value):
  edit_config(adapter, **{field: value})
  text = refusal(adapter)
  assert f"{field!r}: {value!r}" in text
  assert "PROMPT_TUNING" in text and "SEQ_2_SEQ_LM" in text


def test_a_lora_of_peft_is_refused(base, tmp_path):
  config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=2)
  peft.get_peft_model(their_model(base), config).save_pretrained(tmp_path / "there")
  assert "LORA" in refusal(tmp_path / "there")


@pytest.mark.parametrize("tokens", [7, 10**9, 0, -1, "6", 6.0, True])
def test_a_number_of_virtual_tokens_that_is_not_there_is_refused(adapter, tokens):
  edit_config(adapter, num_virtual_tokens=tokens)
  text = refusal(adapter)
  assert "num_virtual_tokens" in text and f" {tokens} " in text and "[6, 16]" in text


def test_an_adapter_that_does_not_say_how_many_tokens_is_refused(adapter):
  edit_config(adapter, num_virtual_tokens=None)
  assert "num_virtual_tokens" in refusal(adapter)


@pytest.mark.parametrize("content", [b"", b'{"peft', b"[]", b"7", b"\xff", b"[" * 100_000])
def test_a_config_that_is_no_map_is_refused(adapter, content):
  (adapter / "adapter_config.json").write_bytes(content)
  assert "adapter_config.json is damaged" in refusal(adapter)


def test_an_adapter_without_prompt_embeddings_is_refused(adapter):
  edit_tensors(adapter, {"base_model.lm_head.weight": PROMPT})
  assert "{'base_model.lm_head.weight': [6, 16]}" in refusal(adapter)


@pytest.mark.parametrize(
  "array", [PROMPT[:, 0], PROMPT[:, :0], PROMPT.astype(np.int32)], ids=["1d", "0", "int"]
)
def test_embeddings_that_are_no_prompt_are_refused(adapter, array):
  edit_tensors(adapter, {"prompt_embeddings": np.ascontiguousarray(array)})
  assert f"{list(array.shape)}" in refusal(adapter)


def test_embeddings_that_are_one_number_are_refused(adapter):
  edit_tensors(adapter, {"prompt_embeddings": np.array(1, np.float32)})
  assert "{'prompt_embeddings': []}" in refusal(adapter)


class Trap:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 5])
def test_pickled_weights_are_refused_and_never_run(adapter, protocol, tmp_path):
  trap, weights = tmp_path / "trap", adapter / "adapter_model.bin"
  (adapter / "adapter_model.safetensors").unlink()
  weights.write_bytes(pickle.dumps(Trap(trap), protocol))
  text = refusal(adapter)
  assert "pickled" in text and "save_pretrained" in text
  refusal(weights)
  assert not trap.exists()
  pickle.loads(weights.read_bytes())
  assert trap.exists()  # the trap is one


def test_an_adapter_without_weights_is_refused(adapter):
  (adapter / "adapter_model.safetensors").unlink()
  assert "adapter_model.safetensors" in refusal(adapter)


def test_weights_that_were_cut_are_refused(adapter):
  weights = adapter / "adapter_model.safetensors"
  weights.write_bytes(weights.read_bytes()[:-1])
  assert "adapter_model.safetensors cannot be read" in refusal(adapter)


def test_an_adapter_is_no_model(adapter):
  with pytest.raises(checks.InputError, match="found a prompt") as error:
    pt.load_checkpoint(str(adapter))
  assert str(adapter) in str(error.value)


# --- Writing is whole or not at all.


@pytest.mark.parametrize("is_file", [True, False])
def test_what_exists_is_not_overwritten(tmp_path, is_file):
  target = epath.Path(tmp_path / "taken")
  mine = target if is_file else target / "mine"
  mine.parent.mkdir(exist_ok=True)
  mine.write_text("mine")
  with pytest.raises(checks.InputError, match="taken exists"):
    adapters.save(target, prompt_file(PROMPT))
  assert mine.read_text() == "mine"
  assert sorted(tmp_path.rglob("*")) == sorted({tmp_path / "taken", tmp_path / mine})


@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_nothing_is_left_of_a_save_that_failed(tmp_path, monkeypatch, error):
  write = safetensors_files.write

  def failing(*arguments):
    write(*arguments)
    raise error("the disk is full")

  monkeypatch.setattr(safetensors_files, "write", failing)  # no disk to fill here
  with pytest.raises(error, match="the disk is full"):
    adapters.save(epath.Path(tmp_path / "new"), prompt_file(PROMPT))
  assert not list(tmp_path.iterdir())


def test_an_adapter_that_trained_more_than_a_prompt_is_refused(adapter):
  edit_tensors(adapter, {"prompt_embeddings": PROMPT, "base_model.lm_head.weight": PROMPT})
  assert "only prompt_embeddings can be used" in refusal(adapter)


def test_an_adapter_of_another_width_than_it_says_is_refused(adapter):
  edit_config(adapter, token_dim=17)
  assert "of width 17" in refusal(adapter)
