"""Pretraining from a folder of text to a checkpoint that a prompt can be tuned for."""

import json
import random
import shutil

import numpy as np
import pytest

import prompt_tuning as pt
from prompt_tuning.cli.main import main

SYLLABLES = [
  "ba",
  "do",
  "ke",
  "lu",
  "mi",
  "no",
  "pa",
  "ri",
  "so",
  "tu",
  "wa",
  "ze",
  "fo",
  "gi",
  "ha",
]
SIZES = {
  "NUM_EMBEDDINGS": 512,
  "NUM_HEADS": 2,
  "NUM_ENCODER_LAYERS": 1,
  "NUM_DECODER_LAYERS": 1,
  "HEAD_DIM": 8,
  "EMBED_DIM": 16,
  "MLP_DIM": 32,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """A corpus folder with its own vocabulary, trained by the command."""
  folder = tmp_path_factory.mktemp("corpus")
  draw = random.Random(0)
  words = ["".join(draw.choices(SYLLABLES, k=3)) for _ in range(300)]
  lines = [" ".join(draw.choices(words, k=30)) for _ in range(400)]
  (folder / "text.txt").write_text("\n".join(lines) + "\n")
  labelled = (
    {"inputs": f"sentiment: {line}", "targets": draw.choice(["good", "bad"])}
    for line in lines
  )
  rows = "".join(json.dumps(row) + "\n" for row in labelled)
  (folder / "labelled.jsonl").write_text(rows)
  assert main(["vocabulary", str(folder), "--pieces=300"]) == 0
  return folder


def pretrain(corpus, folder, steps):
  bindings = {
    **SIZES,
    "CORPUS": str(corpus),
    "MODEL_DIR": str(folder),
    "TRAIN_STEPS": steps,
  }
  flags = [f"--gin.{name}={value!r}" for name, value in bindings.items()]
  return main(["pretrain", "--gin_file=experiments/t5_1_1_reviews.gin", *flags])


def test_it_writes_a_checkpoint_that_loads_and_resumes_exactly(corpus, tmp_path, capsys):
  assert pretrain(corpus, tmp_path / "whole", 6) == 0
  losses = json.loads(capsys.readouterr().out)
  assert all(np.isfinite(value) for value in losses.values())

  assert pretrain(corpus, tmp_path / "parts", 3) == 0
  shutil.rmtree(tmp_path / "parts" / "checkpoint_3")
  assert pretrain(corpus, tmp_path / "parts", 6) == 0

  whole = pt.load_checkpoint(str(tmp_path / "whole"))
  parts = pt.load_checkpoint(str(tmp_path / "parts"))
  assert whole.step == parts.step == 6
  assert whole["token_embedder/embedding"].shape == (512, 16)
  for path, array in whole.items():
    np.testing.assert_array_equal(array, parts[path])

  config = pt.T5Config.from_gin(
    "models/t5_1_1_reviews.gin",
    bindings=tuple(f"{name} = {value}" for name, value in SIZES.items()),
  )
  assert pt.T5(config, whole).config.d_model == 16


def test_text_and_vocabulary_must_be_there(corpus, tmp_path, capsys):
  assert pretrain(tmp_path, tmp_path / "run", 2) == 2
  assert "run `prompt-tuning vocabulary`" in capsys.readouterr().err
  assert main(["vocabulary", str(tmp_path)]) == 2
  assert "run `prompt-tuning corpus`" in capsys.readouterr().err
  empty = tmp_path / "empty"
  empty.mkdir()
  shutil.copy(corpus / "sentencepiece.model", empty)
  for name in ("text.txt", "labelled.jsonl"):
    (empty / name).write_text("")
  assert pretrain(empty, tmp_path / "run", 2) == 2
  assert "expected documents" in capsys.readouterr().err


def test_a_vocabulary_without_room_for_sentinels_is_refused(corpus, tmp_path, capsys):
  flags = [f"--gin.{n}={v}" for n, v in {**SIZES, "NUM_EMBEDDINGS": 300}.items()]
  paths = [f"--gin.CORPUS='{corpus}'", f"--gin.MODEL_DIR='{tmp_path}/run'"]
  file = "--gin_file=experiments/t5_1_1_reviews.gin"
  assert main(["pretrain", file, *flags, *paths]) == 2
  assert "no sentinels" in capsys.readouterr().err
