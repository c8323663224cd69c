"""The metrics of tasks in TensorBoard, under T5X's tags; the package is not needed.

inference_eval/<task>/events.out.tfevents...    eval/<metric>, and examples as text
"""

import os
from collections.abc import Mapping
from typing import Any

import seqio
from seqio import loggers


class Board(loggers.Logger):
  """A seqio logger that writes numbers and texts."""

  def __call__(
    self,
    task_name: str,
    step: int | None,
    metrics: Mapping[str, seqio.metrics.MetricValue],
    dataset: Any,
    inferences: Any,
    targets: Any,
  ) -> None:
    """Adds the metrics of a step; each time a file of its own, so that none stays open."""
    del dataset, inferences, targets
    from tensorboardX import SummaryWriter

    folder = os.path.join(self.output_dir, task_name)
    # Files are named by the second; two steps may fall into one.
    with SummaryWriter(folder, filename_suffix=f".{step}") as board:
      for name, value in metrics.items():
        if isinstance(value, seqio.metrics.Scalar):
          board.add_scalar(f"eval/{name}", value.value, step)
        elif isinstance(value, seqio.metrics.Text):
          board.add_text(f"eval/{name}", value.textdata, step)
