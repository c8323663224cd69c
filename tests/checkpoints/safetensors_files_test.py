"""safetensors: the library's files read here, ours there, and no header is believed."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from etils import epath

from prompt_tuning import checks
from prompt_tuning.checkpoints import safetensors_files
from prompt_tuning.checkpoints.leaves import Inline

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
KINDS = [
  *(np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)),
  *(np.dtype(f"float{bits}") for bits in (16, 32, 64)),
  np.dtype(bool),
  BFLOAT16,
]


def arrays_of(kind):
  """A matrix, a scalar, a vector of an odd number of bytes, and two empty arrays."""
  rng = np.random.default_rng(0)
  matrix = rng.integers(0, 2 if kind.kind == "b" else 100, (4, 3)).astype(kind)
  return {
    "matrix": matrix,
    "scalar": np.array(1, kind),
    "vector": matrix.reshape(-1)[:5].copy(),
    "empty": np.zeros((0, 3), kind),
    "empty behind": np.zeros((2, 0), kind),
  }


@pytest.fixture
def opened(tmp_path):
  """Opens bytes as a file."""

  def call(content):
    path = epath.Path(tmp_path / "x.safetensors")
    path.write_bytes(content)
    return safetensors_files.read(path)

  return call


def ours(arrays, metadata=None):
  tensors = {name: Inline(array) for name, array in arrays.items()}
  return b"".join(bytes(part) for part in safetensors_files.encoded(tensors, metadata))


def with_header(header, data=b""):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return len(text).to_bytes(8, "little") + text + data


def row(begin, end, shape=None, dtype="U8"):
  shape = [end - begin] if shape is None else shape
  return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_the_library_writes_reads_here(opened, kind):
  arrays = arrays_of(kind)
  found = opened(safetensors.numpy.save(arrays, {"who": "them"}))
  assert found.metadata == {"who": "them"} and found.leaves.keys() == arrays.keys()
  for name, array in arrays.items():
    leaf = found.leaves[name]
    assert leaf.shape == array.shape and leaf.dtype == kind
    assert leaf.read().dtype == kind
    np.testing.assert_array_equal(leaf.read(), array)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_written_here_the_library_reads(kind):
  arrays = arrays_of(kind)
  content = ours(arrays, {"who": "us"})
  found = dict(safetensors.deserialize(content))
  theirs = dict(safetensors.deserialize(safetensors.numpy.save(arrays)))
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    assert found[name]["dtype"] == theirs[name]["dtype"]
    assert tuple(found[name]["shape"]) == array.shape
    assert bytes(found[name]["data"]) == array.tobytes()


def test_metadata_and_file_reach_the_library(tmp_path):
  path = epath.Path(tmp_path / "x.safetensors")
  array = np.arange(6, dtype=np.float32).reshape(2, 3)
  written = []
  tensors = {"a": Inline(array), "b": Inline(array.T)}
  safetensors_files.write(path, tensors, {"é": "ü"}, lambda: written.append(1))
  with safetensors.safe_open(path, "numpy") as found:
    assert found.metadata() == {"é": "ü"}
    np.testing.assert_array_equal(found.get_tensor("a"), array)
    np.testing.assert_array_equal(found.get_tensor("b"), array.T)  # not contiguous here
  assert len(written) == 2


def test_data_begins_at_a_multiple_of_8():
  for name in ("a", "ab", "abc", "abcd"):
    content = ours({name: np.zeros(3, np.float32)})
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_a_file_without_tensors_reads(opened):
  assert opened(safetensors.numpy.save({})).leaves == {}
  assert safetensors.deserialize(ours({})) == []


def test_a_box_reads_no_byte_of_other_rows(opened, tmp_path):
  array = np.arange(40, dtype=np.int32).reshape(10, 4)
  leaf = opened(ours({"before": array, "a": array})).leaves["a"]
  (tmp_path / "x.safetensors").write_bytes(ours({"before": array, "a": array})[: -6 * 16])
  np.testing.assert_array_equal(
    leaf.read((slice(1, 4), slice(1, 3))), array[1:4, 1:3]
  )  # rows 4 to 9 are gone by now
  with pytest.raises(checks.InputError, match="the file ends in the middle"):
    leaf.read((slice(3, 5), slice(0, 4)))


def test_order_in_the_header_does_not_matter(opened):
  header = {"late": row(2, 4), "none": row(2, 2), "early": row(0, 2)}
  found = opened(with_header(header, b"\1\2\3\4")).leaves
  np.testing.assert_array_equal(found["early"].read(), [1, 2])
  np.testing.assert_array_equal(found["late"].read(), [3, 4])
  assert found["none"].read().size == 0


DAMAGED = {
  "overlapping offsets": with_header({"a": row(0, 4), "b": row(2, 6)}, b"123456"),
  "the same offsets": with_header({"a": row(0, 4), "b": row(0, 4)}, b"1234"),
  "a hole": with_header({"a": row(0, 2), "b": row(4, 6)}, b"123456"),
  "a hole in front": with_header({"a": row(2, 4)}, b"1234"),
  "past the end": with_header({"a": row(0, 8)}, b"1234"),
  "bytes left over": with_header({"a": row(0, 4)}, b"123456"),
  "backwards": with_header({"a": row(4, 0, [4])}, b"1234"),
  "fewer bytes than its shape": with_header({"a": row(0, 4, [2], "F32")}, b"1234"),
  "a shape that overflows": with_header({"a": row(0, 0, [1 << 32, 1 << 32])}),
  "a negative size": with_header({"a": row(0, 4, [-2, -2])}, b"1234"),
  "a size that is no number": with_header({"a": row(0, 4, ["4"])}, b"1234"),
  "true as a size": with_header({"a": row(0, 1, [True])}, b"1"),
  "an unknown dtype": with_header({"a": row(0, 4, [4], "F8_E4M3")}, b"1234"),
  "no shape": with_header({"a": {"dtype": "U8", "data_offsets": [0, 4]}}, b"1234"),
  "a row that is no map": with_header({"a": [1, 2]}, b"1234"),
  "three offsets": with_header({"a": {**row(0, 4), "data_offsets": [0, 2, 4]}}, b"1234"),
  "a name twice": with_header(
    b'{"a":%b,"a":%b}' % ((json.dumps(row(0, 2)).encode(),) * 2), b"12"
  ),
  "metadata that is no text": with_header({"__metadata__": {"a": 1}}),
  "metadata that is no map": with_header({"__metadata__": 3}),
  "no map": with_header(b"[1]"),
  "no JSON": with_header(b"{'a': 1}"),
  "nested too deep": with_header(b'{"a":' + b"[" * 100_000),
  "no UTF-8": with_header(b'{"\xff": 1}'),
  "a header larger than the file": (1000).to_bytes(8, "little") + b"{}",
  "an enormous header": (1 << 63).to_bytes(8, "little") + b"{}",
  "an empty header": (0).to_bytes(8, "little"),
  "no header": b"",
  "half a size": b"\x02\0\0",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_header_that_does_not_fit_is_refused(opened, content):
  with pytest.raises(checks.InputError, match=r"x\.safetensors cannot be read"):
    opened(content)


def test_no_cut_of_a_file_reads(opened):
  content = ours(arrays_of(np.dtype(np.float32)))
  opened(content)
  for length in range(0, len(content), 7):
    with pytest.raises(checks.InputError):
      opened(content[:length])


def test_an_unsupported_dtype_is_named(opened):
  with pytest.raises(checks.InputError, match=r"w has the dtype 'F8_E4M3'"):
    opened(with_header({"w": row(0, 4, [4], "F8_E4M3")}, b"1234"))


@pytest.mark.parametrize("size", [3, 100 << 20, 1 << 63])
def test_a_header_that_the_file_cannot_hold_is_not_read(opened, size):
  with pytest.raises(checks.InputError, match=f"it promises {size} bytes, the file has 10"):
    opened(size.to_bytes(8, "little") + b"{}")


def test_an_absent_file_is_refused(tmp_path):
  with pytest.raises(checks.InputError, match=r"none\.safetensors"):
    safetensors_files.read(epath.Path(tmp_path / "none.safetensors"))


def test_the_first_bytes_tell_safetensors_from_others():
  content = ours({"a": np.zeros(4, np.float32)})
  assert safetensors_files.is_one(content[:16], len(content))
  assert not safetensors_files.is_one(content[:16], 20)  # shorter than its header
  for other in (b"", b"{", b"\x93NUMPY\x01\x00v\x00{'descr'", b"\x82\xa7version\x03"):
    assert not safetensors_files.is_one(other, 1000)


def test_a_file_of_many_megabytes_reads(tmp_path):
  path = epath.Path(tmp_path / "large.safetensors")
  tensors = {name: np.full((1 << 21, 4), n, np.float32) for n, name in enumerate("abc")}
  safetensors.numpy.save_file(tensors, str(path))
  found = safetensors_files.read(path).leaves
  last = (slice((1 << 21) - 2, 1 << 21), slice(0, 4))
  for name, array in tensors.items():
    np.testing.assert_array_equal(found[name].read(last), array[last])
