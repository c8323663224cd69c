"""`prompt-tuning tasks`: what can be trained on, or one task looked at."""

import argparse
import fnmatch
from collections.abc import Sequence

from prompt_tuning import checks, config
from prompt_tuning.cli import flags, runs


def main(command: str, arguments: Sequence[str]) -> int:
  """Prints the list of tasks, or a report of one."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Lists tasks and mixtures with splits, sizes, metrics and whether their "
    "data are here; with the name of one task, shows its examples as text and tokens, how "
    "many a run would cut, and its labels. Data that are missing are prepared then.",
    epilog="lines that work as pasted:\n  prompt-tuning tasks 'taskless_super_glue_*'\n"
    "  prompt-tuning tasks movie_reviews_sentiment \\\n"
    "    --vocabulary=package://assets/t5_1_1_reviews/sentencepiece.model \\\n"
    "    --inputs_length=64 --targets_length=4\n"
    "or for files of your own, with the macros of tables/table.gin:\n"
    "  prompt-tuning tasks own_data --gin_file=tables/table.gin \\\n"
    "    --gin.TRAIN_FILE=\"'train.csv'\" --gin.INPUT_TEMPLATE=\"'review: {text}'\" \\\n"
    "    --gin.TARGET_COLUMN=\"'label'\" \\\n"
    "    --vocabulary=package://assets/t5_1_1_reviews/sentencepiece.model",
  )
  add = parser.add_argument
  add("name", nargs="?", default="*", help="a name, or a pattern with * and ?")
  add("--gin_file", action="append", metavar="FILE", help="gin file with a TABLE")
  add("--gin_bindings", action="append", default=[], help=argparse.SUPPRESS)
  add("--module", action="append", help="module that registers tasks; repeatable")
  add("--tfds_data_dir", metavar="DIR", help="where TFDS datasets lie")
  add(
    "--vocabulary",
    metavar="FILE",
    help="SentencePiece model, tokenizer or 'bytes' (default: that of the task's model)",
  )
  add("--split", help="split that is shown (default: the first)")
  add("--examples", type=int, default=3, help="examples that are shown (default 3)")
  add(
    "--limit", type=int, default=10_000, help="examples that are counted (default 10,000)"
  )
  add("--inputs_length", type=int, default=512, help="tokens of inputs (default 512)")
  add("--targets_length", type=int, default=62, help="tokens of targets (default 62)")
  given = parser.parse_args([flags.rewritten(argument) for argument in arguments])
  for flag in ("limit", "inputs_length", "targets_length"):
    checks.number(f"--{flag}", getattr(given, flag), 1, "give a positive number")
  checks.number("--examples", given.examples, 0, "give a number")
  runs.quiet()
  from prompt_tuning.data import folders, quiet, vocabularies

  quiet.import_seqio()
  from prompt_tuning.data import registry

  folders.use(given.tfds_data_dir, [])
  vocabularies.use(vocabularies.named(given.vocabulary))
  registry.import_modules([registry.BUILT_IN, *(given.module or [])])
  if given.gin_file:
    config.query("TABLE", given.gin_file, given.gin_bindings).register()
  if any(sign in given.name for sign in "*?["):
    return _list(fnmatch.filter(registry.names(), given.name), given.name)
  return _show(given)


def _list(names: Sequence[str], pattern: str) -> int:
  from prompt_tuning.data import registry, task_listing

  if not names:
    raise checks.unknown("pattern", pattern, registry.names())
  found = [task_listing.HEAD, *task_listing.rows(sorted(names))]
  widths = [max(len(row[column]) for row in found) for column in range(3)]
  for row in found:
    cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
    print("  ".join([*cells, row[-1]]))
  return 0


def _show(given) -> int:
  from prompt_tuning.data import registry, task_report, tfds_store

  provider = registry.named(given.name)
  rates = registry.rates(provider)
  if rates is not None:
    _list(list(rates), given.name)
    print("\nrates: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()))
    return 0
  for feature in provider.output_features.values():
    _ = feature.vocabulary.vocab_size  # fails here where its file is not to be had
  tfds_store.ensure(provider)
  look = task_report.Look(
    split=given.split or next(iter(provider.splits)),
    examples=given.examples,
    limit=given.limit,
    lengths={"inputs": given.inputs_length, "targets": given.targets_length},
  )
  report = list(task_report.lines(provider, look))
  _list([given.name], given.name)
  print("", *report, sep="\n")
  return 0
