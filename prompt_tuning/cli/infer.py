"""`prompt-tuning infer`: a split of a task, or with --input rows of one's own."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from prompt_tuning import checks
from prompt_tuning.cli import compiled, flags, prompt_flags, runs

_RUN = "predictor.predictor"


def main(command: str, arguments: Sequence[str]) -> int:
  """Answers; 1 where rows have errors in place of answers."""
  parser = flags.parser(command)
  group = _add_flags(parser)
  given = flags.parsed(parser, arguments)
  if given.input is None:
    _check_unused(group, given)
    return runs.main(command, arguments)
  flags.alone(given, "--input")
  return _rows(given)


def _add_flags(parser: flags.Parser) -> argparse._ArgumentGroup:
  """The flags of rows of one's own, in a group of the help."""
  group = parser.add_argument_group(
    "rows of one's own",
    "Give --input and a gin file with runs/predictor.gin in it. Every row has a line in "
    "the output, in order: an answer or what is wrong with the row. A run that is "
    "interrupted continues with the same command. Exit status 1: some rows have errors.",
  )
  add = group.add_argument
  add("--input", metavar="FILE", help=".jsonl, .csv, .tsv or .txt, also .gz; - is stdin")
  add("--format", metavar="KIND", help="jsonl, csv, tsv or text, whatever the suffix")
  add("--output", metavar="FILE", help="JSON lines; - is stdout, the default")
  add("--mode", metavar="MODE", help="predict (the default), score or rank")
  add(
    "--prompt",
    action="append",
    default=[],
    metavar="NAME=PATH",
    help="a prompt of any format; repeatable. None: the untuned model",
  )
  add("--prompt-column", metavar="NAME", help="which prompt a row is for; empty: untuned")
  add("--text-column", metavar="NAME", help='the text of a row, "text" by default')
  add("--template", metavar="TEXT", help="the text of a row, as in 'review: {text}'")
  add("--target-column", metavar="NAME", help="whose likelihood --mode score gives")
  add(
    "--labels",
    action="append",
    default=[],
    metavar="[NAME=]A,B",
    help="what rows, or those of one prompt, choose from; repeatable",
  )
  add("--label-column", metavar="NAME", help="a row's own labels: a list, or A|B")
  add("--length-normalized", action="store_true", help="scores per token of the label")
  add(
    "--keep",
    action="append",
    default=[],
    metavar="NAME,NAME",
    help="columns that are copied to the output; repeatable",
  )
  add(
    "--window",
    type=int,
    metavar="ROWS",
    help="rows that are read before they are answered; eight batches by default",
  )
  return group


def _check_unused(group: argparse._ArgumentGroup, given: argparse.Namespace) -> None:
  """Raises `InputError` for a flag that only --input gives a meaning."""
  for action in group._group_actions:
    if getattr(given, action.dest) not in (None, False, []):
      raise checks.InputError(
        f"{action.option_strings[0]} is given without --input, expected both for rows of "
        "one's own; give --input FILE"
      )


def _rows(given: argparse.Namespace) -> int:
  runs.quiet()
  from prompt_tuning import answers_file, infer_rows

  run, text = _run(given)
  run.check()
  if given.dry_run:
    print(runs.description(run.predictor, text))
    return 0
  compiled.keep()
  run = run.fitted()
  output = answers_file.STDOUT if given.output is None else given.output
  identity = {} if output == answers_file.STDOUT else run.identity()
  with answers_file.opened(output, identity) as answers:
    outcome = infer_rows.infer_rows(run, answers)
    print(_summary(outcome, answers.name), file=sys.stderr)
  return 1 if outcome.failed else 0


def _run(given: argparse.Namespace) -> tuple[Any, str]:
  """The pass that the flags ask for, and the gin text of its model."""
  from prompt_tuning import config
  from prompt_tuning.data import rows
  from prompt_tuning.infer_rows import InferRows

  if not given.gin_file:
    raise checks.InputError(
      "no --gin_file is given, expected at least one, e.g. "
      "--gin_file=experiments/movie_reviews_predictor.gin; `prompt-tuning infer --help` "
      "shows a line that works"
    )
  prompts = prompt_flags.prompts(given.prompt)
  format = rows.format_of(given.input, given.format)
  paths = runs.paths(given.gin_search_paths)
  settings, text = config.load(_RUN, given.gin_file, given.gin_bindings, paths)
  settings = dataclasses.replace(settings, prompts={**settings.prompts, **prompts})
  queries = _queries(given, list(settings.prompts))
  run = InferRows(
    predictor=settings,
    queries=queries,
    source=given.input,
    format=format,
    window=given.window,
  )
  return run, text


def _queries(given: argparse.Namespace, prompts: Sequence[str]) -> Any:
  """What the flags ask about every row."""
  from prompt_tuning.data import rows
  from prompt_tuning.row_queries import RowQueries

  if given.template is not None and given.text_column is not None:
    raise checks.InputError(
      "--template and --text-column are given, expected one of them; name the column in "
      "the template"
    )
  template = given.template
  if template is None:
    template = "{" + (given.text_column or rows.TEXT_COLUMN) + "}"
  labels = prompt_flags.labels(given.labels)
  return RowQueries(
    mode=given.mode or "predict",
    template=rows.Template(template),
    prompts=prompts,
    prompt_column=given.prompt_column,
    target_column=given.target_column,
    labels=labels.pop("", None),
    prompt_labels=labels,
    label_column=given.label_column,
    length_normalized=given.length_normalized,
    keep=_names(given.keep),
  )


def _names(given: Sequence[str]) -> tuple[str, ...]:
  """The columns that the --keep flags name, each once."""
  names = (name.strip() for text in given for name in text.split(","))
  return tuple(dict.fromkeys(name for name in names if name))


def _summary(outcome: Any, name: str) -> str:
  """What is said at the end."""
  if outcome.rows and not outcome.new:
    head = f"{name} is complete: {outcome.rows:,} rows"
  else:
    head = f"{outcome.rows:,} rows, {outcome.new:,} of them answered now"
  if not outcome.failed:
    return head
  return f'{head}; {outcome.failed:,} could not be answered, see "error" in {name}'
