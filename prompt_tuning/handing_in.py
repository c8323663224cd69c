"""Writing the answers to benchmark tasks as their leaderboards take them."""

import sys
from collections.abc import Mapping

from etils import epath

from prompt_tuning import files


def write(
  answered: Mapping[str, tuple[list, list]],
  datasets: Mapping[str, str | None],
  folder: epath.Path,
) -> list[str]:
  """Writes a file for each task that a leaderboard asks for; returns their paths.

  Args:
    answered: {task: (examples, an answer for each)}.
    datasets: {task: its dataset in TFDS}.
    folder: Where they go.
  """
  from prompt_tuning.data import submissions

  written = []
  for task, (examples, texts) in answered.items():
    dataset = datasets[task]
    if not dataset or not texts:
      continue
    file = submissions.of(task, dataset, examples, texts)
    if file is None:
      continue
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(folder / file.name, file.content.encode())
    written.append(str(folder / file.name))
    if file.unreadable:
      print(
        f"{task}: {file.unreadable} of {len(texts)} answers are none of the label words; "
        f"in {file.name} the first word stands for them",
        file=sys.stderr,
      )
  return written
