"""The training step of transformers and peft for SmolLM2, in a process; see `worker`.

  peft 10    prompt of 10, examples padded to the longest of a batch
  peft 50    prompt of 50

The same weights and texts as in `decoder_ours`, PyTorch's Adafactor over the prompt.
"""

import argparse
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


def padded(
  examples: Iterator[review_tokens.Example], count: int, device: str
) -> Iterator[Batch]:
  """Batches padded to their longest examples, with a loss on targets only."""
  while True:
    some = [next(examples) for _ in range(count)]
    longest = max(len(e.inputs) + len(e.targets) for e in some)
    ids = torch.zeros((count, longest), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, _IGNORED)
    for i, (inputs, targets) in enumerate(some):
      end = len(inputs) + len(targets)
      ids[i, :end] = torch.tensor([*inputs, *targets])
      mask[i, :end] = 1
      labels[i, len(inputs) : end] = torch.tensor(targets)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    yield {name: x.to(device) for name, x in batch.items()}


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
      "loss": loss.item(),  # waits for the device
      "seconds": time.perf_counter() - began,
      "waiting": waiting,
      "examples": len(batch["input_ids"]),
    }


def main() -> None:
  """Answers."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file")
  parser.add_argument("--texts", type=pathlib.Path, required=True)
  parser.add_argument("--dtype", default="float32", help="of weights and activations")
  parser.add_argument("--examples", type=int, default=32, help="of a batch")
  parser.add_argument("cases", nargs="+")
  given = parser.parse_args()
  torch.set_num_threads(worker.CORES)
  device = "cuda" if torch.cuda.is_available() else "cpu"

  def contestant(case: str) -> Contestant:
    model = transformers.AutoModelForCausalLM.from_pretrained(
      str(given.model.parent),
      gguf_file=given.model.name,
      dtype=getattr(torch, given.dtype),
      use_cache=False,
    )
    examples = review_tokens.read(given.texts, "theirs")
    length = int(case.removeprefix("peft "))
    batches = padded(examples, given.examples, device)
    return Contestant(model.to(device).train(), length, batches)

  deeds: dict[str, Callable[[], worker.Answer]] = {c: contestant(c) for c in given.cases}
  worker.answer(deeds | {"memory": worker.memory})


if __name__ == "__main__":
  main()
