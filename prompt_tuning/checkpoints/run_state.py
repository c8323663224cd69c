"""The state of a run on disk: kilobytes, written atomically, read back bit for bit.

  MODEL_DIR/run_state/step_<N>.safetensors

Each file holds the leaves of a `TrainState` (tunable weights, optimizer slots, step,
PRNG key) under their tree paths and, as metadata, whatever the loop must remember. The
frozen model is never in it. A file appears under its name only when it is complete.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from prompt_tuning import checks, files
from prompt_tuning.types import PyTree

_NAME = re.compile(r"step_(\d+)\.safetensors")
_KEEP = 2  # the newest, and one behind it should the newest be lost


def steps(model_dir: epath.Path) -> list[int]:
  """Steps that were saved, in order."""
  folder = model_dir / "run_state"
  if not folder.exists():
    return []
  found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
  return sorted(int(match[1]) for match in found if match)


def save(model_dir: epath.Path, step: int, state: PyTree, memory: dict[str, Any]) -> int:
  """Writes the state after `step` updates; older files beyond two are removed.

  Args:
    model_dir: MODEL_DIR.
    step: Names the file.
    state: A pytree of arrays and PRNG keys.
    memory: JSON values that the loop wants back.

  Returns:
    Bytes written.
  """
  folder = model_dir / "run_state"
  folder.mkdir(parents=True, exist_ok=True)
  arrays = {name: _to_numpy(leaf) for name, leaf in _named(state)}
  content = safetensors.numpy.save(arrays, metadata={"memory": json.dumps(memory)})
  files.write_atomically(folder / f"step_{step}.safetensors", content)
  for old in steps(model_dir)[:-_KEEP]:
    (folder / f"step_{old}.safetensors").unlink()
  return len(content)


@dataclasses.dataclass(frozen=True)
class Saved:
  """What `save` wrote.

  Attributes:
    path: The file.
    arrays: Leaves by their tree path.
    memory: JSON values that the loop wanted back.
  """

  path: epath.Path
  arrays: dict[str, np.ndarray]
  memory: dict[str, Any]

  def onto(self, like: PyTree) -> PyTree:
    """The state in the structure of `like`.

    Raises:
      InputError: It belongs to another kind of run.
    """
    named, remedy = dict(_named(like)), "choose another MODEL_DIR"
    missing, unexpected = (
      named.keys() - self.arrays.keys(),
      self.arrays.keys() - named.keys(),
    )
    checks.names(f"the run state {self.path}", missing, unexpected, remedy)
    leaves = []
    for name, leaf in named.items():
      template = jax.random.key_data(leaf) if _is_key(leaf) else leaf
      found = self.arrays[name]
      checks.shape(f"{name} of {self.path}", found.shape, template.shape, remedy)
      array = jnp.asarray(found)
      leaves.append(jax.random.wrap_key_data(array) if _is_key(leaf) else array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load(model_dir: epath.Path, step: int) -> Saved:
  """Reads the state of one step.

  Raises:
    InputError: The file is damaged.
  """
  path = model_dir / "run_state" / f"step_{step}.safetensors"
  try:
    content = path.read_bytes()
    arrays = safetensors.numpy.load(content)
    memory = json.loads(_metadata(content)["memory"])
  except (safetensors.SafetensorError, KeyError, ValueError) as error:
    raise checks.InputError(
      f"the run state {path} cannot be read ({error}), expected a file of this program; "
      "delete it to continue from the one before, or choose another MODEL_DIR"
    ) from error
  return Saved(path, arrays, memory)


def check_identity(
  model_dir: epath.Path, before: Mapping[str, str], now: Mapping[str, str]
) -> None:
  """Raises `InputError` naming every setting that changed since the run began."""
  differing = [
    f"  {name}: {before.get(name)} before, {value} now"
    for name, value in now.items()
    if before.get(name) != value
  ]
  if differing:
    raise checks.InputError(
      f"{model_dir} holds a run with other settings, expected the same to continue it; "
      "restore them or choose another MODEL_DIR\n" + "\n".join(differing)
    )


def _named(tree: PyTree) -> list[tuple[str, Any]]:
  paths = jax.tree_util.tree_flatten_with_path(tree)[0]
  return [(jax.tree_util.keystr(path), leaf) for path, leaf in paths]


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
  return np.asarray(jax.device_get(jax.random.key_data(leaf) if _is_key(leaf) else leaf))


def _metadata(content: bytes) -> dict[str, str]:
  size = int.from_bytes(content[:8], "little")
  return json.loads(content[8 : 8 + size])["__metadata__"]
