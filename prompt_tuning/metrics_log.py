"""Where a run's numbers go: `metrics.jsonl` and TensorBoard, without TensorFlow.

In a run of several processes the first one writes.
"""

import json
import time
from collections.abc import Mapping

from etils import epath

from prompt_tuning import distributed, files


class MetricsLog:
  """Appends rows of numbers to a run's folder.

  A row is {"step": ..., "name": value, ...}.

  Args:
    folder: MODEL_DIR.
    first_step: The step the run continues from.
  """

  def __init__(self, folder: epath.Path, first_step: int):
    self._board: _Board | None = None
    if not distributed.is_first():
      return
    self._path = folder / "metrics.jsonl"
    trim(self._path, first_step)
    self._board = _Board(folder / "train", first_step + 1)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds one row."""
    if self._board is None:
      return
    row = {"step": step, **{name: float(value) for name, value in values.items()}}
    with self._path.open("a") as sink:
      sink.write(json.dumps(row) + "\n")
    self._board.write(step, values)

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, *_: object) -> None:
    """Flushes TensorBoard."""
    if self._board is not None:
      self._board.close()


class MetricsLogs:
  """Several logs as one: "name/loss" goes to the log of `name` as "loss".

  Args:
    folders: {name: folder}.
    first_step: See `MetricsLog`.
  """

  def __init__(self, folders: Mapping[str, epath.Path], first_step: int):
    self._logs = {n: MetricsLog(folder, first_step) for n, folder in folders.items()}

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds one row to each log that has values."""
    rows: dict[str, dict[str, float]] = {}
    for key, value in values.items():
      name, _, rest = key.partition("/")
      rows.setdefault(name, {})[rest] = value
    for name, row in rows.items():
      self._logs[name].write(step, row)

  def __enter__(self) -> "MetricsLogs":
    return self

  def __exit__(self, *_: object) -> None:
    """Ends all of them."""
    for log in self._logs.values():
      log.__exit__()


class _Board:
  """An events file of TensorBoard, written at once.

  tensorboardX's own `SummaryWriter` writes in a thread, which a full disk ends without a
  word; whoever adds to its queue then waits for ever.
  """

  def __init__(self, folder: epath.Path, first_step: int):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    self._writer = EventsWriter(str(folder / "events"))
    # TensorBoard hides what an interrupted process wrote from this step on.
    start = SessionLog(status=SessionLog.START)
    self._writer.write_event(Event(step=first_step, session_log=start))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the values of a step."""
    from tensorboardX import summary
    from tensorboardX.proto.event_pb2 import Event

    for name, value in values.items():
      scalar = summary.scalar(name, float(value))
      self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar))

  def close(self) -> None:
    """Writes what is buffered."""
    self._writer.close()


def read(path: epath.Path) -> list[dict]:
  """The rows of a `metrics.jsonl`; a last line cut short by a crash is ignored."""
  rows = []
  for line in path.read_text().splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return rows


def trim(path: epath.Path, last_step: int) -> None:
  """Drops the rows after `last_step`, which an interrupted process left behind.

  The run that continues from `last_step` writes them again, so each stands there once.
  """
  if path.exists():
    kept = [json.dumps(row) + "\n" for row in read(path) if row["step"] <= last_step]
    files.write_atomically(path, "".join(kept).encode())
