"""A prompt for a decoder-only model: every command that takes one for a T5 takes it too."""

import json

import numpy as np
import pytest
from tiny_tasks import sentences

from prompt_tuning import assembly, formats, model_configs
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import vocabularies
from prompt_tuning.predictor import Predictor

llama_files = pytest.importorskip("llama_files")
tokenizers = pytest.importorskip("tokenizers")
peft = pytest.importorskip("peft", reason="peft is not installed; [hf] brings it")
SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>"}
LABELS = ["negative", "positive"]

MODEL_GIN = """
include 'prompt_tuning/configs/models/llama_prompt.gin'
MODEL_PATH = {path!r}
ACTIVATION_DTYPE = 'float32'
PROMPT_LENGTH = 3
"""


def save_tokenizer(folder, special=SPECIAL):
  found = tokenizers.Tokenizer(tokenizers.models.BPE())
  found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  found.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=297,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  found.train_from_iterator([" ".join(row) for row in sentences("train")], trainer)
  found.add_special_tokens(list(SPECIAL.values()))
  found.save(str(folder / "tokenizer.json"))
  config = {f"{name}_token": text for name, text in special.items()}
  config["chat_template"] = "<s>{{ messages[0].content }}</s>\nSay: "
  (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def llama(base, tmp_path_factory):
  """The folder of a random Llama with a tokenizer, and gin files over it."""
  folder = tmp_path_factory.mktemp("llama")
  model = llama_files.model(tie_word_embeddings=True)
  with llama_files.torch.no_grad():
    for weight in model.parameters():
      weight.mul_(0.2)
  model.save_pretrained(folder)
  save_tokenizer(folder)
  (folder / "tiny_model.gin").write_text(MODEL_GIN.format(path=str(folder)))
  for name in ("tiny_task", "train", "sweep", "eval", "infer", "ensemble"):
    (folder / f"{name}.gin").write_text((base / f"{name}.gin").read_text())
  return folder


@pytest.fixture(scope="module")
def llama_command(llama):
  outputs = {"train": "MODEL_DIR", "sweep": "MODEL_DIR", "infer": "INFER_OUTPUT_DIR"}

  def arguments(run, out, *flags, **macros):
    given = {outputs.get(run, "EVAL_OUTPUT_DIR"): str(out), **macros}
    return [
      run,
      f"--gin_search_paths={llama}",
      f"--gin_file={run}.gin",
      *(f"--gin.{name}={value!r}" for name, value in given.items()),
      *flags,
    ]

  return arguments


PACKED = {
  "PACK": True,
  "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 32},
  "BATCH_SIZE": 1,
  "LEARNING_RATE": 0.05,
}


@pytest.fixture(scope="module")
def tuned(llama_command, tmp_path_factory):
  """A finished run in packed rows."""
  from prompt_tuning.cli.main import main

  folder = tmp_path_factory.mktemp("tuned") / "run"
  assert main(llama_command("train", folder, **PACKED)) == 0
  return folder


def test_it_trains_and_says_what_it_is(tuned):
  rows = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
  losses = [row["loss_per_nonpadding_target_token"] for row in rows if "loss" in row]
  assert losses[-1] < losses[0] - 0.2
  found = formats.read_prompt(str(tuned))
  assert found.prompt.shape == (3, 64)
  assert found.metadata["family"] == "llama"
  assert "prompt->prompt;causal" in found.metadata["visibility"]
  saved = tuned / "numpy_checkpoints"
  names = {path.name for path in saved.glob("*/*")}
  assert names == {"encoder.prompt.prompt.prompt"}


def test_an_interrupted_run_ends_the_same(run, llama_command, tuned, tmp_path):
  half = {**PACKED, "TRAIN_STEPS_RELATIVE": 6}
  assert run(llama_command("train", tmp_path / "run", **half)).status == 0
  assert run(llama_command("train", tmp_path / "run", **PACKED)).status == 0
  found = [
    formats.load_prompt(str(p / "numpy_checkpoints")) for p in (tuned, tmp_path / "run")
  ]
  np.testing.assert_array_equal(*found)


def test_eval_and_infer_agree_with_the_run(run, llama_command, tuned, tmp_path):
  result = run(llama_command("eval", tmp_path / "eval", PROMPT_FILE=str(tuned)))
  assert result.status == 0, result.err
  (card,) = json.loads((tmp_path / "eval/results.json").read_text())["prompts"]
  summary = json.loads((tuned / "summary.json").read_text())
  expected = summary["tasks"]["tiny_words"]["prompt"]["accuracy"]
  assert card["tasks"]["tiny_words"]["accuracy"] == expected
  result = run(llama_command("infer", tmp_path / "infer", PROMPT_FILE=str(tuned)))
  assert result.status == 0, result.err


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_weights_in_less_score_nearly_the_same(llama, tuned, dtype):
  config, vocabulary = (
    model_configs.of_checkpoint(str(llama)),
    vocabularies.Tokenizer(path=str(llama)),
  )
  scores = []
  for held in ("float32", dtype):
    source = RestoreCheckpointConfig(path=str(llama), dtype=held)
    base = assembly.load_base(config, source)
    predictor = Predictor(
      base, {"tuned": str(tuned)}, None, vocabulary, max_input_len=32, batch_size=4
    )
    texts = [text for text, _ in sentences("test")][:4]
    scores.append(predictor.score(texts, ["positive"] * 4, "tuned"))
  found = np.array([[one.score for one in each] for each in scores])
  assert 0 < np.abs(found[1] - found[0]).max() < 0.5


def test_a_sweep_and_an_ensemble_of_its_members(run, llama_command, tmp_path):
  given = {**PACKED, "SWEEP_SEEDS": [0, 1]}
  result = run(llama_command("sweep", tmp_path / "sweep", **given))
  assert result.status == 0, result.err
  prompts = sorted(
    str(p) for p in (tmp_path / "sweep/members").glob("*/prompt.safetensors")
  )
  assert len(prompts) == 2
  result = run(llama_command("ensemble", tmp_path / "ensemble", PROMPT_FILES=prompts))
  assert result.status == 0, result.err


def test_one_process_answers_with_several(llama, tuned, tmp_path):
  config = model_configs.of_checkpoint(str(llama))
  base = assembly.load_base(config, RestoreCheckpointConfig(path=str(llama)))
  vocabulary = vocabularies.Tokenizer(path=str(llama))
  other = 0.5 * np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
  prompts = {"tuned": str(tuned), "other": other}
  predictor = Predictor(
    base, prompts, {"tuned": LABELS}, vocabulary, max_input_len=32, batch_size=4
  )
  texts = [text for text, _ in sentences("test")]
  together = predictor.predict(texts, ["tuned", "other"] * 4 + ["tuned"])
  alone = predictor.predict(texts, "tuned")
  assert [x.text for x in together[::2]] == [x.text for x in alone[::2]]


def test_peft_answers_with_the_prompt_and_ours_with_its(llama, tuned, tmp_path):
  from prompt_tuning import convert

  place = convert.convert(str(tuned), str(tmp_path / "adapter"), "peft")
  assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())[
    "task_type"
  ] == ("CAUSAL_LM")
  model = llama_files.transformers.AutoModelForCausalLM.from_pretrained(llama)
  theirs = peft.PeftModel.from_pretrained(model, place)
  found = theirs.prompt_encoder["default"].embedding.weight.detach().numpy()
  np.testing.assert_array_equal(found, formats.load_prompt(str(tuned)))
  theirs.save_pretrained(tmp_path / "back")
  back = formats.read_prompt(str(tmp_path / "back"))
  assert assembly.visibility_of(back) == assembly.visibility_of(
    formats.read_prompt(str(tuned))
  )


def test_an_array_becomes_an_adapter_of_its_base(llama, tuned, tmp_path):
  from prompt_tuning import convert

  array = tmp_path / "prompt.npy"
  np.save(array, formats.load_prompt(str(tuned)))
  place = tmp_path / "adapter"
  convert.convert(str(array), str(place), "peft", convert.Options(base=str(llama)))
  config = json.loads((place / "adapter_config.json").read_text())
  assert config["task_type"] == "CAUSAL_LM"


def test_the_tokenizer_of_another_order_is_refused(
  run, llama, llama_command, tmp_path, tmp_path_factory
):
  other = tmp_path_factory.mktemp("other")
  save_tokenizer(other, {"pad": "<s>", "bos": "<pad>", "eos": "</s>"})
  flags = {"TOKENIZER_PATH": str(other), **PACKED}
  result = run(llama_command("train", tmp_path / "run", **flags))
  assert result.status == 2
  assert "choose the tokenizer that lies with the model" in result.err


def test_a_prompt_of_chats_answers_in_chats_only(run, llama_command, tuned, tmp_path):
  chats = {**PACKED, "CHAT": True, "TRAIN_STEPS_RELATIVE": 1}
  result = run(llama_command("train", tmp_path / "run", **chats))
  assert result.status == 0, result.err
  for prompt, chat, status in ((tmp_path / "run", True, 0), (tuned, True, 2)):
    given = {"PROMPT_FILE": str(prompt), "CHAT": chat}
    result = run(llama_command("eval", tmp_path / f"eval_{status}", **given))
    assert result.status == status, result.err
  assert "another model or vocabulary" in result.err


def test_tuning_the_model_itself_is_refused(run, llama_command, tmp_path):
  command = llama_command("train", tmp_path / "run", **PACKED)
  command.append("--gin.LEARNED=@methods.ModelTuning()")
  result = run(command)
  assert result.status == 2
  assert "no other is written; learn a prompt" in result.err


def test_a_plan_counts_the_heads_of_one_device(run, llama_command, tmp_path):
  command = llama_command("train", tmp_path / "run", **PACKED)
  result = run(
    ["plan", *command[1:], "--gin.NUM_PARTITIONS=4", "--devices=4", "--hbm=80GB"]
  )
  assert result.status == 0, result.err


def test_a_prompt_of_another_model_is_refused(run, llama_command, tuned, trained, tmp_path):
  result = run(llama_command("eval", tmp_path / "eval", PROMPT_FILE=str(trained.folder)))
  assert result.status == 2
  assert "another model or vocabulary" in result.err


def test_a_visibility_of_encoders_is_refused(run, llama_command, tmp_path):
  given = {"PROMPT_VISIBILITY": ["prompt->input", "prompt->prompt"]}
  result = run(llama_command("train", tmp_path / "run", **given))
  assert result.status == 2
  assert "whose prompt sees only itself" in result.err


def test_a_method_for_encoders_is_refused(run, llama_command, tmp_path):
  flag = "--gin_file=prompt_tuning/configs/methods/ia3.gin"
  result = run(llama_command("train", tmp_path / "run", flag))
  assert result.status == 2
  assert "which enters an encoder, expected a T5" in result.err
