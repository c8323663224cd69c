"""`prompt-tuning corpus`: text for pretraining, from what is installed and one's own."""

import json
import pathlib
from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Builds a corpus folder and prints its manifest."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Gathers review text and whatever else is named into a corpus folder. "
    "Sentences of the demo task are left out.",
    epilog="a line that works as pasted:\n  prompt-tuning corpus runs/corpus",
  )
  add = parser.add_argument
  add("out", type=pathlib.Path, help="folder to write")
  add(
    "--text",
    action="append",
    default=[],
    metavar="PATH",
    help="a file, a folder or a pattern of text files, one document per line; repeatable",
  )
  add(
    "--held_out",
    action="append",
    default=[],
    metavar="PATH",
    help="text files with evaluation sentences, one per line, that must not enter; "
    "repeatable",
  )
  add("--without_reviews", action="store_true", help="leave the IMDB reviews out")
  add(
    "--wikitext",
    type=pathlib.Path,
    metavar="DIR",
    help="folder with WikiText-2's train.raw.gz",
  )
  add(
    "--wordnet",
    type=pathlib.Path,
    metavar="DIR",
    help="folder with WordNet's data.* files",
  )
  add(
    "--rated_sentences",
    type=pathlib.Path,
    metavar="DIR",
    help="folder hutto_ICWSM_2014 of the vaderSentiment 0.5 sdist",
  )
  given = parser.parse_args(arguments)
  from prompt_tuning.data import corpus
  from prompt_tuning.data import corpus_sources as sources

  texts, labelled = {}, {}
  if not given.without_reviews:
    texts["imdb"], labelled["imdb_labelled"] = sources.imdb(), sources.imdb_labelled()
  if given.wikitext:
    texts["wikitext-2"] = sources.wikitext(given.wikitext)
  if given.wordnet:
    texts["wordnet"] = sources.wordnet(given.wordnet)
  texts |= {place: sources.plain_text(place) for place in given.text}
  if given.rated_sentences:
    labelled["rated_sentences"] = sources.rated_sentences(given.rated_sentences)
  held_out = [line for place in given.held_out for line in sources.plain_text(place).read()]
  print(json.dumps(corpus.build(given.out, texts, labelled, held_out), indent=2))
  return 0
