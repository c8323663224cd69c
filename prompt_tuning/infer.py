"""Inference: a trained prompt over a split, one JSON line per example.

INFER_OUTPUT_DIR/<task>-<mode>.jsonl-00000-of-00001     one for each task of a mixture
"""

import dataclasses
import json
import sys
from typing import Any

import numpy as np
from etils import epath

from prompt_tuning import checks, distributed, files
from prompt_tuning import prediction as predictions
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data import quiet
from prompt_tuning.data.dataset_config import DatasetConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.eval import Ready, prepare
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.progress import Progress
from prompt_tuning.prompts.start import Prompt, TaskPrompts

MODES = ("predict", "predict_with_aux", "score")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferConfig:
  """One pass over a split.

  Attributes:
    mode: "predict" writes answers, "predict_with_aux" their scores too (all of them, best
      last, with `return_all_decodes`), "score" the log-likelihood of the targets.
    model: Shape of the frozen model.
    vocabulary: Its vocabulary.
    checkpoint: Its weights.
    prompt: The prompt, started from its file, or one for each task.
    dataset: What is read.
    prediction: How the model answers.
    partitioner: Which devices.
    output_dir: Where the file is written.
  """

  mode: str = "predict"
  model: ModelConfig
  vocabulary: Vocabulary
  checkpoint: RestoreCheckpointConfig
  prompt: Prompt | TaskPrompts
  dataset: DatasetConfig
  prediction: predictions.Prediction = predictions.Prediction()
  partitioner: Partitioner = Partitioner()
  output_dir: str

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.partitioner.check()
    checks.choice("mode", self.mode, MODES)


def infer(config: InferConfig, config_text: str = "") -> list[str]:
  """Writes one line per example, in the order of the split; a file for each task.

  Args:
    config: The pass.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    Paths of the files.

  Raises:
    InputError: Something given cannot be used.
  """
  folder = files.output_folder(config.output_dir, "INFER_OUTPUT_DIR")
  ready = prepare(config)
  quiet.import_seqio()
  from prompt_tuning.data import registry

  provider = registry.find(config.dataset, config.vocabulary)
  tasks = registry.tasks_with_split(provider, config.dataset.split)
  names = [task.name for task in tasks]
  config.prediction.check(names, config.vocabulary)
  if isinstance(config.prompt, TaskPrompts):
    config.prompt.check(names)
  if distributed.is_first():
    (folder / "config.gin").write_text(config_text)
  return [_written(ready, config, task, folder) for task in tasks]


def _written(ready: Ready, config: InferConfig, task: Any, folder: epath.Path) -> str:
  """Writes the file of one task and returns its path."""
  from prompt_tuning.data import batches

  examples, dataset = batches.inference_examples(config.dataset, task)
  size = config.dataset.batch_size
  bar = Progress("infer", -(-len(examples) // size), rows=size)
  rows = [""] * len(examples)
  for number, (batch, indices) in enumerate(batches.batches_by_length(dataset, size)):
    outputs = _outputs(ready, config, task.name, batch)
    for i, output in zip(indices, outputs[: len(indices)], strict=True):
      rows[i] = _line(examples[i], output)
    bar.update(number + 1)
  bar.close()
  path = folder / f"{task.name}-{config.mode}.jsonl-00000-of-00001"
  if distributed.is_first():
    files.write_atomically(path, "".join(rows).encode())
  return str(path)


def _outputs(
  ready: Ready, config: InferConfig, task: str, batch: Any
) -> list[dict[str, Any]]:
  if config.mode == "score":
    scores = ready.answers.score(ready.params, batch, task)
    return [{"score": float(score)} for score in scores]
  tokens, scores = ready.answers.all_answers(ready.params, batch, task)
  decode = config.vocabulary.load().decode
  texts = [[decode([int(t) for t in one]) for one in row] for row in tokens]
  if config.mode == "predict":
    return [{"prediction": row[-1]} for row in texts]
  found = zip(texts, np.asarray(scores).tolist(), strict=True)
  if config.prediction.return_all_decodes:
    return [{"prediction": row, "aux": {"scores": values}} for row, values in found]
  return [{"prediction": row[-1], "aux": {"scores": values[-1]}} for row, values in found]


def _line(example: dict[str, Any], output: dict[str, Any]) -> str:
  """One row in T5X's form: the pretokenized fields, then the output."""
  inputs = {
    name: _text(value)
    for name, value in example.items()
    if name.endswith("_pretokenized") and np.asarray(value).dtype.kind in "SO"
  }
  return json.dumps({"inputs": inputs, **output}, ensure_ascii=False) + "\n"


def _text(value: bytes | np.ndarray) -> str | list[str]:
  """A text, or the texts of all candidates."""
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  return [one.decode("utf-8", "replace") for one in value]


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["infer", *sys.argv[1:]]))
