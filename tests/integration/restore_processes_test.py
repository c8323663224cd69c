"""Two real processes restore one checkpoint; each reads its own half and nothing else."""

import json
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath

from prompt_tuning import trees
from prompt_tuning.checkpoints import t5x
from prompt_tuning.models.t5 import T5

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

folder, port, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
from prompt_tuning import formats
from prompt_tuning.checkpoints.restore import restore

class Recording:
  def __init__(self, leaf):
    self.leaf, self.shape, self.dtype, self.boxes = leaf, leaf.shape, leaf.dtype, []
  def read(self, index=None, dtype=None):
    self.boxes.append([[part.start, part.stop] for part in index])
    return self.leaf.read(index, dtype)

checkpoint = formats.load(folder)
checkpoint.leaves = {name: Recording(leaf) for name, leaf in checkpoint.leaves.items()}
mesh = jax.make_mesh((8,), ("model",))
rows = NamedSharding(mesh, PartitionSpec("model"))
whole = NamedSharding(mesh, PartitionSpec())
tables = ("token_embedder/embedding", "decoder/logits_dense/kernel")
found = restore(
  checkpoint, checkpoint.shapes, sharding=lambda name: rows if name in tables else whole
)
shards = [
  [[part.indices(size)[:2] for part, size in zip(shard.index, array.shape)],
   np.asarray(shard.data).tolist()]
  for name in tables for array in [found[name]] for shard in array.addressable_shards
]
boxes = {name: leaf.boxes for name, leaf in checkpoint.leaves.items()}
print(json.dumps({"shards": shards, "boxes": boxes}))
"""


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def test_each_process_reads_only_what_its_devices_hold(tmp_path, tiny_config):
  params = trees.values(T5.random(tiny_config, jax.random.key(0)))
  t5x.save(epath.Path(tmp_path), params, 3)
  port = str(free_port())
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM, str(tmp_path), port, str(index)],
      cwd=pathlib.Path(__file__).parents[2],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  results = []
  for process in processes:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    results.append(json.loads(out.splitlines()[-1]))
  for index, result in enumerate(results):
    tables = [params["token_embedder/embedding"], params["decoder/logits_dense/kernel"]]
    halves = [
      [[32 * index, 32 * index + 32], [0, 16]],
      [[8 * index, 8 * index + 8], [0, 64]],
    ]
    names = ("token_embedder/embedding", "decoder/logits_dense/kernel")
    for name, half in zip(names, halves, strict=True):
      assert result["boxes"][name] == [half]
    assert all(len(boxes) == 1 for boxes in result["boxes"].values())
    assert len(result["shards"]) == 8
    for number, (bounds, values) in enumerate(result["shards"]):
      box = tuple(slice(*span) for span in bounds)
      np.testing.assert_array_equal(values, np.asarray(tables[number // 4])[box])
