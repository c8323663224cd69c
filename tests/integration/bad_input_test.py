"""Bad input: exit status 2, one clear message on stderr, before any step of training."""

import importlib
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import sentencepiece

from prompt_tuning import formats
from prompt_tuning.checkpoints import prompt_files


@pytest.fixture
def refused(run, tmp_path):
  """Runs a command that must be refused; returns its message."""

  def call(arguments: list[str]) -> str:
    found = run(arguments)
    assert found.status == 2, found
    assert found.out == ""
    first, *more = found.err.splitlines()
    assert first.startswith("prompt-tuning: "), found.err
    assert all(line.startswith("  ") for line in more), found.err  # a list, if anything
    for trace in ("metrics.jsonl", "step_*.safetensors", "prompt.safetensors"):
      assert not list((tmp_path / "run").rglob(trace)), f"it trained: {trace}"
    return found.err

  return call


@pytest.fixture
def refused_training(refused, command, tmp_path):
  """Trains with these flags and macros, which must be refused; returns the message."""

  def call(*flags: str, **macros: object) -> str:
    return refused(command("train", tmp_path / "run", *flags, **macros))

  return call


# Checkpoints.


@pytest.fixture
def copied(base, tmp_path) -> pathlib.Path:
  """A copy of the tiny checkpoint, to be damaged: the folder of its step."""
  return shutil.copytree(base / "checkpoint_3", tmp_path / "copy" / "checkpoint_3")


TABLE = "target.token_embedder.embedding"


def test_a_checkpoint_that_is_not_there(refused_training, tmp_path):
  message = refused_training(INITIAL_CHECKPOINT_PATH=str(tmp_path / "none"))
  assert "there is no model checkpoint" in message and str(tmp_path / "none") in message


def test_a_folder_without_a_checkpoint(refused_training, tmp_path):
  assert "there is no model checkpoint" in refused_training(
    INITIAL_CHECKPOINT_PATH=str(tmp_path)
  )


def cut_index(folder):
  index = folder / "checkpoint"
  index.write_bytes(index.read_bytes()[:-100])


def flip_index(folder):
  index = folder / "checkpoint"
  content = bytearray(index.read_bytes())
  content[20:60] = b"\xc1" * 40  # no msgpack value begins so
  index.write_bytes(bytes(content))


def empty_index(folder):
  (folder / "checkpoint").write_bytes(b"")


def foreign_index(folder):
  (folder / "checkpoint").write_bytes(b"PK\x03\x04 this is a zip file")


@pytest.mark.parametrize("damage", [cut_index, flip_index, empty_index, foreign_index])
def test_an_index_that_cannot_be_read(refused_training, copied, damage):
  damage(copied)
  message = refused_training(INITIAL_CHECKPOINT_PATH=str(copied))
  assert "index is damaged" in message and str(copied) in message


def lose_chunk(folder):
  (folder / TABLE / "0.0").unlink()


def lose_metadata(folder):
  (folder / TABLE / ".zarray").unlink()


def lose_folder(folder):
  shutil.rmtree(folder / TABLE)


def cut_chunk(folder):
  chunk = folder / TABLE / "0.0"
  chunk.write_bytes(chunk.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [lose_chunk, lose_metadata, lose_folder, cut_chunk])
def test_an_array_that_is_lost_or_cut(refused_training, copied, damage):
  damage(copied)
  message = refused_training(INITIAL_CHECKPOINT_PATH=str(copied))
  assert "token_embedder/embedding" in message and str(copied) in message
  assert "copy it again (dotfiles included)" in message


def test_a_checkpoint_of_another_size_lists_every_shape(
  refused_training, save_t5, tmp_path
):
  save_t5(tmp_path / "wide", d_model=24)
  message = refused_training(INITIAL_CHECKPOINT_PATH=str(tmp_path / "wide"))
  listed = [line for line in message.splitlines() if "the model has" in line]
  everything = {path.name for path in (tmp_path / "wide" / "checkpoint_3").iterdir()}
  differing = {name for name in everything if "rel_embedding" not in name}
  assert len(listed) == len(differing) - 1  # the index is a file beside the arrays
  assert "  token_embedder/embedding: [4096, 24], the model has [4096, 16]" in listed


def test_a_checkpoint_with_more_layers_lists_them(refused_training, save_t5, tmp_path):
  save_t5(tmp_path / "deep", num_encoder_layers=2)
  message = refused_training(INITIAL_CHECKPOINT_PATH=str(tmp_path / "deep"))
  assert "  + encoder/layers_1/mlp/wo/kernel" in message
  assert message.count("  + encoder/layers_1/") == 9


# Prompt files.


@pytest.fixture
def refused_prompt(refused, command, tmp_path):
  """Evaluates with a prompt file that must be refused; returns the message."""

  def call(path: pathlib.Path, **macros: object) -> str:
    return refused(command("eval", tmp_path / "eval", PROMPT_FILE=str(path), **macros))

  return call


def test_a_prompt_file_that_is_not_there(refused_prompt, tmp_path):
  assert "there is no prompt at" in refused_prompt(tmp_path / "none.npy")


def test_a_prompt_of_another_width(refused_prompt, tmp_path):
  prompt_files.save_prompt(str(tmp_path / "wide.npy"), np.zeros((3, 24), np.float32))
  message = refused_prompt(tmp_path / "wide.npy")
  assert "d_model: 24, here 16" in message and "another model" in message


def test_a_prompt_of_another_length_says_which_to_set(refused_prompt, tmp_path):
  prompt_files.save_prompt(str(tmp_path / "long.npy"), np.zeros((7, 16), np.float32))
  assert "set PROMPT_LENGTH=7" in refused_prompt(tmp_path / "long.npy")


def test_a_prompt_of_another_base_model(refused_prompt, trained, save_t5, tmp_path):
  save_t5(tmp_path / "other", seed=1)
  message = refused_prompt(
    trained.folder / "prompt.safetensors", CHECKPOINT_PATH=str(tmp_path / "other")
  )
  assert "was trained on another model" in message and "base_fingerprint: " in message
  assert "choose the ones it was trained on" in message


class Bomb:
  """Unpickling this creates a file."""

  def __init__(self, path: pathlib.Path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_a_prompt_file_with_pickled_objects_is_never_unpickled(refused_prompt, tmp_path):
  proof = tmp_path / "executed"
  np.save(tmp_path / "a.npy", np.array([Bomb(proof)], object), allow_pickle=True)
  (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb(proof)))
  for name in ("a.npy", "b.npy"):
    assert name in refused_prompt(tmp_path / name)
  assert not proof.exists()
  np.load(tmp_path / "a.npy", allow_pickle=True)
  assert proof.exists()  # the bomb is real


def test_a_prompt_file_that_promises_terabytes(refused_prompt, tmp_path):
  header = str({"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 22)})
  content = header.encode().ljust(117) + b"\n"
  path = tmp_path / "huge.npy"
  path.write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content)
  assert "its header promises 17592186044416 bytes" in refused_prompt(path)


# Tasks, splits and vocabularies.


def test_an_unknown_task_names_the_nearest(refused_training):
  message = refused_training(MIXTURE_OR_TASK_NAME="movie_review_sentiment")
  assert "'movie_review_sentiment'" in message
  assert "nearest known: movie_reviews_sentiment" in message


def test_an_unknown_module(refused_training):
  message = refused_training(MIXTURE_OR_TASK_MODULE="no.such_module")
  assert "'no.such_module'" in message and "MIXTURE_OR_TASK_MODULE" in message


def test_a_module_that_lacks_what_it_imports_says_what(refused_training, tmp_path):
  message = refused_training(MIXTURE_OR_TASK_MODULE="module_with_bad_import")
  assert "not_installed_anywhere" in message


@pytest.mark.parametrize(
  "setting",
  [{"EVAL_SPLIT": "validatoin"}, {"TEST_SPLIT": "validatoin"}],
  ids=["EVAL_SPLIT", "TEST_SPLIT"],
)
def test_an_unknown_split_names_the_nearest(refused_training, setting):
  message = refused_training(**setting)
  assert "'validatoin'" in message and "nearest known: validation" in message


def test_an_unknown_split_to_train_on(refused_training):
  message = refused_training("--gin.train/utils.DatasetConfig.split='trian'")
  assert "nearest known: train" in message


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_examples(refused_training, split):
  message = refused_training(MIXTURE_OR_TASK_NAME=f"tiny_words_without_{split}")
  assert f"the split '{split}'" in message and "yields no example" in message


@pytest.fixture(scope="session")
def letters(tmp_path_factory) -> str:
  """A vocabulary of Latin letters without byte fallback: much is unknown to it."""
  # Modules register their tasks in the vocabulary of the run that imports them first.
  importlib.import_module("tiny_tasks")
  importlib.import_module("prompt_tuning.data.movie_reviews")
  folder = tmp_path_factory.mktemp("letters")
  words = ["good", "bad", "film", "story", "positive", "negative", "the", "quick", "fox"]
  (folder / "text.txt").write_text("\n".join(" ".join(words) for _ in range(50)))
  sentencepiece.SentencePieceTrainer.train(
    input=str(folder / "text.txt"),
    model_prefix=str(folder / "letters"),
    vocab_size=40,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return str(folder / "letters.model")


@pytest.mark.parametrize("macro", ["CLASS_LABELS", "LABELS"])
def test_label_words_that_the_vocabulary_lacks(refused_training, letters, macro):
  message = refused_training(
    f"--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file={letters!r}",
    **{
      "MIXTURE_OR_TASK_NAME": "letter_words",
      "MIXTURE_OR_TASK_MODULE": "letter_tasks",
      macro: ["positive", "отрицательный"],
    },
  )
  assert "'отрицательный'" in message and "choose another" in message


def test_a_task_of_another_vocabulary_than_the_model_s(refused_training, trained, letters):
  message = refused_training(
    f"--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file={letters!r}",
    CLASS_LABELS=["positive", "negative"],
    MIXTURE_OR_TASK_NAME="embedded_words",
    MIXTURE_OR_TASK_MODULE="letter_tasks",
  )
  assert "embedded_words" in message and "register the task with" in message


def test_a_vocabulary_that_is_not_there(refused_training, tmp_path):
  path = str(tmp_path / "none.model")
  message = refused_training(
    f"--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file={path!r}"
  )
  assert "none.model" in message and "VOCABULARY" in message


def test_a_vocabulary_larger_than_the_model(refused_training, save_t5, tmp_path):
  save_t5(tmp_path / "small", vocab_size=1024)
  message = refused_training(
    INITIAL_CHECKPOINT_PATH=str(tmp_path / "small"), NUM_EMBEDDINGS=1024
  )
  assert "1024" in message and "vocabulary" in message


# gin.


def test_an_unknown_macro_names_the_nearest(refused_training):
  message = refused_training(BATCHSIZE=3)
  assert "'BATCHSIZE'" in message and "BATCH_SIZE" in message


def test_an_unknown_gin_file_names_the_nearest(refused):
  message = refused(["train", "--gin_file=runs/prompt_finetun.gin"])
  assert "'runs/prompt_finetun.gin'" in message
  assert "nearest known: runs/prompt_finetune.gin" in message


def test_an_unknown_file_in_an_include_is_named(refused, tmp_path):
  (tmp_path / "mine.gin").write_text("include 'prompt_tuning/configs/models/t6.gin'\n")
  assert "models/t6.gin" in refused(["train", f"--gin_file={tmp_path / 'mine.gin'}"])


def test_a_binding_of_an_unknown_class(refused_training):
  message = refused_training("--gin.trainer.Trainr.patience=3")
  assert "'trainer.Trainr'" in message and "trainer.Trainer" in message


def test_a_binding_of_an_unknown_argument(refused_training):
  message = refused_training("--gin.trainer.Trainer.patiense=3")
  assert "patiense" in message and "Trainer" in message


def test_all_missing_macros_are_listed_at_once(refused):
  message = refused(
    [
      "train",
      "--gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin",
      "--gin_file=prompt_tuning/configs/prompts/from_class_labels.gin",
      "--gin_file=prompt_tuning/configs/runs/prompt_finetune.gin",
    ]
  )
  assert (
    "CLASS_LABELS, INITIAL_CHECKPOINT_PATH, MIXTURE_OR_TASK_NAME, MODEL_DIR, "
    "TASK_FEATURE_LENGTHS, TRAIN_STEPS" in message
  )


@pytest.mark.parametrize("value", ["[3", "MODEL", "'a' 'b", "1 2"])
def test_a_value_that_gin_cannot_parse(refused_training, value):
  assert "config cannot be used" in refused_training(f"--gin.BATCH_SIZE={value}")


@pytest.mark.parametrize(
  "text",
  [
    "LEARNING_RATE 3\n",
    "A = [1,\nLEARNING_RATE 3\n",
    "A = 'abc\n",
    "A = @b(\n",
    "import not_installed_anywhere\n",
  ],
)
def test_a_gin_file_that_cannot_be_parsed_is_named(refused, tmp_path, text):
  (tmp_path / "mine.gin").write_text(text)
  assert "mine.gin" in refused(["train", f"--gin_file={tmp_path / 'mine.gin'}"])


# Numbers that cannot be.


@pytest.mark.parametrize("length", [100_000, 0, -1])
def test_impossible_prompt_lengths(refused_training, length):
  message = refused_training(PROMPT_LENGTH=length)
  assert f"PROMPT_LENGTH is {length}, expected 1 to" in message


@pytest.mark.parametrize("size", [0, -4])
def test_impossible_batch_sizes(refused_training, size):
  assert f"BATCH_SIZE is {size}, expected a positive" in refused_training(BATCH_SIZE=size)


def test_fewer_steps_than_the_checkpoint_has(refused_training):
  message = refused_training(TRAIN_STEPS=2, TRAIN_STEPS_RELATIVE=None)
  assert "TRAIN_STEPS is 2 but the checkpoint is at step 3" in message
  assert "TRAIN_STEPS_RELATIVE" in message


@pytest.mark.parametrize(
  "macro", ["BATCH_SIZE", "PROMPT_LENGTH", "LEARNING_RATE", "TRAIN_STEPS_RELATIVE"]
)
def test_a_number_in_quotes(refused_training, macro):
  assert macro in refused_training(**{macro: "10"})


def test_no_number_of_steps(refused_training):
  message = refused_training(TRAIN_STEPS=None, TRAIN_STEPS_RELATIVE=None)
  assert "neither TRAIN_STEPS nor TRAIN_STEPS_RELATIVE" in message


@pytest.mark.parametrize("count", [0, -3])
def test_no_steps_at_all(refused_training, count):
  message = refused_training(TRAIN_STEPS_RELATIVE=count)
  assert "TRAIN_STEPS_RELATIVE" in message


@pytest.mark.parametrize("macro", ["EVAL_PERIOD", "SAVE_PERIOD", "STATS_PERIOD"])
def test_periods_that_are_not_positive(refused_training, macro):
  assert macro in refused_training(**{macro: 0})


def test_a_batch_that_does_not_divide_into_microbatches(refused_training):
  message = refused_training("--gin.trainer.Trainer.num_microbatches=3")
  assert "BATCH_SIZE 11 does not divide into 3 microbatches" in message


def test_a_split_model(refused_training):
  message = refused_training("--gin.partitioning.PjitPartitioner.num_partitions=3")
  assert "num_partitions is 3" in message


def test_lengths_without_a_feature(refused_training):
  assert "targets" in refused_training(TASK_FEATURE_LENGTHS={"inputs": 16})


def test_a_best_metric_that_the_task_lacks(run, command, tmp_path):
  found = run(
    command("train", tmp_path / "run", BEST_METRIC="tiny_words/acuracy", EVAL_PERIOD=1)
  )
  assert found.status == 2 and "Traceback" not in found.err
  assert "nearest known: tiny_words/accuracy" in found.err.splitlines()[-1]


# Folders and flags.


def test_a_model_dir_that_cannot_be_made(run, command, tmp_path):
  (tmp_path / "file").write_text("in the way")
  found = run(command("train", tmp_path / "file" / "run"))
  assert found.status == 2 and len(found.err.splitlines()) == 1
  assert "MODEL_DIR" in found.err and "cannot be written" in found.err
  assert (tmp_path / "file").read_text() == "in the way"


def test_an_unknown_flag(refused_training):
  message = refused_training("--gin_fil=x.gin")
  assert "--gin_fil=x.gin" in message and "prompt-tuning train --help" in message


def test_a_gin_flag_without_a_value(refused_training):
  message = refused_training("--gin.BATCH_SIZE")
  assert "--gin.BATCH_SIZE has no value" in message


@pytest.mark.parametrize("name", ["train", "eval", "infer", "pretrain"])
def test_no_gin_file(refused, name):
  message = refused([name])
  assert "no --gin_file is given" in message and f"prompt-tuning {name} --help" in message


# A run that goes wrong on the way.


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_prompt_that_is_not_a_number_stops_before_anything_is_kept(
  run, command, tmp_path
):
  found = run(command("train", tmp_path / "run", LEARNING_RATE=1e39))
  assert found.status == 2 and "Traceback" not in found.err
  last = found.err.splitlines()[-1]
  assert last.startswith("prompt-tuning: ") and "not a number by step" in last
  assert "nothing yet is kept" in last and "learning rate" in last
  assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_run_that_diverges_keeps_the_last_good_state(run, command, tmp_path):
  folder = tmp_path / "run"
  schedule = "--gin.utils.create_learning_rate_scheduler"
  flags = [  # 0.3 up to step 9, then infinite
    f"{schedule}.factors='constant * decay_every'",
    f"{schedule}.steps_per_decay=9",
    f"{schedule}.decay_factor=1e39",
  ]
  found = run(command("train", folder, *flags))
  assert found.status == 2 and "Traceback" not in found.err
  last = found.err.splitlines()[-1]
  assert last.startswith("prompt-tuning: ") and "not a number by step" in last
  assert "the state of step 9 is kept" in last and "learning rate" in last
  saved = sorted(path.name for path in (folder / "run_state").glob("*.safetensors"))
  assert saved == ["step_6.safetensors", "step_9.safetensors"]
  saved = [folder / "prompt.safetensors", *folder.glob("numpy_checkpoints/*/*")]
  assert len(saved) == 3
  assert all(np.isfinite(formats.load_prompt(str(path))).all() for path in saved)
  assert not (folder / "summary.json").exists()
