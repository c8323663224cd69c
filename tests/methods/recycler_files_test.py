"""Saved recyclers: the same after reading, Flax can read them, nothing else is believed."""

import numpy as np
import pytest
from etils import epath
from flax import serialization

from prompt_tuning import checks
from prompt_tuning.methods import recycler_files
from prompt_tuning.methods.recycling import Combination, Linear
from prompt_tuning.methods.recycling_network import Network

RNG = np.random.default_rng(0)
SOURCE = RNG.normal(size=(60, 8)).astype(np.float32)
TARGET = RNG.normal(size=(60, 6)).astype(np.float32)
PROMPT = RNG.normal(size=(5, 8)).astype(np.float32)
BOTH = [Linear(), Network(epochs=1)]


@pytest.fixture
def path(tmp_path):
  return epath.Path(tmp_path / "learned-recyclers" / "a_to_b")


@pytest.mark.parametrize("recycler", BOTH)
def test_what_is_read_does_what_was_saved(path, recycler):
  mapping = recycler.fit(SOURCE, TARGET)
  recycler_files.save(path, mapping)
  found = recycler_files.load(path, 8, 6)
  assert type(found) is type(mapping)
  np.testing.assert_allclose(found(PROMPT), mapping(PROMPT), atol=1e-6)


def test_they_are_the_original_s_files(path):
  matrix = Linear().fit(SOURCE, TARGET)
  recycler_files.save(path, matrix)
  np.testing.assert_allclose(np.load(path), matrix.matrix, atol=1e-6)
  perceptron = Network(epochs=1).fit(SOURCE, TARGET)
  recycler_files.save(path, perceptron)
  tree = serialization.msgpack_restore(path.read_bytes())
  assert tree.keys() == {"params"} and tree["params"].keys() == {"Dense_0", "Dense_1"}
  kernel = perceptron.params["Dense_0"]["kernel"]
  np.testing.assert_array_equal(tree["params"]["Dense_0"]["kernel"], kernel)


def test_a_combination_leaves_no_file(path):
  recycler_files.save(path, Combination().fit(SOURCE, TARGET))
  assert not path.exists()


@pytest.mark.parametrize("recycler", BOTH)
def test_one_of_other_models_is_refused(path, recycler):
  recycler_files.save(path, recycler.fit(SOURCE, TARGET))
  for widths in ((8, 7), (9, 6)):
    with pytest.raises(checks.InputError, match="other models: set clobber, or remove it"):
      recycler_files.load(path, *widths)


def damaged():
  perceptron = Network(epochs=1).fit(SOURCE, TARGET)
  params = {name: dict(layer) for name, layer in perceptron.params.items()}
  good = serialization.msgpack_serialize({"params": params})
  yield "cut", good[:-20]
  yield "empty", b""
  yield "text", b"a recycler"
  del params["Dense_1"]["bias"]
  yield "a leaf is missing", serialization.msgpack_serialize({"params": params})
  params["Dense_1"]["bias"] = np.full(6, np.nan, np.float32)
  yield "not finite", serialization.msgpack_serialize({"params": params})
  yield "no tree", serialization.msgpack_serialize({"params": 3})


@pytest.mark.parametrize("content", [pytest.param(c, id=name) for name, c in damaged()])
def test_a_damaged_file_is_refused(path, content):
  path.parent.mkdir()
  path.write_bytes(content)
  with pytest.raises(checks.InputError, match="cannot be read"):
    recycler_files.load(path, 8, 6)


def test_pickled_objects_are_refused(path):
  path.parent.mkdir()
  with path.open("wb") as sink:
    np.save(sink, np.array([{}], object), allow_pickle=True)
  with pytest.raises(checks.InputError, match="pickled objects, which are never loaded"):
    recycler_files.load(path, 8, 6)
