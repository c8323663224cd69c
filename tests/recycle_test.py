"""`prompt-tuning recycle`: between real models, and what it refuses."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from rotated import orthogonal, rotated

from prompt_tuning import assembly, checks, convert, files, formats, inspection, trees
from prompt_tuning.checkpoints import prompt_files, t5x
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.cli.main import main
from prompt_tuning.data import vocabularies, whole_words
from prompt_tuning.models.config import T5Config
from prompt_tuning.models.t5 import T5

VOCABULARY = vocabularies.EMBEDDED
CONFIG = T5Config(
  vocab_size=4096,
  d_model=16,
  num_heads=2,
  d_kv=8,
  d_ff=32,
  num_encoder_layers=2,
  num_decoder_layers=2,
)
PROMPT = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
TURN = orthogonal(16)


def weights(config, seed):
  """Random weights, with scales of the norms that are not one."""
  rng = np.random.default_rng(seed)
  found = trees.values(T5.random(config, jax.random.key(seed)))
  return {
    name: np.asarray(x) * (rng.uniform(0.5, 2.0, x.shape) if name.endswith("scale") else 1)
    for name, x in found.items()
  }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """`source`, `turned` (the same function), `wide` and `other` (of another vocabulary)."""
  folder = tmp_path_factory.mktemp("models")
  source = {n: x.astype(np.float32) for n, x in weights(CONFIG, 0).items()}
  wide = T5Config(**{**CONFIG.__dict__, "d_model": 24})
  other = T5Config(**{**CONFIG.__dict__, "vocab_size": 64})
  t5x.save(epath.Path(folder / "source"), source, 7)
  t5x.save(epath.Path(folder / "turned"), rotated(source, TURN), 8)
  t5x.save(epath.Path(folder / "wide"), weights(wide, 1), 9)
  t5x.save(epath.Path(folder / "other"), weights(other, 2), 9)
  return folder


@pytest.fixture(scope="module")
def prompt(models):
  """A prompt with the story of a training run."""
  story = {
    "base_fingerprint": inspection.fingerprint(formats.load(str(models / "source"))),
    "vocabulary": VOCABULARY.fingerprint(),
    "task": "movies",
    "labels": ["bad", "good"],
    "visibility": ["input->input", "input->prompt", "prompt->prompt"],
    "step": 30,
    "score": 91.0,
    "metrics": {"accuracy": 91.0},
  }
  path = models / "prompt.safetensors"
  prompt_files.save_prompt(str(path), PROMPT, story)
  return path


@pytest.fixture
def run(models, prompt, tmp_path, capsys):
  """Recycles the prompt from `source` to `turned` unless told otherwise."""

  def call(*flags, **paths):
    known = {
      "source_model": models / "source",
      "target_model": models / "turned",
      "prompt_path": prompt,
      "output_path": tmp_path / "out.safetensors",
      "recycler": "v2v-lin",
      "num_words": 1500,
    }
    given = {name: value for name, value in {**known, **paths}.items() if value is not None}
    status = main(["recycle", *(f"--{n}={v}" for n, v in given.items()), *flags])
    return status, *capsys.readouterr()

  return call


def refused(result, *parts):
  """Status 2, nothing on stdout, one line that says what was wrong."""
  status, out, err = result
  assert status == 2 and out == "" and err.startswith("prompt-tuning: ")
  assert len(err.splitlines()) == 1 and "; " in err, err
  assert all(part in err for part in parts), err
  return True


def base(path):
  return assembly.load_base(CONFIG, RestoreCheckpointConfig(path=str(path)))


def logits(model, path):
  """Of the prompted model, for a few tokens."""
  rng = np.random.default_rng(3)
  tokens = [rng.integers(3, 3900, (4, length)).astype(np.int32) for length in (10, 3)]
  inputs, targets = tokens
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  prompted = assembly.with_prompts(base(model), [str(path)], VOCABULARY)
  return np.asarray(prompted.logits(inputs, shifted, targets))


@pytest.mark.parametrize("recycler", ["v2v-lin", "lin-comb"])
def test_a_recycled_prompt_does_on_an_equivalent_model_what_it_did(
  run, models, prompt, tmp_path, recycler
):
  status, out, err = run(recycler=recycler)
  assert status == 0 and err == ""
  assert out.splitlines() == [
    str(tmp_path / "out.safetensors"),
    "learned from 1500 tokens, relative error 0.000 on 396 others (0 is exact, 1 as good "
    "as their mean)",
  ]
  expected = logits(models / "source", prompt)
  found = logits(models / "turned", tmp_path / "out.safetensors")
  np.testing.assert_allclose(found, expected, atol=1e-3)
  # The prompt matters, and as it is it does something else there.
  prompt_files.save_prompt(str(tmp_path / "same.npy"), PROMPT)
  same = logits(models / "turned", tmp_path / "same.npy")
  assert np.abs(same - expected).max() > 0.1


def test_its_story_is_that_of_the_target_model(run, models, prompt, tmp_path):
  assert run()[0] == 0
  file = prompt_files.read(epath.Path(tmp_path / "out.safetensors"))
  story = prompt_files.read(epath.Path(prompt)).metadata
  for name in ("task", "labels", "visibility", "step", "vocabulary"):
    assert file.metadata[name] == story[name]
  assert "score" not in file.metadata and "metrics" not in file.metadata
  assert file.metadata["recycled_from"] == story["base_fingerprint"]
  assembly.check_prompt_file(file, base(models / "turned"), VOCABULARY)
  with pytest.raises(checks.InputError, match="base_fingerprint"):
    assembly.check_prompt_file(file, base(models / "source"), VOCABULARY)


def test_models_of_other_widths_and_formats(run, models, tmp_path):
  convert.convert(str(models / "source"), str(tmp_path / "hf"), "hf")
  status, _, _ = run(source_model=tmp_path / "hf", target_model=models / "wide")
  assert status == 0
  array = formats.load_prompt(str(tmp_path / "out.safetensors"))
  ids = list(whole_words.of(VOCABULARY))[1000:2500]
  tables = [
    formats.load(str(models / name))["token_embedder/embedding"][ids]
    for name in ("source", "wide")
  ]
  matrix = np.linalg.lstsq(*tables, rcond=None)[0]
  np.testing.assert_allclose(array, PROMPT @ matrix, atol=1e-4)


@pytest.mark.parametrize("name", ["out.npy", "out"])
def test_numpy_is_written_under_any_other_name(run, tmp_path, name):
  prompt_files.save_prompt(str(tmp_path / "p.npy"), PROMPT)
  assert run(prompt_path=tmp_path / "p.npy", output_path=tmp_path / name)[0] == 0
  found = np.load(tmp_path / name)
  np.testing.assert_allclose(found, PROMPT @ TURN, atol=1e-4)


def test_a_bank_of_prompts_stays_one(run, tmp_path):
  bank = np.stack([PROMPT, -PROMPT, 2 * PROMPT])
  prompt_files.save_prompt(str(tmp_path / "bank.safetensors"), bank)
  assert run(prompt_path=tmp_path / "bank.safetensors")[0] == 0
  found = formats.load_prompt(str(tmp_path / "out.safetensors"))
  np.testing.assert_allclose(found, bank @ TURN, atol=1e-4)


def test_nothing_but_the_tables_is_read_for_numpy(run, models, tmp_path):
  copies = {}
  for name in ("source", "turned"):
    copies[name] = tmp_path / name
    shutil.copytree(models / name, copies[name])
    arrays = [p for p in copies[name].glob("*/target.*") if "embedder" not in p.name]
    assert len(arrays) > 40
    for array in arrays:
      shutil.rmtree(array)
  prompt_files.save_prompt(str(tmp_path / "p.npy"), PROMPT)
  status, _, _ = run(
    source_model=copies["source"],
    target_model=copies["turned"],
    prompt_path=tmp_path / "p.npy",
    output_path=tmp_path / "out.npy",
  )
  assert status == 0


def test_the_network_takes_its_flags(run, tmp_path):
  flags = ["--hidden_scale=2", "--batch_size=500", "--learning_rate=0.01", "--epochs=2"]
  status, out, _ = run(*flags, "--seed=3", recycler="v2v-nn")
  assert status == 0 and "relative error" in out
  metadata = prompt_files.read(epath.Path(tmp_path / "out.safetensors")).metadata
  assert metadata["recycler"] == (
    "Network(hidden_scale=2, batch_size=500, learning_rate=0.01, epochs=2, seed=3)"
  )


def test_the_words_of_a_file_and_the_pieces_of_a_text(run, models, tmp_path):
  """With fewer tokens than dimensions, the prompt is made of those alone."""
  table = formats.load(str(models / "source"))["token_embedder/embedding"]
  turned = formats.load(str(models / "turned"))["token_embedder/embedding"]
  (tmp_path / "words.json").write_text(json.dumps(dict.fromkeys((9, 700, 30, 31), "")))
  listed = {"filtered_word": tmp_path / "words.json", "num_words": 2, "word_offset": 1}
  text = {"text": "a good film", "num_words": None}
  encoded = list(VOCABULARY.load().encode("a good film"))
  for number, (given, ids) in enumerate([(listed, [700, 30]), (text, encoded)]):
    out = tmp_path / f"{number}.safetensors"
    status, said, _ = run(output_path=out, **given)
    assert status == 0 and f"learned from {len(ids)} tokens" in said
    expected = PROMPT @ np.linalg.pinv(table[ids]) @ turned[ids]
    np.testing.assert_allclose(formats.load_prompt(str(out)), expected, atol=1e-4)
  assert said.endswith("none left to test it on\n")


# What is refused.


def test_models_of_other_vocabularies(run, models):
  assert refused(
    run(target_model=models / "other"), "has 4096", "has 64", "expected one vocabulary"
  )


def test_a_prompt_of_another_width(run, models, tmp_path):
  prompt_files.save_prompt(str(tmp_path / "p.npy"), np.ones((5, 24), np.float32))
  assert refused(run(prompt_path=tmp_path / "p.npy"), "shape [5, 24]", "expected [5, 16]")


def test_a_prompt_that_was_trained_on_another_model(run, models):
  result = run(source_model=models / "turned", target_model=models / "source")
  assert refused(result, "was trained with base_fingerprint", "choose the model")


def test_a_prompt_of_another_vocabulary(run, tmp_path):
  story = {"vocabulary": "0" * 64}
  prompt_files.save_prompt(str(tmp_path / "p.safetensors"), PROMPT, story)
  assert refused(
    run(prompt_path=tmp_path / "p.safetensors"), "trained with vocabulary 0000"
  )


def test_a_prompt_whose_meaning_numpy_cannot_say(run, tmp_path):
  assert refused(run(output_path=tmp_path / "o.npy"), "cannot say so")
  assert not (tmp_path / "o.npy").exists()


def test_an_unknown_recycler_and_too_few_words(run):
  assert refused(run(recycler="v2v-line"), "unknown recycler 'v2v-line'", "v2v-lin")
  assert refused(run(num_words=4000), "has 2896 words, expected 5000", "lower num_words")
  assert refused(run("--word_offset=2000"), "2896 words, expected 3500 (2000 skipped")
  assert refused(run("--vocabulary=bytes"), "bytes has 0 words, expected 2500")
  assert refused(run(num_words=0), "num_words is 0, expected a whole number from 1")


def test_a_model_of_which_no_vocabulary_is_known(run, models):
  result = run(source_model=models / "other", target_model=models / "other")
  assert refused(run(source_model=models / "wide"), "shape [5, 16], expected [5, 24]")
  assert refused(result, "a table of 64 rows", "name the vocabulary")


@pytest.mark.parametrize(
  ("content", "said"),
  [
    ("[1, 2]", "words.json cannot be read (it is no JSON object)"),
    ("{", "words.json cannot be read"),
    ('{"the": "8"}', "words.json cannot be read"),
    ('{"8": "the"}', "words.json has 1 words, expected 2"),
    ('{"8": "the", "4096": "more"}', "ids 8 to 4096, the models' tables 4096 rows"),
  ],
)
def test_a_word_list_that_is_none(run, tmp_path, content, said):
  (tmp_path / "words.json").write_text(content)
  path = tmp_path / "words.json"
  assert refused(run(filtered_word=path, num_words=2, word_offset=0), said)


def test_an_output_that_is_there(run, tmp_path):
  assert run()[0] == 0
  assert refused(run(), "out.safetensors exists, expected a new name")


def test_flags_that_are_missing_are_named_at_once(run):
  result = run(source_model=None, output_path=None)
  assert refused(result, "--source_model, --output_path not given", "--help")


def test_flags_that_say_nothing_there(run, tmp_path):
  assert refused(run("--epochs=3"), "epochs beside --recycler v2v-lin")
  assert refused(run("--text=films"), "--num_words beside --text")
  assert refused(run("--config=x.json"), "--source_model", "beside --config")
  result = run("--text=", num_words=None)
  assert refused(result, "the text '' has no pieces")


def test_a_checkpoint_or_prompt_that_is_not_there(run, tmp_path):
  for name in ("source_model", "target_model", "prompt_path"):
    assert refused(run(**{name: tmp_path / "none"}), "none", "found nothing")
  assert not files.path(str(tmp_path / "out.safetensors")).exists()
