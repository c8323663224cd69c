"""The rows of the fixture `batch`, packed by hand."""

import numpy as np

LENGTHS = [(10, 5), (7, 3), (4, 2), (1, 1)]  # of the fixture `batch`
ROWS = [[0, 2], [1, 3]]  # which examples share a row


def slots_of(length, prompt_len, how):
  """The prompt's places (1, 2, ...) among `length` tokens (0)."""
  at = {"prefix": 0, "suffix": length, "suffix_before_eos": max(length - 1, 0)}[how]
  return [0] * at + list(range(1, prompt_len + 1)) + [0] * (length - at)


def packed(batch, prompt_len, how, width=26, target_width=8):
  """The rows of `ROWS`, packed by hand."""
  names = ("input_tokens", "segment_ids", "prompt_slots")
  rows = {f"encoder_{name}": np.zeros((2, width), np.int32) for name in names}
  for name in ("input_tokens", "target_tokens", "segment_ids", "loss_weights"):
    rows[f"decoder_{name}"] = np.zeros((2, target_width), np.int32)
  for row, examples in enumerate(ROWS):
    at = to = 0
    for segment, example in enumerate(examples, 1):
      length, targets = LENGTHS[example]
      slots = np.array(slots_of(length, prompt_len, how), np.int32)
      place = slice(at, at + len(slots))
      tokens = np.zeros(len(slots), np.int32)
      tokens[slots == 0] = batch["encoder_input_tokens"][example, :length]
      rows["encoder_input_tokens"][row, place] = tokens
      rows["encoder_segment_ids"][row, place] = segment
      rows["encoder_prompt_slots"][row, place] = slots
      answer = slice(to, to + targets)
      for name in ("input_tokens", "target_tokens", "loss_weights"):
        rows[f"decoder_{name}"][row, answer] = batch[f"decoder_{name}"][example, :targets]
      rows["decoder_segment_ids"][row, answer] = segment
      at, to = at + len(slots), to + targets
  if not prompt_len:
    del rows["encoder_prompt_slots"]
  return rows


def per_example(logits):
  """[rows, target_width, vocab] of `packed` -> the real logits of each example."""
  found = {}
  for row, examples in enumerate(ROWS):
    to = 0
    for example in examples:
      found[example] = logits[row, to : to + LENGTHS[example][1]]
      to += LENGTHS[example][1]
  return found
