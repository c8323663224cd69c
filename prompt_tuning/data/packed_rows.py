"""The arrays of packed rows: examples one behind the other, each with its prompt slots.

Two examples, "a b c e -> x e" and "d e -> y z e", and a prompt of two:

  encoder_input_tokens   0 0 a b c e 0 0 d e 0 0
  encoder_prompt_slots   1 2 0 0 0 0 1 2 0 0 0 0    1 + index into the prompt
  encoder_segment_ids    1 1 1 1 1 1 2 2 2 2 0 0
  encoder_positions      0 1 2 3 4 5 0 1 2 3 0 0
  decoder_target_tokens  x e y z e 0 0 0
  decoder_input_tokens   0 x 0 y z 0 0 0
  decoder_segment_ids    1 1 2 2 2 0 0 0
  decoder_positions      0 1 0 1 2 0 0 0
  decoder_loss_weights   1 1 1 1 1 0 0 0

The slots go where an unpacked row has the prompt:

  prefix             P P a b c e
  prefix_after_bos   a P P b c e
  suffix             a b c e P P
  suffix_before_eos  a b c P P e
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Batch = dict[str, np.ndarray]

# {combine: tokens of an example -> tokens in front of the slots}
PLACES: dict[str, Callable[[int], int]] = {
  "prefix": lambda tokens: 0,
  "prefix_after_bos": lambda tokens: min(1, tokens),
  "suffix": lambda tokens: tokens,
  "suffix_before_eos": lambda tokens: max(0, tokens - 1),
}


class Example(NamedTuple):
  """What goes into a row: two [length] int32 arrays without padding; both may be empty."""

  inputs: np.ndarray
  targets: np.ndarray


def arrays(
  rows: Sequence[Sequence[Example]],
  shape: tuple[int, int, int],
  prompt_len: int,
  combine: str,
) -> Batch:
  """Lays examples out.

  Args:
    rows: The examples of each row, which fit into it; segments are numbered from 1.
    shape: Rows, encoder places and decoder places; rows beyond the given are padding.
    prompt_len: Slots of each example.
    combine: Where they go, one of `PLACES`.

  Returns:
    The nine arrays of the picture, [rows, places] int32; without `encoder_prompt_slots`
    where `prompt_len` is 0.
  """
  count, encoder_len, decoder_len = shape
  encoder = {
    f"encoder_{name}": np.zeros((count, encoder_len), np.int32)
    for name in ("input_tokens", "segment_ids", "positions", "prompt_slots")
  }
  decoder = {
    f"decoder_{name}": np.zeros((count, decoder_len), np.int32)
    for name in ("input_tokens", "target_tokens", "segment_ids", "positions")
  }
  for row, examples in enumerate(rows):
    _encoder_row([a[row] for a in encoder.values()], examples, prompt_len, PLACES[combine])
    _decoder_row([a[row] for a in decoder.values()], examples)
  if not prompt_len:
    del encoder["encoder_prompt_slots"]
  weights = (decoder["decoder_target_tokens"] != 0).astype(np.int32)
  return {**encoder, **decoder, "decoder_loss_weights": weights}


def _encoder_row(
  places: Sequence[np.ndarray],
  examples: Sequence[Example],
  prompt_len: int,
  in_front: Callable[[int], int],
) -> None:
  tokens, segment_ids, positions, slots = places
  count, begin = np.arange(len(tokens) + 1, dtype=np.int32), 0
  for number, (inputs, _) in enumerate(examples, 1):
    first = begin + in_front(len(inputs))
    last, end = first + prompt_len, begin + len(inputs) + prompt_len
    tokens[begin:first] = inputs[: first - begin]
    slots[first:last] = count[1 : prompt_len + 1]
    tokens[last:end] = inputs[first - begin :]
    segment_ids[begin:end] = number
    positions[begin:end] = count[: end - begin]
    begin = end


def _decoder_row(places: Sequence[np.ndarray], examples: Sequence[Example]) -> None:
  inputs, tokens, segment_ids, positions = places
  count, begin = np.arange(len(tokens), dtype=np.int32), 0
  for number, (_, targets) in enumerate(examples, 1):
    end = begin + len(targets)
    tokens[begin:end] = targets
    inputs[begin + 1 : end] = targets[:-1]
    segment_ids[begin:end] = number
    positions[begin:end] = count[: len(targets)]
    begin = end
