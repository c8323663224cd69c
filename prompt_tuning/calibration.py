"""Learning rate and start of a prompt, in proportion to the embeddings of its model.

A prompt lives among the embeddings, and Adafactor's steps are as large as the rate says,
whatever the gradient. T5's embeddings have a root mean square (RMS) of 1 to 10, those of
Llama and its like 0.01 to 0.15, so that the paper's rate of 0.3 belongs to the first only.
"""

import math

import numpy as np

from prompt_tuning import formats, trees, word_pairs
from prompt_tuning.types import ArrayLike


def rms(array: ArrayLike) -> float:
  """The root mean square of all numbers of an array."""
  return float(np.sqrt(np.mean(np.square(trees.to_host(array), dtype=np.float64))))


def learning_rate(path: str, share: float = 0.25) -> float:
  """A learning rate for prompts of a model.

  Args:
    path: The model's checkpoint, of which the token table is read.
    share: The rate over the RMS of the table; docs/decoder_only.md has the measurements.
  """
  return share * rms(formats.load(path)[word_pairs.TABLE])


def start_scale(path: str, share: float = 1.0) -> float:
  """The `RandomUniform.scale` of prompts whose RMS is `share` times that of the table."""
  return share * math.sqrt(3.0) * rms(formats.load(path)[word_pairs.TABLE])
