"""`prompt-tuning corpus`: text for pretraining, from what is installed."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Builds a corpus folder and prints its manifest."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Gathers review text and whatever else is named into a corpus folder. "
    "Sentences of the demo task are left out.",
    epilog="a line that works as pasted: prompt-tuning corpus runs/corpus",
  )
  parser.add_argument("out", type=pathlib.Path, help="folder to write")
  parser.add_argument(
    "--wikitext",
    type=pathlib.Path,
    metavar="DIR",
    help="folder with WikiText-2's train.raw.gz",
  )
  parser.add_argument(
    "--wordnet",
    type=pathlib.Path,
    metavar="DIR",
    help="folder with WordNet's data.* files",
  )
  parser.add_argument(
    "--rated_sentences",
    type=pathlib.Path,
    metavar="DIR",
    help="folder hutto_ICWSM_2014 of the vaderSentiment 0.5 sdist",
  )
  given = parser.parse_args(arguments)
  from prompt_tuning.data import corpus

  texts: dict[str, Callable[[], Iterable[str]]] = {"imdb": corpus.imdb_text}
  labelled: dict[str, Callable[[], Iterable[dict[str, str]]]] = {
    "imdb_labelled": corpus.imdb_labelled
  }
  if given.wikitext:
    texts["wikitext-2"] = functools.partial(corpus.wikitext, given.wikitext)
  if given.wordnet:
    texts["wordnet"] = functools.partial(corpus.wordnet, given.wordnet)
  if given.rated_sentences:
    labelled["rated_sentences"] = functools.partial(
      corpus.rated_sentences, given.rated_sentences
    )
  print(json.dumps(corpus.build(given.out, texts, labelled), indent=2))
  return 0
