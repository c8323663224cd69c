"""`prompt-tuning recycle`: a prompt of one model as a prompt of another."""

import argparse
from collections.abc import Sequence
from typing import Any

from prompt_tuning import checks
from prompt_tuning.cli import flags, runs

_PATHS = {
  "source_model": "checkpoint of the model that the prompt was trained for",
  "target_model": "checkpoint of the model that it shall work for",
  "prompt_path": "the prompt, of any format",
  "output_path": "a new file: .safetensors, or numpy under any other name",
}
_WORDS = ("num_words", "word_offset", "filtered_word", "vocabulary")
_NETWORK = ("hidden_scale", "batch_size", "learning_rate", "epochs", "seed")


def main(command: str, arguments: Sequence[str]) -> int:
  """Recycles one prompt, or all of a JSON file, and prints how well it learned."""
  given = vars(_parser(command).parse_args(arguments))
  runs.quiet()
  if given["config"] is not None:
    return _experiment(given)
  missing = [f"--{name}" for name in _PATHS if given[name] is None]
  if missing:
    raise checks.InputError(
      f"{', '.join(missing)} not given, expected all four paths, or --config FILE; "
      f"`prompt-tuning {command} --help` shows a line that works"
    )
  from prompt_tuning import recycle

  paths = {name: given[name] for name in _PATHS}
  recycler = _recycler(given)
  found = recycle.recycle(
    recycle.RecycleConfig(**paths, recycler=recycler, words=_words(given))
  )
  print(given["output_path"], found.report, sep="\n")
  return 0


def _experiment(given: dict[str, Any]) -> int:
  surplus = [f"--{name}" for name in given if given[name] is not None]
  surplus = [name for name in surplus if name not in ("--config", "--recycle")]
  if surplus:
    raise checks.InputError(
      f"{', '.join(surplus)} beside --config, expected the file to say all; remove them"
    )
  from prompt_tuning import recycle_batch, recycle_config, recycle_results

  experiment = recycle_config.read(given["config"])
  if given["recycle"] is not False:
    for line in recycle_batch.recycle_all(experiment):
      print(line)
    print(recycle_batch.write_arguments(experiment))
  for path in recycle_results.write(experiment):
    print(path)
  return 0


def _words(given: dict[str, Any]) -> Any:
  from prompt_tuning import word_pairs
  from prompt_tuning.data import vocabularies

  vocabulary = vocabularies.named(given["vocabulary"])
  chosen = {**_given(given, _WORDS), "vocabulary": vocabulary}
  if given["text"] is None:
    return word_pairs.Words(**chosen)
  surplus = [f"--{name}" for name in _given(given, _WORDS[:-1])]
  if surplus:
    raise checks.InputError(
      f"{', '.join(surplus)} beside --text, expected one choice of tokens; remove one"
    )
  return word_pairs.Text(text=given["text"], vocabulary=vocabulary)


def _recycler(given: dict[str, Any]) -> Any:
  from prompt_tuning.methods import recycling

  settings = _given(given, _NETWORK)
  name = given["recycler"] or "v2v-nn"
  checks.choice("recycler", name, list(recycling.RECYCLERS))
  if settings and name != "v2v-nn":
    raise checks.InputError(
      f"--{', --'.join(settings)} beside --recycler {name}, which has none of them; "
      "remove them, or choose v2v-nn"
    )
  return recycling.RECYCLERS[name](**settings)


def _given(given: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
  return {name: given[name] for name in names if given[name] is not None}


def _parser(command: str) -> flags.Parser:
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Turns a prompt of one model into one of another with the same vocabulary, "
    "without training, by what the embeddings of words say (Lester et al. 2022).",
    epilog="a line that works as pasted, with a trained prompt (onto its own model, so it "
    "comes back):\n"
    "  prompt-tuning recycle --source_model=package://assets/t5_1_1_reviews \\\n"
    "    --target_model=package://assets/t5_1_1_reviews --recycler=v2v-lin \\\n"
    "    --num_words=1500 --prompt_path=runs/movies/prompt.safetensors \\\n"
    "    --output_path=runs/recycled.safetensors",
  )
  add = parser.add_argument
  for name, text in _PATHS.items():
    add(f"--{name}", metavar="PATH", help=text)
  add("--recycler", metavar="v2v-nn|v2v-lin|lin-comb", help="how (default v2v-nn)")
  add("--num_words", type=int, help="words to learn from (default 4000)")
  add("--word_offset", type=int, help="most frequent words left out (default 1000)")
  add(
    "--filtered_word",
    metavar="FILE",
    help='the words, as JSON {"id": "text"} (default: whole words of the vocabulary)',
  )
  add("--text", help="learn from the pieces of this text instead of words")
  add(
    "--vocabulary",
    metavar="FILE",
    help="SentencePiece model, tokenizer or 'bytes' (default: that of the models)",
  )
  add("--hidden_scale", type=int, help="of v2v-nn: hidden units per output (default 4)")
  add("--batch_size", type=int, help="of v2v-nn: words of a step (default 50)")
  add("--learning_rate", type=float, help="of v2v-nn: Adam's (default 0.0003)")
  add("--epochs", type=int, help="of v2v-nn: passes over the words (default 25)")
  add("--seed", type=int, help="of v2v-nn: of weights and order (default 0)")
  add("--config", metavar="FILE", help="JSON file of many prompts; docs/recycling.md")
  add(
    "--recycle",
    action=argparse.BooleanOptionalAction,
    help="with --config: --no-recycle only gathers the results of evaluations",
  )
  return parser
