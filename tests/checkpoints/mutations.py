"""Damage of every kind, drawn from a seeded `random.Random`.

Bytes are flipped, cut and doubled. What has a structure (JSON, msgpack, safetensors, npy,
gzip, OCDBT) is also taken apart, changed and put together with valid framing, so that the
damage reaches the code behind the parser. Files vanish, and become folders and links.
"""

import gzip
import json
import pathlib
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

Files = dict[str, bytes]  # {path below a folder: content}
Damage = Callable[[random.Random, bytes], bytes]

_POWERS = [1 << bits for bits in (8, 20, 31, 32, 40, 61, 62, 63)]
NUMBERS = [0, 1, 2, 3, 4, 32, 33, 64, 65, 4097, *_POWERS, *(-power for power in _POWERS)]
NUMBERS += [-1, (1 << 63) - 1, (1 << 64) - 1]
JUNK_NUMBERS = [*NUMBERS, 0.5, 1e300, float("nan"), True, False]
PATHS = ["", ".", "./", "..", "/", "/etc/passwd", "a\0b", "é" * 200, "x" * 5000, "\ud800"]
PATHS += ["../outside", "../outside/", "../../outside/", "../../../outside/", "a/../../b"]
PATHS += [
  "../outside/secret.safetensors",
  "PLACEHOLDER://../outside",
  "http://localhost:9/",
]
NAMES = ["zarr", "zarr3", "n5", "cast", "array", "neuroglancer_precomputed", "ocdbt", "gcs"]
NAMES += ["file", "gfile", "http", "memory", "kvstack", "zip", "s3", "PLACEHOLDER://", "{"]
NAMES += ["sharding_indexed", "bytes", "crc32c", "gzip", "zlib", "blosc", "zstd", "bz2"]
NAMES += ["<f4", ">f4", "<f8", "|b1", "|V8", "<M8[s]", "|O", "|S0", "<U9", "<c8", "None"]
NAMES += ["float32", "bfloat16", "uint16", "F32", "F64", "BF16", "I8", "F8_E4M3"]
DTYPES = [
  "float32",
  "float64",
  "bfloat16",
  "uint16",
  "int64",
  "bool",
  "complex64",
  "O",
  "V8",
]
DTYPES += ["S0", "S3", "U2", "M8[s]", "i4,i4", "(2,3)f4", "S100000000", "(9", "V0", ""]
SHAPES = [[], [0], [1], [2, 6], [12, 1], [0, 1 << 61], [1 << 61, 0], [1 << 40, 1 << 40]]
SHAPES += [[0, 4096], [1] * 32, [1] * 33, [1] * 65, [0] * 70, [1 << 40], [-1], [-1, -1]]
# numpy reads the header of an .npy file as Python.
TOKENS = ["(", "[", "{", "}", ")", "'", '"', "\\", "\n", "\n  ", "-", "--", ",", ":", "3L"]
TOKENS += [
  "0x",
  "1e999",
  "None",
  "\0",
  "#",
  "{[]: 1}",
  "'''",
  "lambda: 0",
  "9" * 5000,
  "\xff",
]
TOKENS += ["(" * 300, "-" * 3000, "__import__('os')", "b''", "...", "\x1a", "*"]
DESCRIPTIONS = ["<f4", "<f4", ">f4", "<f8", "<f2", "|O", "|S0", "|V0", "V1000000000", []]
DESCRIPTIONS += [(), ("<f4",), ("<f4", 3), [("a", "<f4")], [()], [("a", "|O")], {"a": 1}, 7]
DEEP = "<ten thousand maps, or lists, in one another>"
_DEEP_MSGPACK = b"\x81\xa1a" * 10_000 + b"\xc0"
_DEEP_JSON = "[" * 10_000 + "]" * 10_000
_NODE = re.compile(rb"\x0c\xdb(\x3a\x2a|\x20\xde|\x12\x34)")  # magic numbers of OCDBT


def damage(rng: random.Random, folder: pathlib.Path, seed: Files) -> str:
  """Damages one of the files in a folder; returns its name."""
  indexes = [name for name in seed if name.endswith("checkpoint")]
  name = rng.choice(indexes if indexes and rng.random() < 0.4 else list(seed))
  if rng.random() < 0.06:
    _replace(rng, folder / name)
  else:
    way = rng.choice([damaged_bytes, *_ways(name, seed[name]) * 2])
    (folder / name).write_bytes(way(rng, seed[name]))
  return name


def repair(folder: pathlib.Path, seed: Files, name: str) -> None:
  """Undoes `damage` to a file."""
  target = folder / name
  if target.is_file() and not is_linked(target):
    target.write_bytes(seed[name])
    return
  shutil.rmtree(folder)
  write(folder, seed)


def write(folder: pathlib.Path, seed: Files) -> None:
  """Writes files into a new folder."""
  for name, content in seed.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def is_linked(path: pathlib.Path) -> bool:
  """Whether a file, or the folder that it is in, is a link."""
  return path.is_symlink() or path.parent.is_symlink()


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
  """Flips, cuts, doubles, overwrites: one to three times."""
  found = bytearray(content)
  for _ in range(rng.choice((1, 1, 1, 2, 3))):
    start = rng.randrange(len(found) + 1)
    stop = min(len(found), start + rng.choice((1, 2, 4, 8, 64)))
    match rng.randrange(8):
      case 0 | 1 if found:
        found[start % len(found)] ^= 1 << rng.randrange(8)
      case 2:
        del found[start:]
      case 3:
        del found[start:stop]
      case 4:
        found[start:start] = rng.randbytes(rng.choice((1, 4, 100)))
      case 5:
        found[start:start] = found[start:stop] * rng.choice((1, 2, 50))
      case 6:
        form = rng.choice(("<B", "<H", "<I", "<Q", ">I", ">Q"))
        size = struct.calcsize(form)
        number = rng.choice(NUMBERS) % (1 << 8 * size)
        found[start : start + size] = struct.pack(form, number)
      case _:
        found[start:stop] = bytes(stop - start)
  return bytes(found)


def damaged_json(rng: random.Random, content: bytes) -> bytes:
  """Changes the tree in JSON text; now and then a name stands twice."""
  tree = json.loads(content)
  for _ in range(rng.choice((1, 1, 2, 3))):
    tree = _damaged_tree(rng, tree, _json_junk)
  text = json.dumps(tree)
  if text.startswith("{") and len(text) > 2 and rng.random() < 0.05:
    twice = f"{json.dumps(rng.choice(list(tree)))}: {json.dumps(_json_junk(rng))}"
    text = rng.choice((f"{{{twice}, {text[1:]}", f"{text[:-1]}, {twice}}}"))
  return text.replace(json.dumps(DEEP), _DEEP_JSON).encode()


def damaged_msgpack(rng: random.Random, content: bytes) -> bytes:
  """Changes the tree in msgpack."""
  tree = msgpack.unpackb(content, strict_map_key=False)
  for _ in range(rng.choice((1, 1, 2, 3))):
    tree = _damaged_tree(rng, tree, _msgpack_junk)
  packed = msgpack.packb(tree, default=str, unicode_errors="surrogatepass")
  return packed.replace(msgpack.packb(DEEP), _DEEP_MSGPACK)


def damaged_safetensors(rng: random.Random, content: bytes) -> bytes:
  """Changes the header, freely or so that offsets and sizes still agree."""
  length = int.from_bytes(content[:8], "little")
  header, data = content[8 : 8 + length], content[8 + length :]
  if rng.random() < 0.7:
    header, data = damaged_json(rng, header), data + bytes(rng.choice((0, 0, 0, 8)))
  else:
    header, data = _reshaped(rng, json.loads(header))
  return len(header).to_bytes(8, "little") + header + data


def damaged_npy(rng: random.Random, content: bytes) -> bytes:
  """Another header in front of the data, of any version of the format."""
  header = rng.choice((_npy_header, _npy_text))(rng)
  version = rng.choice((1, 1, 1, 2, 3, 9))
  size = struct.pack("<H" if version == 1 else "<I", len(header))
  return b"\x93NUMPY" + bytes((version, 0)) + size + header + content[128:]


def damaged_gzip(rng: random.Random, content: bytes) -> bytes:
  """Other data with a correct checksum."""
  return gzip.compress(damaged_bytes(rng, gzip.decompress(content)), 1, mtime=0)


def damaged_ocdbt(rng: random.Random, content: bytes) -> bytes:
  """Changes a node of an OCDBT store and repairs its length and its checksum."""
  nodes = [match.start() for match in _NODE.finditer(content)]
  if not nodes:
    return damaged_bytes(rng, content)
  start = rng.choice(nodes)
  stop = start + int.from_bytes(content[start + 4 : start + 12], "little")
  old = content[start + 12 : stop - 4]
  new = damaged_bytes(rng, old)
  if len(content) > stop - start:  # what refers to it knows its length
    new = new[: len(old)].ljust(len(old), b"\0")
  node = content[start : start + 4] + struct.pack("<Q", len(new) + 16) + new
  return content[:start] + node + struct.pack("<I", _crc32c(node)) + content[stop:]


def _ways(name: str, content: bytes) -> list[Damage]:
  """How a file can be damaged beside its bytes."""
  if name.endswith((".json", ".zarray", "_METADATA")):
    return [damaged_json]
  if name.endswith("checkpoint"):
    return [damaged_msgpack]
  if name.endswith(".safetensors"):
    return [damaged_safetensors]
  if content.startswith(b"\x93NUMPY"):
    return [damaged_npy]
  if content.startswith(b"\x1f\x8b"):
    return [damaged_gzip]
  return [damaged_ocdbt] if _NODE.search(content) else []


def _replace(rng: random.Random, target: pathlib.Path) -> None:
  """Something else, or nothing, in place of a file or of the array that it is part of."""
  if rng.random() < 0.2 and target.parent.name.startswith("target."):
    target = target.parent
    shutil.rmtree(target)
  else:
    target.unlink()
  outside = next(p for p in target.parents if (p / "outside").is_dir()) / "outside"
  links = (outside, outside / "0.0", outside / "secret.safetensors", "nowhere", target.name)
  match rng.randrange(4):
    case 0:
      target.mkdir()
    case 1:
      target.write_bytes(b"")
    case 2:
      target.symlink_to(rng.choice(links))


def _damaged_tree(rng: random.Random, tree: Any, junk: Callable[..., Any]) -> Any:
  """The tree with one node replaced, removed, doubled, renamed or wrapped."""
  places = list(_places(tree))
  if not places or rng.random() < 0.02:
    return junk(rng)
  node, key = rng.choice(places)
  match rng.randrange(10):
    case 0:
      del node[key]
    case 1:
      other = rng.choice([at[name] for at, name in places])
      node[key] = other if _is_flat(other) else junk(rng)
    case 2:
      node[key] = rng.choice(([node[key]], {"a": node[key]}, {key: node[key]}))
    case 3 if isinstance(node, dict):
      name = junk(rng)
      node[name if _is_flat(name) else str(name)] = node.pop(key)
    case 4 if type(node[key]) is int:
      near = (node[key] - 1, node[key] + 1, node[key] << rng.randrange(30))
      node[key] = rng.choice(near)
    case 5 if isinstance(node, list):
      node.insert(key, junk(rng))
    case _:
      node[key] = junk(rng)
  return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
  if not _is_flat(tree):
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
      yield tree, key
      yield from _places(tree[key])


def _is_flat(value: Any) -> bool:
  return not isinstance(value, dict | list)


def _json_junk(rng: random.Random) -> Any:
  match rng.randrange(8):
    case 0 | 1 | 2:
      return rng.choice(JUNK_NUMBERS)
    case 3 | 4:
      return rng.choice(NAMES + PATHS)
    case 5:
      return list(rng.choice(SHAPES))
    case 6:
      return rng.choice((None, [], {}, DEEP, 10**400, [[]], {"a": {}}))
    case _:
      return {rng.choice(NAMES): rng.choice(JUNK_NUMBERS) for _ in range(rng.randrange(3))}


def _msgpack_junk(rng: random.Random) -> Any:
  match rng.randrange(6):
    case 0:
      return rng.choice(JUNK_NUMBERS)
    case 1:
      return rng.choice((None, b"", b"\xff" * 9, "a", [], {}, {1: 2}, {None: {}}, DEEP))
    case 2:
      return msgpack.ExtType(rng.randrange(128), rng.randbytes(rng.randrange(20)))
    case 3:
      return _packed_array(rng)
    case 4:
      return _spec(rng)
    case _:
      return _array_in_parts(rng)


def _packed_array(rng: random.Random) -> msgpack.ExtType:
  """An array or a scalar as Flax packs them, its parts at odds."""
  dtype = rng.choice((*DTYPES, *DTYPES, rng.choice(NUMBERS)))
  parts = [rng.choice(SHAPES), dtype, bytes(rng.choice((0, 4, 12, 48, 49)))]
  packed = msgpack.packb(parts[: rng.choice((3, 3, 3, 2, 1))], default=str)
  return msgpack.ExtType(rng.choice((1, 1, 3)), packed)


def _spec(rng: random.Random) -> dict[str, Any]:
  """A tensorstore spec, as T5X has them and as it must never have them."""

  def pick(*usual: Any) -> Any:
    others = (rng.choice(NAMES), rng.choice(PATHS), _packed_array(rng), rng.choice(NUMBERS))
    return rng.choice(usual) if rng.random() < 0.6 else rng.choice(others)

  kvstore = {"driver": pick("file", "gfile", "gcs"), "path": pick("target.a", "target.a/")}
  metadata = {"shape": pick(*map(list, SHAPES)), "dtype": pick("<f4"), "chunks": [1]}
  return {
    "driver": pick("zarr"),
    "dtype": pick("float32", "bfloat16"),
    "kvstore": pick(kvstore),
    "metadata": pick(metadata),
    "path": pick("target.a"),
    "base": {"driver": "memory"},
  }


def _array_in_parts(rng: random.Random) -> dict[str, Any]:
  """An array in parts, as Flax stores those above 1 GiB."""
  shape = {str(axis): size for axis, size in enumerate(rng.choice(SHAPES))}
  parts = {str(number): _packed_array(rng) for number in range(rng.randrange(3))}
  chunks = rng.choice((parts, parts, parts, 5, []))
  return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}


def _reshaped(rng: random.Random, header: dict[str, Any]) -> tuple[bytes, bytes]:
  """Other shapes and dtypes, with offsets and data that fit them."""
  end = 0
  for name, row in header.items():
    if name == "__metadata__":
      continue
    if rng.random() < 0.3:
      row["shape"], row["dtype"] = rng.choice(SHAPES), rng.choice(("F32", "I8", "BF16"))
    size = {"F32": 4, "BF16": 2, "I8": 1}[row["dtype"]]
    for length in row["shape"]:
      size *= length
    begin, end = end, end + (size if 0 <= size < 1 << 16 else 0)
    row["data_offsets"] = [begin, end]
  return json.dumps(header).encode(), bytes(end)


def _npy_header(rng: random.Random) -> bytes:
  header = {
    "descr": rng.choice(DESCRIPTIONS + DTYPES),
    "fortran_order": rng.choice((False, True, False, True, None, 3)),
    "shape": rng.choice((*map(tuple, SHAPES), (3, 4), (3, 4), (0, 10**30), [3], 3)),
  }
  return repr(header).encode() + b"\n"


def _npy_text(rng: random.Random) -> bytes:
  text = repr({"descr": "<f4", "fortran_order": False, "shape": (3, 4)})
  for _ in range(rng.choice((1, 1, 2, 3))):
    start = rng.randrange(len(text) + 1)
    text = text[:start] + rng.choice(TOKENS) + text[start + rng.choice((0, 1, 5)) :]
  return text.encode("latin1")


def _crc32c(content: bytes) -> int:
  found = 0xFFFFFFFF
  for byte in content:
    found = (found >> 8) ^ _CRC[(found ^ byte) & 0xFF]
  return found ^ 0xFFFFFFFF


def _crc_row(value: int) -> int:
  for _ in range(8):
    value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
  return value


_CRC = [_crc_row(value) for value in range(256)]
