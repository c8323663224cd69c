"""Leaves: a box of a leaf is that box of the whole, however the leaf is wrapped."""

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from prompt_tuning.checkpoints import leaves, safetensors_files, t5x
from prompt_tuning.checkpoints.leaves import Bits, Cast, Inline, Layer, Scaled, Transposed

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(5, 7)).astype(np.float32)
STACK = RNG.normal(size=(4, 3, 6)).astype(np.float32)
PATTERNS = RNG.integers(0, 0x3F80, (6, 3)).astype(np.uint16)  # from 0 to 1

WRAPPED = {
  "inline": Inline(STACK),
  "a scalar": Inline(np.float32(3)),
  "transposed": Transposed(Inline(MATRIX)),
  "a transposed vector": Transposed(Inline(MATRIX[0])),
  "a layer": Layer(Inline(STACK), 2),
  "a layer of vectors": Layer(Inline(MATRIX), 6),
  "bits": Bits(Inline(PATTERNS)),
  "scaled": Scaled(Inline(MATRIX), 0.25),
  "cast": Cast(Inline(MATRIX), BFLOAT16),
  "a transposed layer": Transposed(Layer(Inline(STACK), 0)),
  "a layer of bits": Layer(Bits(Inline(PATTERNS)), 1),
  "all of them, cast": Cast(
    Scaled(Transposed(Bits(Inline(PATTERNS))), 3.0), np.dtype(np.float16)
  ),
}


def boxes(shape):
  """The whole, an empty box, and random ones."""
  rng = np.random.default_rng(1)
  yield leaves.whole(shape)
  yield tuple(slice(0, 0) for _ in shape)
  for _ in range(12):
    bounds = [sorted(rng.integers(0, size + 1, 2).tolist()) for size in shape]
    yield tuple(slice(*pair) for pair in bounds)


def assert_boxes_are_of_the_whole(leaf):
  everything = leaf.read()
  assert everything.shape == tuple(leaf.shape) and everything.dtype == leaf.dtype
  for box in boxes(leaf.shape):
    found = leaf.read(box)
    assert found.dtype == leaf.dtype
    np.testing.assert_array_equal(found, everything[box])


def assert_casts_on_the_way(leaf):
  everything = leaf.read()
  for kind in (np.dtype(np.float32), np.dtype(np.float16), BFLOAT16):
    for box in (None, *boxes(leaf.shape)):
      found = leaf.read(box, kind)
      assert found.dtype == kind
      np.testing.assert_array_equal(found, everything[box or ...].astype(kind))


@pytest.mark.parametrize("leaf", WRAPPED.values(), ids=WRAPPED)
def test_a_box_is_that_box_of_the_whole(leaf):
  assert_boxes_are_of_the_whole(leaf)


@pytest.mark.parametrize("name", [name for name in WRAPPED if "cast" not in name])
def test_a_dtype_on_the_way_is_a_cast_of_what_is_there(name):
  assert_casts_on_the_way(WRAPPED[name])


@pytest.mark.parametrize("wrap", [lambda x: x, Transposed, lambda x: Scaled(x, 2.0)])
def test_a_box_of_a_file_is_that_box_of_the_whole(tmp_path, wrap):
  t5x.save(epath.Path(tmp_path), {"a": MATRIX}, 0)
  safetensors.numpy.save_file({"a": MATRIX}, tmp_path / "x.safetensors")
  opened = safetensors_files.read(epath.Path(tmp_path / "x.safetensors"))
  for leaf in (t5x.load(str(tmp_path)).leaves["a"], opened.leaves["a"]):
    assert_boxes_are_of_the_whole(wrap(leaf))
    assert_casts_on_the_way(wrap(leaf))
    np.testing.assert_array_equal(wrap(leaf).read(), wrap(Inline(MATRIX)).read())


def test_each_wrapper_means_what_it_says():
  np.testing.assert_array_equal(Transposed(Inline(MATRIX)).read(), MATRIX.T)
  np.testing.assert_array_equal(Layer(Inline(STACK), 2).read(), STACK[:, 2])
  np.testing.assert_array_equal(Bits(Inline(PATTERNS)).read(), PATTERNS.view(BFLOAT16))
  np.testing.assert_array_equal(Scaled(Inline(MATRIX), 0.25).read(), MATRIX / 4)
  np.testing.assert_array_equal(
    Cast(Inline(MATRIX), BFLOAT16).read(), MATRIX.astype(BFLOAT16)
  )


def test_scaling_half_precision_happens_in_float32():
  half = MATRIX.astype(BFLOAT16)
  found = Scaled(Inline(half), 1 / 3).read()
  np.testing.assert_array_equal(found, half.astype(np.float32) * np.float32(1 / 3))


def test_only_16_bit_patterns_are_read_as_bfloat16():
  assert leaves.as_stored(Inline(PATTERNS)).dtype == BFLOAT16
  for kind in (np.float16, np.int16, np.uint8, np.float32):
    leaf = Inline(np.zeros(2, kind))
    assert leaves.as_stored(leaf) is leaf


def test_bytes_and_bounds_are_spelled_out():
  assert leaves.nbytes(Cast(Inline(STACK), BFLOAT16)) == STACK.size * 2
  assert leaves.nbytes(Inline(np.float64(1))) == 8
  box = (slice(None), slice(2, None), slice(None, 99))
  assert leaves.bounded(box, (4, 3, 6)) == (slice(0, 4), slice(2, 3), slice(0, 6))
  assert leaves.whole((2, 3)) == (slice(0, 2), slice(0, 3))
