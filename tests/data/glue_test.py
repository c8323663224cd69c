"""SST-2 through the real TFDS builder: exact texts, labels and tokens."""

import pathlib

import pytest
import seqio
import tensorflow_datasets as tfds

from prompt_tuning.data import vocabularies

RECORDS = {
  "train.tsv": "sentence\tlabel\nhide new secretions\t0\na joy to watch\t1\n",
  "dev.tsv": "sentence\tlabel\nit 's charming\t1\n",
  "test.tsv": "index\tsentence\n0\tuneasy mishmash\n",
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> pathlib.Path:
  """SST-2 as TFDS lays it out, prepared by its own builder from three files."""
  folder = tmp_path_factory.mktemp("tfds")
  raw = folder / "raw" / "SST-2"
  raw.mkdir(parents=True)
  for name, text in RECORDS.items():
    (raw / name).write_text(text)
  manager = tfds.download.DownloadManager
  with pytest.MonkeyPatch.context() as patch:  # there is no network to download from
    patch.setattr(manager, "download_and_extract", lambda self, urls: raw.parent)
    # Version 1.0.0 (v002) reads the same files; TFDS no longer prepares it.
    tfds.builder("glue/sst2:2.0.0", data_dir=folder).download_and_prepare()
  return folder


@pytest.fixture(scope="module")
def task(fixtures, data_dir):
  """Looks a task up with the T5 vocabulary and the prepared data."""
  model = str(fixtures / "t5_vocab.model")
  vocabularies.use(vocabularies.SentencePiece(sentencepiece_model_file=model))
  from prompt_tuning.data import glue

  assert "taskless_glue_sst2_v200" in seqio.TaskRegistry.names()
  assert set(glue.TASKS) == {"sst2"}
  vocabularies.use(vocabularies.EMBEDDED)
  seqio.set_tfds_data_dir_override(str(data_dir))
  yield lambda name: seqio.TaskRegistry.get(f"taskless_glue_sst2_{name}")
  seqio.set_tfds_data_dir_override(None)


def texts(task, split):
  rows = task.get_dataset({"inputs": 32, "targets": 8}, split, shuffle=False)
  return sorted(
    (row["inputs_pretokenized"].decode(), row["targets_pretokenized"].decode())
    for row in rows.as_numpy_iterator()
  )


@pytest.mark.parametrize("name", ["v200", "v200_examples"])
def test_texts_and_labels_are_the_original_s(task, name):
  assert texts(task(name), "train") == [
    ("sentence: a joy to watch", "positive"),
    ("sentence: hide new secretions", "negative"),
  ]
  assert texts(task(name), "validation") == [("sentence: it 's charming", "positive")]
  assert texts(task(name), "test") == [("sentence: uneasy mishmash", "<unk>")]


def test_tokens_are_t5_s_with_eos(task):
  (row,) = task("v200").get_dataset({"inputs": 32, "targets": 8}, "validation")
  assert row["targets"].numpy().tolist() == [1465, 1]
  assert row["inputs"].numpy()[-1] == 1


def test_predictions_become_classes(task):
  found = [task("v200").postprocess_fn(text) for text in ("negative", "positive", "good")]
  assert found == [0, 1, -1]
