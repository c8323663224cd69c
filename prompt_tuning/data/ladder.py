"""The few sizes to which lengths are padded, so that few shapes are compiled."""

from collections.abc import Sequence

_LEAST_INPUT_LEN = 32


def input_lens(most: int) -> list[int]:
  """The lengths of inputs: 32, 64, 128, ... tokens and `most`."""
  return ladder(_LEAST_INPUT_LEN, most, 2)


def ladder(least: int, most: int, factor: int) -> list[int]:
  """`least`, `least * factor`, ... and `most`."""
  sizes = []
  while least < most:
    sizes.append(least)
    least *= factor
  return [*sizes, most]


def fitting(size: int, sizes: Sequence[int]) -> int:
  """The smallest of `sizes`, which ascend, that holds `size`."""
  return next(each for each in sizes if each >= size)
