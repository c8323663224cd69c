"""Pretraining from a file of text to a checkpoint that a prompt can be tuned for."""

import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

import prompt_tuning as pt
from prompt_tuning import metrics_log
from prompt_tuning.cli.main import main

SYLLABLES = [a + b for a in "bdklmnprst" for b in "aeiou"]
SIZES = {
  "NUM_EMBEDDINGS": 512,
  "NUM_HEADS": 2,
  "NUM_ENCODER_LAYERS": 1,
  "NUM_DECODER_LAYERS": 1,
  "HEAD_DIM": 8,
  "EMBED_DIM": 16,
  "MLP_DIM": 32,
}
PERIODS = {"BATCH_SIZE": 8, "EVAL_PERIOD": 3, "EVAL_STEPS": 1, "SAVE_PERIOD": 3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """A corpus folder with its own vocabulary, trained by the command."""
  folder = tmp_path_factory.mktemp("corpus")
  draw = random.Random(0)
  words = ["".join(draw.choices(SYLLABLES, k=3)) for _ in range(300)]
  lines = [" ".join(draw.choices(words, k=60)) for _ in range(400)]
  (folder / "text.txt").write_text("\n".join(lines) + "\n")
  rows = [
    {"prefix": "mood:", "inputs": line, "targets": draw.choice(["good", "bad"])}
    for line in lines
  ]
  (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  assert main(["vocabulary", str(folder), "--pieces=300"]) == 0
  return folder


def flags(**macros):
  return [f"--gin.{name}={value!r}" for name, value in macros.items()]


def write_tokens(corpus, out, *more, **macros):
  vocabulary = f"'{corpus / 'sentencepiece.model'}'"
  return main(
    [
      "tokens",
      "--gin_file=models/t5_1_1_reviews.gin",
      "--gin_file=objectives/reviews_all.gin",
      "--gin_file=runs/tokens.gin",
      f"--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file={vocabulary}",
      *flags(**{"TEXT": str(corpus), "TOKENS": str(out), **macros}),
      *more,
    ]
  )


@pytest.fixture(scope="module")
def tokens(corpus):
  folder = corpus / "tokens"
  assert write_tokens(corpus, folder) == 0
  return folder


def command(tokens, folder, steps, *more, experiment="reviews_multi_task", **macros):
  vocabulary = f"'{tokens.parent / 'sentencepiece.model'}'"
  more = (
    *more,
    f"--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file={vocabulary}",
  )
  given = {
    **SIZES,
    **PERIODS,
    "TOKENS": str(tokens),
    "MODEL_DIR": str(folder),
    "TRAIN_STEPS": steps,
    **macros,
  }
  return ["pretrain", f"--gin_file=experiments/{experiment}.gin", *flags(**given), *more]


@pytest.fixture(scope="module")
def whole(tokens, tmp_path_factory):
  """Six steps without an interruption."""
  folder = tmp_path_factory.mktemp("whole")
  assert main(command(tokens, folder, 6)) == 0
  return folder


def test_it_says_what_it_did(tokens, whole):
  found = json.loads((whole / "pretraining.json").read_text())
  assert found["steps"] == found["step"] == 6
  arrays = pt.load_checkpoint(str(whole)).shapes.values()
  assert found["parameters"] == sum(int(np.prod(shape)) for shape in arrays)
  assert 0 < found["tokens"] <= found["positions"] <= 6 * 8 * (128 + 32)
  assert 0 < found["fraction_of_peak"] < 1 and found["seconds"] > 0
  for name in ("span_corruption", "labelled"):
    # Untrained: near the entropy of 512 equally likely ids.
    assert 3.0 < found["held_out"][f"held_out/{name}/loss"] < 9.0
  manifest = json.loads((tokens / "manifest.json").read_text())
  assert manifest["objectives"]["labelled"]["train"]["rows"] > 8
  rows = metrics_log.read(whole / "metrics.jsonl")
  assert [row["step"] for row in rows] == [3, 6]
  assert any("held_out/labelled/accuracy" in row for row in rows)


def test_it_resumes_exactly_and_every_weight_learns(tokens, whole, tmp_path):
  assert main(command(tokens, tmp_path, 3)) == 0
  assert main(command(tokens, tmp_path, 6)) == 0
  ours, theirs = pt.load_checkpoint(str(tmp_path)), pt.load_checkpoint(str(whole))
  assert ours.step == theirs.step == 6
  before = pt.load_checkpoint(str(tmp_path / "checkpoint_3"))
  for path, array in theirs.items():
    np.testing.assert_array_equal(array, ours[path])
    assert (np.asarray(array) != np.asarray(before[path])).any(), path
  summary = json.loads((tmp_path / "pretraining.json").read_text())
  assert summary["steps"] == 6
  assert summary["tokens"] == json.loads((whole / "pretraining.json").read_text())["tokens"]


def test_lm_adaptation_goes_on_from_a_checkpoint(tokens, whole, tmp_path):
  adapt = command(
    tokens,
    tmp_path,
    3,
    experiment="reviews_multi_task_adapt",
    INITIAL_CHECKPOINT_PATH=str(whole),
  )
  assert main(adapt) == 0
  ours, theirs = pt.load_checkpoint(str(tmp_path)), pt.load_checkpoint(str(whole))
  assert ours.step == 9
  config = pt.T5Config.from_gin(
    "models/t5_1_1_reviews.gin",
    bindings=tuple(f"{name} = {value}" for name, value in SIZES.items()),
  )
  assert pt.T5(config, ours).config.d_model == 16
  path = "encoder/layers_0/mlp/wo/kernel"
  moved = np.abs(np.asarray(ours[path], np.float32) - np.asarray(theirs[path], np.float32))
  assert 0 < moved.max() < 0.1  # it moved, but not from other random weights
  found = json.loads((tmp_path / "pretraining.json").read_text())
  assert found["step"] == 9 and found["steps"] == 3
  assert found["identity"]["base checkpoint"] != "none"


@pytest.mark.slow
def test_it_needs_neither_tensorflow_nor_seqio_and_one_device_is_eight(tokens, tmp_path):
  program = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio"):
  sys.modules[name] = None
from prompt_tuning.cli.main import main
sys.exit(main({command(tokens, tmp_path / "one", 1)!r}))
"""
  found = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=False
  )
  assert found.returncode == 0, found.stderr
  summary = json.loads(found.stdout)
  assert summary["steps"] == 1 and summary["hardware"].startswith("1 x")
  assert main(command(tokens, tmp_path / "eight", 1)) == 0
  one, eight = (pt.load_checkpoint(str(tmp_path / name)) for name in ("one", "eight"))
  for path, array in one.items():
    np.testing.assert_allclose(
      np.asarray(array, np.float32), np.asarray(eight[path], np.float32), atol=1e-2
    )


def refused(capsys, arguments):
  capsys.readouterr()
  assert main(arguments) == 2
  found = capsys.readouterr()
  assert found.out == ""
  return found.err


def test_other_settings_do_not_continue_a_run(tokens, whole, tmp_path, capsys):
  folder = tmp_path / "run"
  shutil.copytree(whole, folder)
  err = refused(capsys, command(tokens, folder, 9, RANDOM_SEED=1))
  assert "random seed: 0 before, 1 now" in err
  err = refused(capsys, command(tokens, folder, 9, MLP_DIM=64))
  assert "d_ff=32" in err and "d_ff=64" in err


def test_a_vocabulary_larger_than_the_table_is_refused(tokens, tmp_path, capsys):
  err = refused(capsys, command(tokens, tmp_path, 2, NUM_EMBEDDINGS=300))
  assert "a vocabulary of 400 ids, the model's table has 300 rows" in err


def test_tokens_of_another_vocabulary_are_refused(tokens, tmp_path, capsys):
  arguments = command(tokens, tmp_path, 2)
  theirs = [x for x in arguments if "sentencepiece_model_file" not in x]
  err = refused(capsys, theirs)  # with the embedded model's
  assert "were made with another vocabulary than package://assets/" in err


def test_bytes_are_another_vocabulary_too(tokens, tmp_path, capsys):
  arguments = command(tokens, tmp_path, 2, "--gin.VOCABULARY=@seqio.ByteVocabulary()")
  assert "another vocabulary than bytes" in refused(capsys, arguments)


def test_fewer_steps_than_are_done_are_refused(tokens, whole, tmp_path, capsys):
  folder = tmp_path / "run"
  shutil.copytree(whole, folder)
  err = refused(capsys, command(tokens, folder, 5))
  assert "is at step 6 already, TRAIN_STEPS ends at 5" in err


def test_tokens_that_were_not_written_to_the_end_are_refused(tokens, tmp_path, capsys):
  place = tokens.parent / "half"
  shutil.copytree(tokens, place)
  manifest = json.loads((place / "manifest.json").read_text())
  manifest["objectives"]["labelled"]["train"]["rows"] += 1
  (place / "manifest.json").write_text(json.dumps(manifest))
  err = refused(capsys, command(place, tmp_path, 2))
  assert "the token arrays of 'labelled'" in err and "run `prompt-tuning tokens`" in err


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("EVAL_PERIOD=0", "EVAL_PERIOD is 0"),
    ("SAVE_PERIOD=0", "SAVE_PERIOD is 0"),
    ("pretrain.pretrain.save_dtype='float8'", "unknown save_dtype 'float8'"),
    ("OBJECTIVES=[]", "expected at least one and no name twice"),
    ("objectives.Objective.rate=0.0", "every objective has the rate 0"),
  ],
)
def test_settings_that_cannot_run_are_refused(tokens, tmp_path, capsys, binding, message):
  err = refused(capsys, command(tokens, tmp_path, 2, f"--gin.{binding}"))
  assert message in err


def test_tokens_must_be_there_and_of_these_objectives(corpus, tmp_path, capsys):
  err = refused(capsys, command(tmp_path, tmp_path / "run", 2))
  assert "run `prompt-tuning tokens`" in err
  one = corpus / "one"
  more = ["--gin.OBJECTIVES=[@prefix_lm/objectives.Objective()]"]
  assert write_tokens(corpus, one, *more) == 0
  err = refused(capsys, command(one, tmp_path / "run", 2))
  assert "expected those of the objective 'span_corruption'" in err


@pytest.mark.parametrize(
  ("macros", "more", "message"),
  [
    ({"TEXT": "/no/such/text"}, [], "names no file"),
    ({"TEXT": None}, [], "has no text"),
    ({"TEXT": "tfds:imdb_reviews"}, [], "must contain a version number"),
    ({"TEXT": "tfds:no_such:1.0.0"}, [], "Dataset no_such not found"),
    ({"TEXT": "tfds:c4/en:3.1.0"}, [], "not prepared on this machine"),
    (
      {},
      ["--gin.span_corruption/objectives.Objective.lengths={'inputs': 3, 'targets': 9}"],
      "too short for one hidden span",
    ),
    (
      {},
      ["--gin.span_corruption/objectives.Objective.lengths={'inputs': 128, 'targets': 9}"],
      "raise the length of the targets",
    ),
    ({}, ["--gin.seqio.SentencePieceVocabulary.extra_ids=0"], "has 0 sentinels"),
    ({}, ["--gin.objectives.Noise.density=1.5"], "a share between 0 and 1"),
  ],
)
def test_text_lengths_and_sentinels_that_do_not_do(
  corpus, tmp_path, capsys, macros, more, message
):
  capsys.readouterr()
  if "density" in str(more):
    more = [*more, "--gin.span_corruption/objectives.Objective.noise=@objectives.Noise()"]
  assert write_tokens(corpus, tmp_path / "out", *more, **macros) == 2
  assert message in capsys.readouterr().err


def test_an_empty_corpus_is_refused(corpus, tmp_path, capsys):
  empty = tmp_path / "empty"
  empty.mkdir()
  shutil.copy(corpus / "sentencepiece.model", empty)
  for name in ("text.txt", "labelled.jsonl"):
    (empty / name).write_text("\n\n")
  assert write_tokens(empty, tmp_path / "out") == 2
  assert "is empty" in capsys.readouterr().err
  (tmp_path / "none").mkdir()
  assert main(["vocabulary", str(tmp_path / "none")]) == 2
  assert "run `prompt-tuning corpus`" in capsys.readouterr().err
