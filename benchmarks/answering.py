r"""How fast one frozen model answers: ranking, decoding, transformers + peft, mixed tasks.

  pip install -e '.[demo,hf]'
  prompt-tuning train --gin_file=experiments/movie_reviews.gin \
    --gin.MODEL_DIR="'runs/movies'"
  python benchmarks/answering.py --prompt runs/movies --out docs/answering.json

All contestants answer the same sentences of Rotten Tomatoes with the same weights and
prompt, in float32 and batches of 32, in turns, in one process; tokenizing is included.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

import prompt_tuning as pt
from prompt_tuning import convert
from prompt_tuning.data import movie_reviews, vocabularies

MODEL = "package://assets/t5_1_1_reviews"
LABELS = ["negative", "positive"]
BATCH = 32
TASKS = 8


def predictor(prompt: np.ndarray) -> pt.Predictor:
  """The embedded model with the prompt under eight names, in eight different states."""
  config = pt.T5Config.from_gin("models/t5_1_1_reviews.gin")
  noise = np.random.default_rng(0)
  prompts = {
    f"task_{i}": prompt + 0.01 * i * noise.standard_normal(prompt.shape)
    for i in range(TASKS)
  }
  model = pt.T5(config, pt.load_checkpoint(MODEL))
  return pt.Predictor(model, prompts, max_input_len=128, max_output_len=4)


def peft_answers(prompt: str) -> Callable[[Sequence[str]], list[str]]:
  """The label as transformers generates it with the adapter of peft."""
  import peft
  import torch
  import transformers

  folder = pathlib.Path(tempfile.mkdtemp())
  base, adapter = str(folder / "base"), str(folder / "adapter")
  convert.convert(MODEL, base, "hf")
  convert.convert(prompt, adapter, "peft", convert.Options(base=base))
  torch.set_num_threads(os.cpu_count() or 1)
  # Left alone it computes in the dtype of the file, which is bfloat16.
  model = transformers.AutoModelForSeq2SeqLM.from_pretrained(base, dtype=torch.float32)
  model = peft.PeftModel.from_pretrained(model, adapter).eval()
  vocabulary = vocabularies.EMBEDDED.load()

  def answers(texts: Sequence[str]) -> list[str]:
    found: dict[int, str] = {}
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for first in range(0, len(texts), BATCH):
      which = order[first : first + BATCH]
      rows = [[*vocabulary.encode(texts[i]), 1] for i in which]
      inputs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
      for row, tokens in enumerate(rows):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
      with torch.inference_mode():
        tokens = model.generate(
          input_ids=inputs,
          attention_mask=(inputs > 0).long(),
          max_new_tokens=4,
          do_sample=False,
          num_beams=1,
        )
      for i, row in zip(which, tokens.tolist(), strict=True):
        found[i] = vocabulary.decode([token for token in row if token > 0])
    return [found[i] for i in range(len(texts))]

  return answers


def in_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict:
  """Seconds of each contestant: {name: [a number for each round]}, after a first call."""
  for run in contestants.values():
    run()
  seconds: dict[str, list[float]] = {name: [] for name in contestants}
  for number in range(rounds):
    names = list(contestants)
    for name in names if number % 2 == 0 else reversed(names):
      began = time.perf_counter()
      contestants[name]()
      seconds[name].append(time.perf_counter() - began)
  return seconds


def rates(seconds: dict[str, list[float]], examples: int) -> dict:
  """Examples per second: median, least and most of the rounds."""
  found = {}
  for name, values in seconds.items():
    each = [examples / value for value in values]
    found[name] = {
      "median": statistics.median(each),
      "least": min(each),
      "most": max(each),
    }
  return found


def ratios(seconds: dict[str, list[float]], slow: str, fast: str) -> dict:
  """How many times faster `fast` is, round by round."""
  each = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
  return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def one_task(ours: pt.Predictor, prompt: str, rounds: int) -> dict:
  """Ranking, decoding and transformers + peft on the test split."""
  texts = [text for text, _ in movie_reviews.splits()["test"]]
  peft = peft_answers(prompt)
  words = [LABELS] * len(texts)
  seconds = in_turns(
    {
      "rank": lambda: ours.rank(texts, words, "task_0"),
      "decode": lambda: ours.predict(texts, "task_0"),
      "transformers + peft": lambda: peft(texts),
    },
    rounds,
  )
  decoded = [answer.text for answer in ours.predict(texts, "task_0")]
  agree = np.mean([a == b for a, b in zip(decoded, peft(texts), strict=True)])
  return {
    "examples": len(texts),
    "examples_per_second": rates(seconds, len(texts)),
    "rank over decode": ratios(seconds, "decode", "rank"),
    "rank over transformers + peft": ratios(seconds, "transformers + peft", "rank"),
    "decode over transformers + peft": ratios(seconds, "transformers + peft", "decode"),
    "decoded answers equal to those of peft": float(agree),
  }


def many_tasks(ours: pt.Predictor, per_task: int, rounds: int) -> dict:
  """Eight tasks in mixed batches, and one after another."""
  texts = [text for text, _ in movie_reviews.splits()["test"]][: TASKS * per_task]
  names = [f"task_{i % TASKS}" for i in range(len(texts))]
  apart = [
    [text for text, name in zip(texts, names, strict=True) if name == task]
    for task in names[:TASKS]
  ]

  def one_by_one() -> list[pt.Answer]:
    return [
      answer
      for task, own in zip(names[:TASKS], apart, strict=True)
      for answer in ours.rank(own, [LABELS] * len(own), task)
    ]

  def mixed() -> list[pt.Answer]:
    return ours.rank(texts, [LABELS] * len(texts), names)

  seconds = in_turns({"mixed": mixed, "one by one": one_by_one}, rounds)
  alone, together = one_by_one(), mixed()
  order = [i for task in range(TASKS) for i in range(task, len(texts), TASKS)]
  difference = max(
    abs(alone[place].scores[k] - together[i].scores[k])
    for place, i in enumerate(order)
    for k in range(len(LABELS))
  )
  return {
    "examples": len(texts),
    "examples_per_second": rates(seconds, len(texts)),
    "mixed over one by one": ratios(seconds, "one by one", "mixed"),
    "largest difference of a score": difference,
  }


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--prompt", required=True)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--rounds", type=int, default=7)
  given = parser.parse_args()
  ours = predictor(np.asarray(pt.load_prompt(given.prompt)))
  results = {
    "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "torch", "transformers", "peft")
    },
    "rounds": given.rounds,
    "one task": one_task(ours, given.prompt, given.rounds),
    "eight tasks, 4 texts each": many_tasks(ours, 4, 3 * given.rounds),
    "eight tasks, 64 texts each": many_tasks(ours, 64, given.rounds),
  }
  given.out.write_text(json.dumps(results, indent=2) + "\n")
  print(json.dumps(results, indent=2))


if __name__ == "__main__":
  main()
