"""The training step of transformers and peft in a process of its own; see `worker`.

The same architecture, texts and prompt lengths as in `ours`, random weights, PyTorch's
Adafactor over the prompt:

  peft 100   prompt of 100, 16 examples padded to the longest of them
  peft 20    prompt of 20
  equal      prompt of 100, 8 examples of 128 random tokens
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

import worker

if __name__ == "__main__":
  worker.on_two_cores()

import mixture
import peft
import torch
import transformers

Batch = dict[str, torch.Tensor]
_IGNORED = -100  # a label without a loss


def model() -> transformers.T5ForConditionalGeneration:
  """T5 1.1 small, float32."""
  torch.manual_seed(0)
  config = transformers.T5Config(
    vocab_size=32128,
    d_model=512,
    d_kv=64,
    d_ff=1024,
    num_layers=8,
    num_decoder_layers=8,
    num_heads=6,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    dropout_rate=0.0,
    decoder_start_token_id=0,
    use_cache=False,
  )
  return transformers.T5ForConditionalGeneration(config).train()


def padded(examples: Iterator[mixture.Example], rows: int) -> Iterator[Batch]:
  """Batches padded to their longest examples."""
  while some := list(itertools.islice(examples, rows)):
    inputs = _tensor([e.inputs for e in some], 0)
    mask, labels = (inputs > 0).long(), _tensor([e.targets for e in some], _IGNORED)
    yield {"input_ids": inputs, "attention_mask": mask, "labels": labels}


def _tensor(rows: list[list[int]], padding: int) -> torch.Tensor:
  found = torch.full((len(rows), max(map(len, rows))), padding)
  for i, row in enumerate(rows):
    found[i, : len(row)] = torch.tensor(row)
  return found


def equal() -> Iterator[Batch]:
  """8 random examples a batch, without padding."""
  draw = torch.Generator().manual_seed(0)

  def tokens(length: int) -> torch.Tensor:
    return torch.randint(3, 32000, (8, length), generator=draw)

  while True:
    mask = torch.ones(8, 128, dtype=torch.long)
    yield {"input_ids": tokens(128), "attention_mask": mask, "labels": tokens(16)}


class Contestant:
  """A prompt that learns from batches."""

  def __init__(self, prompt_len: int, batches: Iterator[Batch]):
    config = peft.PromptTuningConfig(
      task_type=peft.TaskType.SEQ_2_SEQ_LM,
      num_virtual_tokens=prompt_len,
      num_transformer_submodules=1,
    )
    self._model, self._batches = peft.get_peft_model(model(), config), batches
    learned = [p for p in self._model.parameters() if p.requires_grad]
    self._optimizer = torch.optim.Adafactor(learned, lr=0.3)
    self._prompt_len = prompt_len

  def __call__(self) -> worker.Answer:
    """One step."""
    began = time.perf_counter()
    batch = next(self._batches)
    waiting = time.perf_counter() - began
    self._model(**batch).loss.backward()
    self._optimizer.step()
    self._optimizer.zero_grad()
    rows, length = batch["input_ids"].shape
    return {
      "seconds": time.perf_counter() - began,
      "waiting": waiting,
      "examples": rows,
      "places": rows * (length + self._prompt_len),
    }


def contestant(case: str, vocabulary: str) -> Contestant:
  """That of a case."""
  if case == "equal":
    return Contestant(100, equal())
  examples = mixture.stream(mixture.examples(vocabulary))
  return Contestant(int(case.removeprefix("peft ")), padded(examples, 16))


def main() -> None:
  """Answers."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--vocabulary", default="")
  parser.add_argument("cases", nargs="+")
  given = parser.parse_args()
  torch.set_num_threads(worker.CORES)
  deeds: dict[str, Callable[[], worker.Answer]] = {
    case: contestant(case, given.vocabulary) for case in given.cases
  }
  worker.answer(deeds | {"memory": worker.memory})


if __name__ == "__main__":
  main()
