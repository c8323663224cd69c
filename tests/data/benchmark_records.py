"""A handful of records of GLUE, SuperGLUE and DPR, in one folder for the whole process.

  examples("taskless_glue_cola_v200", "train")    a task's examples, its data prepared
  answered("glue_cola_v200", rows, answers)       its metrics when they are answered so
  prepared("glue/cola:2.0.0")                     the folder, which seqio reads from now on

Another module adds data of its own to `RECORDS` before it calls either:
`RECORDS.update({"xsum:1.1.0": {"train": [{"document": ..., "summary": ...}]}})`.
One folder, because seqio keeps a builder per name and a task the folder it first read.
"""

import atexit
import functools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import seqio
import tensorflow_datasets as tfds
from glue_records import GLUE
from super_glue_records import DPR, SUPER_GLUE
from tfds_records import Records, prepare

from prompt_tuning.data import folders, vocabularies

tfds.disable_progress_bar()
LENGTHS = {"inputs": 512, "targets": 64}


RECORDS: dict[str, Records] = {
  **{f"glue/{config}:1.0.0": records for config, records in GLUE.items()},
  **{f"glue/{config}:2.0.0": records for config, records in GLUE.items()},
  **{f"super_glue/{config}:1.0.2": found for config, found in SUPER_GLUE.items()},
  "definite_pronoun_resolution:1.1.0": DPR,
}
_prepared: set[str] = set()


def prepared(*names: str) -> pathlib.Path:
  """The folder with these datasets of `RECORDS` in it; seqio reads it from now on."""
  folder = _folder()
  for name in names:
    if name not in _prepared:
      _BY_BUILDER.get(name, prepare)(folder, name, RECORDS[name])
      _prepared.add(name)
  folders.use(str(folder), [])
  return folder


def examples(
  task: str,
  split: str,
  vocabulary: vocabularies.Vocabulary = vocabularies.EMBEDDED,
  lengths: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
  """The examples of a registered task in the order of its records, as NumPy."""
  found = seqio.TaskRegistry.get(task)
  prepared(found.source.tfds_dataset.name)
  vocabularies.use(vocabulary)
  try:
    dataset = found.get_dataset(lengths or LENGTHS, split, shuffle=False)
    return list(dataset.as_numpy_iterator())
  finally:
    vocabularies.use(None)


def texts(task: str, split: str) -> list[tuple[str, str]]:
  """Inputs and targets of a task's examples before they became tokens."""
  return [
    (row["inputs_pretokenized"].decode(), row["targets_pretokenized"].decode())
    for row in examples(task, split)
  ]


def table(lines: str) -> dict[str, dict[str, list[tuple[str, str]]]]:
  """{config: {split: texts}} from "config split" lines with "inputs => targets" below."""
  found: dict[str, dict[str, list[tuple[str, str]]]] = {}
  rows: list[tuple[str, str]] = []
  for line in filter(None, lines.splitlines()):
    if " => " in line:
      inputs, targets = line.strip().split(" => ")
      rows.append((inputs, targets))
    else:
      config, split = line.split()
      rows = found.setdefault(config, {}).setdefault(split, [])
  return found


def answered(task: str, rows: Sequence[Any], answers: Sequence[str]) -> dict[str, Any]:
  """A task's metrics when its examples are answered so, called as seqio calls them.

  Args:
    task: Its name.
    rows: Its examples, or just the texts of their targets.
    answers: One for each.
  """
  found = seqio.TaskRegistry.get(task)
  rows = [_example(row) for row in rows]
  targets = [
    found.postprocess_fn(row["targets_pretokenized"].decode(), example=row, is_target=True)
    for row in rows
  ]
  predictions = [
    found.postprocess_fn(answer, example=row, is_target=False)
    for row, answer in zip(rows, answers, strict=True)
  ]
  values: dict[str, Any] = {}
  for metric in found.metric_fns:
    values |= metric(targets, predictions)
  return values


def _example(row: Mapping[str, Any] | str) -> Mapping[str, Any]:
  return {"targets_pretokenized": row.encode()} if isinstance(row, str) else row


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
  """The metrics of `answered` that are numbers."""
  return {name: v for name, v in values.items() if isinstance(v, float)}


def t5(fixtures: pathlib.Path) -> vocabularies.SentencePiece:
  """T5's own vocabulary, of the fixture `fixtures`."""
  model = str(fixtures / "t5_vocab.model")
  return vocabularies.SentencePiece(sentencepiece_model_file=model)


@functools.cache
def _folder() -> pathlib.Path:
  folder = tempfile.mkdtemp(prefix="tfds_of_the_tests")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return pathlib.Path(folder)


# What TFDS's own builders read, from files of the form that they would download.


def _sst2(folder: pathlib.Path, name: str, records: Records) -> None:
  raw = folder / "raw" / "SST-2"
  raw.mkdir(parents=True)
  for split, file in (("train", "train"), ("validation", "dev"), ("test", "test")):
    fields = ("index", "sentence") if split == "test" else ("sentence", "label")
    lines = ["\t".join(fields)]
    for i, row in enumerate(records[split]):
      lines.append("\t".join(str({**row, "index": i}[field]) for field in fields))
    (raw / f"{file}.tsv").write_text("\n".join(lines) + "\n")
  _build(folder, name, raw.parent)


def _boolq(folder: pathlib.Path, name: str, records: Records) -> None:
  raw = folder / "raw" / "BoolQ"
  raw.mkdir(parents=True)
  for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
    rows = [
      {key: bool(v) if key == "label" else v for key, v in row.items()}
      for row in records[split]
    ]
    if split == "test":
      rows = [{key: v for key, v in row.items() if key != "label"} for row in rows]
    (raw / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  _build(folder, name, raw.parent)


def _build(folder: pathlib.Path, name: str, raw: pathlib.Path) -> None:
  manager = tfds.download.DownloadManager
  with pytest.MonkeyPatch.context() as patch:  # there is no network to download from
    patch.setattr(manager, "download_and_extract", lambda self, urls: raw)
    tfds.builder(name, data_dir=folder).download_and_prepare()


_BY_BUILDER = {"glue/sst2:2.0.0": _sst2, "super_glue/boolq:1.0.2": _boolq}
