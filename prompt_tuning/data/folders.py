"""Where datasets lie on this machine."""

import sys
from collections.abc import Sequence

from prompt_tuning.data import quiet


def use(tfds_data_dir: str | None, cache_dirs: Sequence[str]) -> None:
  """Hands the folders to seqio, which is imported only when there is one.

  Args:
    tfds_data_dir: Where TFDS datasets lie, or None for its default.
    cache_dirs: Where seqio's offline caches lie.
  """
  if not (tfds_data_dir or cache_dirs or sys.modules.get("seqio")):
    return
  quiet.import_seqio()
  import seqio

  seqio.set_tfds_data_dir_override(tfds_data_dir)
  for task in map(seqio.TaskRegistry.get, seqio.TaskRegistry.names()):
    if isinstance(task.source, seqio.TfdsDataSource):  # it keeps the first it was given
      task.source.tfds_dataset.override_data_dir(tfds_data_dir)
  seqio.add_global_cache_dirs(list(cache_dirs))
