"""Fitted recyclers as files, each as the original kept it.

A matrix is the bytes of np.save, a perceptron Flax's msgpack {"params": {"Dense_0": ...}}.
What lin-comb knows are the embeddings of both models, which is nothing to save.
"""

import numpy as np
from etils import epath
from flax import serialization

from prompt_tuning import checks, files, trees
from prompt_tuning.checkpoints import msgpack_trees
from prompt_tuning.methods.recycling import Mapping, Projection
from prompt_tuning.methods.recycling_network import Perceptron

_LEAVES = [f"Dense_{n}/{leaf}" for n in (0, 1) for leaf in ("kernel", "bias")]


def save(path: epath.Path, mapping: Mapping) -> None:
  """Writes a matrix or a perceptron; makes the folder."""
  if isinstance(mapping, Projection):
    files.write_numpy(path, mapping.matrix.astype(np.float32))
  elif isinstance(mapping, Perceptron):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = serialization.msgpack_serialize({"params": mapping.params})
    files.write_atomically(path, content)


def load(path: epath.Path, inputs: int, outputs: int) -> Mapping:
  """Reads what `save`, or the original, wrote; nothing in it is ever executed.

  Args:
    path: The file.
    inputs: Width of the source model.
    outputs: Width of the target model.

  Raises:
    InputError: It is damaged, or of other models.
  """
  content = path.read_bytes()
  if content.startswith(files.NUMPY_MAGIC):
    try:
      matrix = files.parse_numpy(content)
    except (ValueError, EOFError) as error:
      raise _unusable(path, str(error)) from error
    _check(path, {"matrix": matrix}, {"matrix": (inputs, outputs)})
    return Projection(matrix)
  tree = msgpack_trees.decode(content, path)
  found = msgpack_trees.leaves(tree.get("params", tree), path, lambda *_: None)
  arrays = {name: leaf.read() for name, leaf in found.items()}
  if arrays.keys() != set(_LEAVES):
    raise _unusable(path, f"it holds {sorted(arrays)}")
  hidden = arrays["Dense_0/bias"].size
  shapes = [(inputs, hidden), (hidden,), (hidden, outputs), (outputs,)]
  _check(path, arrays, dict(zip(_LEAVES, shapes, strict=True)))
  return Perceptron(trees.unflatten(arrays))


def _check(path: epath.Path, arrays: dict, expected: dict) -> None:
  """Raises `InputError` where a shape is of other models, or a value no finite float."""
  for name, shape in expected.items():
    remedy = "it is of other models: set clobber, or remove it"
    checks.shape(f"{name} of the recycler {path}", arrays[name].shape, shape, remedy)
    if arrays[name].dtype.kind != "f" or not np.all(np.isfinite(arrays[name])):
      raise _unusable(path, f"{name} holds more than finite floats")


def _unusable(path: epath.Path, why: str) -> checks.InputError:
  return checks.InputError(
    f"the recycler {path} cannot be read: {why}; expected the matrix of v2v-lin or the "
    "layers of v2v-nn, so set clobber, or remove it"
  )
