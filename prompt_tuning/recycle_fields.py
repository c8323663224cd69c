"""The fields of a recycling experiment's JSON file, and what can be wrong with them.

The original's format:

  root_dir            where everything is written
  dataset, task_name  what the prompts were trained for; the seqio task of the results
  clobber             learn again where a recycler was saved (default false)
  steps               of the prompts; null, the default, is all that there are
  combination_skips   [[source, target], ...] to leave out (default none)
  load_embeddings     {"default": {word_list_path, num_words, word_offset, vocab_file},
                       "from_string": {string, vocab_file, variable_path}}
  recycling_methods   {method: {"__init__": settings, "fit": settings}}
  pretrained          {model: checkpoint}
  prompts             {model: {init: {run: MODEL_DIR}}}

Prompts of the init "wayward" learn from the pieces of the string, all others from words.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prompt_tuning import checks
from prompt_tuning.data import vocabularies
from prompt_tuning.methods.recycling import RECYCLERS, Recycler
from prompt_tuning.word_pairs import Choice, Text, Words

DEFAULT, FROM_STRING, WAYWARD = "default", "from_string", "wayward"
OPTIONAL: dict[str, Any] = {
  "clobber": False,
  "steps": None,
  "combination_skips": None,
  "load_embeddings": {DEFAULT: {}},
}
_METHODS = {"jax-nn": "v2v-nn", "tf-lstsq": "v2v-lin", "linear-combination": "lin-comb"}
_SETTINGS = {
  DEFAULT: {"word_list_path", "num_words", "word_offset", "vocab_file"},
  FROM_STRING: {"string", "vocab_file", "variable_path"},
}


def kind_of_words(init: str) -> str:
  """By which tokens the prompts of an init are recycled."""
  return FROM_STRING if init == WAYWARD else DEFAULT


def method(name: str, stages: Mapping[str, Mapping[str, Any]]) -> Recycler:
  """A recycler by its name, the original's or the command's, with its settings.

  Raises:
    InputError: There is none of that name, or it has no such settings.
  """
  name = _METHODS.get(name, name)
  kind = RECYCLERS[checks.choice("recycler", name, [*RECYCLERS, *_METHODS])]
  settings = {key: value for stage in stages.values() for key, value in stage.items()}
  _only(settings, [field.name for field in dataclasses.fields(kind)])
  return kind(**settings)


def words(kind: str, args: Mapping[str, Any]) -> Choice:
  """A choice of tokens.

  Raises:
    InputError: There is none of that kind, or it has no such settings.
  """
  checks.choice("way to load embeddings", kind, list(_SETTINGS))
  _only(args, _SETTINGS[kind])
  vocabulary = vocabularies.named(args.get("vocab_file"))
  if kind == FROM_STRING:
    if not isinstance(args.get("string"), str):
      raise checks.InputError("it has no string, expected a text; add it")
    return Text(text=args["string"], vocabulary=vocabulary)
  numbers = {name: args[name] for name in ("num_words", "word_offset") if name in args}
  path = args.get("word_list_path")
  return Words(**numbers, filtered_word=path, vocabulary=vocabulary)


def problems(fields: Mapping[str, Any]) -> list[str]:
  """Everything that is wrong with the fields, a line each."""
  known = [*_SHAPES, *OPTIONAL]
  missing = [name for name in _SHAPES if name not in {*fields, *OPTIONAL}]
  found = [f"- {name} is missing" for name in missing]
  found += [f"+ {name} is no field" for name in fields if name not in known]
  misshapen = {
    name: expected
    for name, (fits, expected) in _SHAPES.items()
    if name in fields and not fits(fields[name])
  }
  found += [f"{name} is not {expected}" for name, expected in misshapen.items()]
  if found:
    return found
  return list(_contradictions({**OPTIONAL, **fields}))


def _contradictions(fields: Mapping[str, Any]) -> Iterator[str]:
  models, embeddings = fields["pretrained"], fields["load_embeddings"]
  if len(models) < 2:
    yield f"pretrained has {len(models)} models, two are needed"
  for source in fields["prompts"].keys() - models.keys():
    yield f"prompts has the model {source!r}, pretrained has not"
  for source, target in fields["combination_skips"] or ():
    for name in {source, target} - models.keys():
      yield f"combination_skips has the model {name!r}, pretrained has not"
  inits = {init for found in fields["prompts"].values() for init in found}
  for kind in {kind_of_words(init) for init in inits} - embeddings.keys():
    yield f"load_embeddings lacks {kind!r}"
  yield from _refusals("load_embeddings", words, embeddings)
  yield from _refusals("recycling_methods", method, fields["recycling_methods"])
  for name in _names(fields):
    if "/" in name or name in ("", ".", ".."):
      yield f"{name!r} becomes part of a file's name, it may have no '/' in it"


def _refusals(
  field: str, build: Callable[[str, Any], Any], named: Mapping[str, Any]
) -> Iterator[str]:
  for name, args in named.items():
    try:
      build(name, args)
    except checks.InputError as error:
      yield f"{field} {name!r}: {error}"


def _names(fields: Mapping[str, Any]) -> Iterator[str]:
  yield fields["dataset"]
  yield from fields["recycling_methods"]
  yield from fields["pretrained"]
  for inits in fields["prompts"].values():
    for init, found in inits.items():
      yield from (init, *found)


def _only(given: Iterable[str], known: Iterable[str]) -> None:
  surplus = sorted(set(given) - set(known))
  if surplus:
    raise checks.InputError(
      f"it has no {', '.join(surplus)}, expected {', '.join(sorted(known)) or 'nothing'}; "
      "correct it"
    )


# What a field looks like: (whether a value does, what is expected in words).
Fits = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and bool(value)


def _is_whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _map_of(fits: Fits) -> Fits:
  return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _list_of(fits: Fits) -> Fits:
  return lambda value: isinstance(value, list) and all(map(fits, value))


def _or_null(fits: Fits) -> Fits:
  return lambda value: value is None or fits(value)


def _is_pair(value: Any) -> bool:
  return _list_of(_is_text)(value) and len(value) == 2


_is_map = _map_of(lambda _: True)
_SHAPES: dict[str, tuple[Fits, str]] = {
  "root_dir": (_is_text, "a folder"),
  "dataset": (_is_text, "a name"),
  "task_name": (_is_text, "a name"),
  "clobber": (lambda value: isinstance(value, bool), "true or false"),
  "steps": (_or_null(_list_of(_is_whole)), "null or a list of steps"),
  "combination_skips": (_or_null(_list_of(_is_pair)), "null or [[source, target], ...]"),
  "load_embeddings": (_map_of(_is_map), "{way: settings}"),
  "recycling_methods": (_map_of(_map_of(_is_map)), "{method: {stage: settings}}"),
  "pretrained": (_map_of(_is_text), "{model: checkpoint}"),
  "prompts": (_map_of(_map_of(_map_of(_is_text))), "{model: {init: {run: folder}}}"),
}
