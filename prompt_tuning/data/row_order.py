"""The order of rows that are in memory: shuffled before they enter a pipeline."""

from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf

Row = TypeVar("Row")


def shuffled(rows: Sequence[Row], seed: int | None) -> list[Row]:
  """All rows in an order by seed.

  The pipeline of a task shuffles once more, but through a small buffer. A buffer for all
  rows would be part of every saved position of the pipeline; an order known beforehand
  is not.
  """
  order = tf.data.Dataset.range(len(rows)).shuffle(
    len(rows), seed=seed, reshuffle_each_iteration=False
  )
  places = order.batch(len(rows)).get_single_element().numpy()
  return [rows[place] for place in places]
