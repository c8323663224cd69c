"""Token arrays for pretraining: every objective's packed rows, in a few files.

Needs TensorFlow and seqio; what it writes is read without them, so that tokens may be
made on one machine and the model pretrained on another.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from prompt_tuning import __version__, checks, files
from prompt_tuning.data import objective_config, quiet, token_arrays
from prompt_tuning.data.objective_config import Objective
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.progress import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokensConfig:
  """What is written.

  Attributes:
    objectives: Kinds of examples and their text.
    vocabulary: Of the model to be pretrained.
    output_dir: Folder of the token arrays.
    seed: Of the order of documents, of spans and of cuts.
  """

  objectives: Sequence[Objective]
  vocabulary: Vocabulary
  output_dir: str
  seed: int = 0

  def __post_init__(self):
    objective_config.check(self.objectives)


def tokens(config: TokensConfig, config_text: str = "") -> dict[str, Any]:
  """Writes the token arrays and returns their manifest.

  Args:
    config: The run.
    config_text: The gin text it came from, written to `config.gin`.

  Raises:
    InputError: A text, a vocabulary or a length cannot be used.
  """
  quiet.import_seqio()
  from prompt_tuning.data import pretraining

  folder = pathlib.Path(files.output_folder(config.output_dir, "TOKENS"))
  size = config.vocabulary.load().vocab_size
  (folder / token_arrays.MANIFEST).unlink(missing_ok=True)  # until all is written anew
  found: dict[str, Any] = {}
  for objective in config.objectives:
    found[objective.name] = {"text": pretraining.described(objective)}
    for split in token_arrays.SPLITS:
      rows = pretraining.rows(objective, config.vocabulary, split, config.seed)
      shown = _shown(rows, f"{objective.name} {split}", objective.max_rows or 0)
      place = folder / objective.name / split
      found[objective.name][split] = token_arrays.write(place, shown, size)
    if not found[objective.name]["train"]["rows"]:
      raise checks.InputError(
        f"the text {objective.text or objective.name!r} yields no row of {objective.name}, "
        "expected at least one; use longer documents or shorter lengths"
      )
  manifest = {
    "library_version": __version__,
    "seed": config.seed,
    "vocabulary": config.vocabulary.described(),
    "objectives": found,
  }
  text = json.dumps(manifest, indent=2) + "\n"
  files.write_atomically(files.path(folder / token_arrays.MANIFEST), text.encode())
  (folder / "config.gin").write_text(config_text)
  return manifest


def _shown(rows: Iterator, what: str, total: int) -> Iterator:
  """The same rows, with progress on stderr."""
  bar = Progress(what, total)
  for count, row in enumerate(rows, 1):
    if count % 64 == 0:
      bar.update(count)
    yield row
  bar.close()


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["tokens", *sys.argv[1:]]))
