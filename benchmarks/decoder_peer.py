"""The training step of transformers and peft for SmolLM2, in a process; see `worker`.

  peft 10    prompt of 10, examples padded to the longest of a batch
  peft 50    prompt of 50

The same weights and texts as in `decoder_ours`, PyTorch's Adafactor over the prompt.
"""

import argparse
import importlib.util
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator

import worker

if __name__ == "__main__":
  worker.on_two_cores()

import peft
import review_tokens
import torch
import transformers

Batch = dict[str, torch.Tensor]
_IGNORED = -100  # a label without a loss


def padded(examples: Iterator[review_tokens.Example]) -> Iterator[Batch]:
  """Batches padded to their longest examples, with a loss on targets only."""
  while True:
    some = list(itertools.islice(examples, review_tokens.BATCH))
    longest = max(len(e.inputs) + len(e.targets) for e in some)
    ids = torch.zeros((len(some), longest), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, _IGNORED)
    for i, (inputs, targets) in enumerate(some):
      end = len(inputs) + len(targets)
      ids[i, :end] = torch.tensor([*inputs, *targets])
      mask[i, :end] = 1
      labels[i, len(inputs) : end] = torch.tensor(targets)
    yield {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Contestant:
  """A prompt that learns from batches."""

  def __init__(self, model: torch.nn.Module, prompt_len: int, batches: Iterator[Batch]):
    config = peft.PromptTuningConfig(
      task_type=peft.TaskType.CAUSAL_LM, num_virtual_tokens=prompt_len
    )
    self._model, self._batches = peft.get_peft_model(model, config), batches
    learned = [p for p in self._model.parameters() if p.requires_grad]
    self._optimizer = torch.optim.Adafactor(learned, lr=0.0136)

  def __call__(self) -> worker.Answer:
    """One step."""
    began = time.perf_counter()
    batch = next(self._batches)
    waiting = time.perf_counter() - began
    loss = self._model(**batch).loss
    loss.backward()
    self._optimizer.step()
    self._optimizer.zero_grad()
    return {
      "loss": loss.item(),
      "seconds": time.perf_counter() - began,
      "waiting": waiting,
      "examples": len(batch["input_ids"]),
    }


def _folder(package: str) -> str:
  """Where a package lies, without its code."""
  spec = importlib.util.find_spec(package)
  assert spec is not None and spec.origin is not None
  return str(pathlib.Path(spec.origin).parent)


def main() -> None:
  """Answers."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--texts", type=pathlib.Path, required=True)
  parser.add_argument("cases", nargs="+")
  given = parser.parse_args()
  torch.set_num_threads(worker.CORES)

  def contestant(case: str) -> Contestant:
    package, file = review_tokens.MODEL.removeprefix("package://").split("/")
    model = transformers.AutoModelForCausalLM.from_pretrained(
      _folder(package), gguf_file=file, dtype=torch.float32, use_cache=False
    )
    batches = padded(review_tokens.read(given.texts, "theirs"))
    return Contestant(model.train(), int(case.removeprefix("peft ")), batches)

  deeds: dict[str, Callable[[], worker.Answer]] = {c: contestant(c) for c in given.cases}
  worker.answer(deeds | {"memory": worker.memory})


if __name__ == "__main__":
  main()
