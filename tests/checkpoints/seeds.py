"""Small checkpoints and prompts of every format: intact ones, and ones crafted to do harm.

A reader's test damages the intact ones at random; the crafted ones are what chance does not
find. Each function fills an empty folder.
"""

import json
import pathlib
import shutil
import struct

import msgpack
import numpy as np
import tensorstore as ts
from etils import epath
from flax import serialization

from prompt_tuning import trees
from prompt_tuning.checkpoints import huggingface, peft, prompt_files, t5x
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.checkpoints.prompt_files import PromptFile


def array(*shape: int) -> np.ndarray:
  return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


PROMPT = array(3, 4)
PARAMS = {
  "token_embedder/embedding": array(6, 4),
  "encoder/prompt/prompt/prompt": PROMPT,
  "encoder/encoder/mlp/wi/kernel": array(4, 2, 3),
  "encoder/encoder/relpos_bias/rel_embedding": np.ones((2, 2, 5), np.float32),
  "decoder/bits": np.arange(6, dtype=np.uint16),
}


def write_index(folder: pathlib.Path, target: dict, **state: object) -> None:
  """The msgpack file of a T5X checkpoint."""
  tree = {"version": 3, "optimizer": {"target": target, "state": state}}
  (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))


def write_zarr(folder: pathlib.Path, name: str, value: np.ndarray, **metadata) -> dict:
  """One zarr array; returns the spec that stands for it in T5X's index."""
  shape = list(value.shape)
  sizes = {"shape": shape, "chunks": shape, "dtype": value.dtype.str}
  spec = {"driver": "zarr", "metadata": {**sizes, **metadata}}
  here = {"driver": "file", "path": f"{folder / name}/"}
  store = ts.open(
    {**spec, "kvstore": here, "store_data_equal_to_fill_value": True}, create=True
  )
  store.result().write(value).result()
  return {**spec, "kvstore": {"driver": "file", "path": f"{name}/"}}


def t5x_of_today(place: pathlib.Path) -> None:
  t5x.save(epath.Path(place), PARAMS, 7, None, {"embedding/v_row": array(6)})


def t5x_of_2021(place: pathlib.Path) -> None:
  """Dtypes in metadata; gfile without a slash at the end, or a path beside the driver."""
  target = {}
  for number, (name, value) in enumerate(PARAMS.items()):
    dotted = f"target.{name.replace('/', '.')}"
    spec = write_zarr(place, dotted, value, compressor={"id": "gzip", "level": 1})
    spec |= {"kvstore": {"driver": "gfile", "path": dotted}, "path": dotted}
    del spec["path" if number % 2 else "kvstore"]
    target[name] = spec
  write_index(place, trees.unflatten(target), step=np.int32(7))


def t5x_in_one_file(place: pathlib.Path) -> None:
  chunks = {"0": PROMPT.reshape(-1)[:5], "1": PROMPT.reshape(-1)[5:]}
  parts = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": chunks}
  params = trees.unflatten({**PARAMS, "encoder/prompt/prompt/prompt": parts})
  write_index(place, params, step=np.int32(3), a=1.5, b=np.float32(2), c=None)


def t5x_of_all_compressors(place: pathlib.Path) -> None:
  codes = [None, {"id": "blosc", "cname": "lz4"}]
  codes += [{"id": code, "level": 1} for code in ("gzip", "zlib", "zstd")]
  specs = [
    write_zarr(place, f"target.{n}", np.ones((64, 3), np.float32), compressor=code)
    for n, code in enumerate(codes)
  ]
  write_index(place, {str(n): spec for n, spec in enumerate(specs)}, step=1)


def orbax_in_folders(place: pathlib.Path, params: dict = PARAMS, **options: bool) -> None:
  import orbax.checkpoint as ocp

  tree = {"target": trees.unflatten(params), "state": {"step": np.int32(5)}}
  handler = ocp.PyTreeCheckpointHandler(**{"use_ocdbt": False, **options})
  ocp.Checkpointer(handler).save(place / "checkpoint_5" / "state", tree)


def orbax_in_zarr3(place: pathlib.Path) -> None:
  orbax_in_folders(place, use_zarr3=True)


def orbax_in_ocdbt(place: pathlib.Path) -> None:
  orbax_in_folders(place, use_ocdbt=True)
  shutil.rmtree(place / "checkpoint_5" / "state" / "ocdbt.process_0")


def orbax_in_plain_ocdbt(place: pathlib.Path) -> None:
  """The same without compression, so that all of its bytes can be damaged."""
  orbax_in_ocdbt(place)
  folder = place / "checkpoint_5" / "state"
  spec = {"driver": "ocdbt", "base": f"file://{folder}/"}
  old = ts.KvStore.open(spec).result()
  content = {key: old.read(key).result().value for key in old.list().result()}
  (folder / "manifest.ocdbt").unlink()
  shutil.rmtree(folder / "d")
  config = {"compression": None, "max_inline_value_bytes": 1}
  new = ts.KvStore.open({**spec, "config": config}).result()
  with ts.Transaction(atomic=True) as transaction:
    for key, value in content.items():
      new.with_transaction(transaction)[key] = value


def orbax_of_2022(place: pathlib.Path) -> None:
  """A msgpack index with placeholders, and with arrays in it."""
  orbax_in_folders(place)
  folder = place / "checkpoint_5" / "state"
  (folder / "_METADATA").unlink()
  names = {name: f"PLACEHOLDER://target.{name.replace('/', '.')}" for name in PARAMS}
  target = trees.unflatten({**names, "decoder/inline": array(2), "decoder/number": 1.0})
  tree = {"target": target, "state": {"step": 5}}
  (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))


def hugging_face(place: pathlib.Path, shard_bytes: int = 1 << 30, **more: object) -> None:
  params = {path: Inline(array(2, 3)) for _, path, _ in huggingface.names(1, 1, True)}
  params["decoder/logits_dense/kernel"] = Inline(array(3, 2))
  config = {"num_encoder_layers": 1, "num_decoder_layers": 1, "tied_logits": False}
  config |= {"d_ff": 3, "d_kv": 2, "d_model": 3, "num_heads": 1, "vocab_size": 2}
  config |= {"relative_buckets": 3, "relative_max_distance": 128}
  config["mlp_activations"] = ("gelu", "linear")
  huggingface.save(epath.Path(place / "model"), params, config, shard_bytes)
  path = place / "model" / "config.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def hugging_face_in_shards(place: pathlib.Path) -> None:
  hugging_face(place, 400)


def hugging_face_with_a_scaled_head(place: pathlib.Path) -> None:
  hugging_face(place, scale_decoder_outputs=True)


def peft_adapter(place: pathlib.Path) -> None:
  prompt = PromptFile(PROMPT, {"task": "a", "step": 3}, epath.Path(place), "")
  peft.save(epath.Path(place / "adapter"), prompt, "google/t5")


def numpy_prompt(place: pathlib.Path) -> None:
  prompt_files.save_prompt(str(place / "prompt.npy"), PROMPT)


def numpy_step(place: pathlib.Path) -> None:
  prompt_files.save_step(epath.Path(place), 5, "encoder/prompt", PROMPT)


def safetensors_prompt(place: pathlib.Path) -> None:
  prompt_files.save_prompt(str(place / "prompt.safetensors"), PROMPT, {"step": 5, "a": "b"})


# {name: (what writes an intact one, what of it is opened, how many are damaged in a test)}
READERS = {
  seed.__name__: (seed, inside, count)
  for seed, inside, count in [
    (t5x_of_today, "", 1000),
    (t5x_of_2021, "", 800),
    (t5x_in_one_file, "", 4000),
    (t5x_of_all_compressors, "", 1500),
    (orbax_in_folders, "", 1200),
    (orbax_in_zarr3, "", 700),
    (orbax_in_ocdbt, "", 800),
    (orbax_in_plain_ocdbt, "", 1200),
    (orbax_of_2022, "", 700),
    (hugging_face, "model", 2000),
    (hugging_face_in_shards, "model", 1500),
    (hugging_face_with_a_scaled_head, "model", 1500),
    (peft_adapter, "adapter", 2000),
    (numpy_prompt, "prompt.npy", 3000),
    (numpy_step, "", 500),
    (safetensors_prompt, "prompt.safetensors", 3000),
  ]
}


def a_blosc_chunk_that_promises_2_gib(place: pathlib.Path) -> None:
  spec = write_zarr(place, "target.a", array(9), compressor={"id": "blosc", "cname": "lz4"})
  write_index(place, {"a": spec})
  head = bytes([2, 1, 0x20, 4]) + struct.pack(
    "<4I", (1 << 31) - 256, (1 << 31) - 256, 20, 20
  )
  (place / "target.a" / "0").write_bytes(head)


def an_array_fifty_thousand_times_its_bytes(place: pathlib.Path) -> None:
  grow(place, 160, ("shape",), 40_000)


def a_chunk_fifty_thousand_times_its_bytes(place: pathlib.Path) -> None:
  grow(place, 160, ("chunks",), 40_000)


def a_chunk_nine_hundred_times_its_bytes(place: pathlib.Path) -> None:
  grow(place, 2400, ("shape", "chunks"), 900)


def grow(place: pathlib.Path, rows: int, fields: tuple[str, ...], times: int) -> None:
  orbax_in_folders(place, {"a": array(1, rows, 128)})
  path = place / "checkpoint_5" / "state" / "target.a" / ".zarray"
  grown = {key: [times, rows, 128] for key in fields}
  path.write_text(json.dumps({**json.loads(path.read_text()), **grown}))


def an_array_sixty_times_the_bytes_of_all(place: pathlib.Path) -> None:
  noise = np.frombuffer(np.random.default_rng(0).bytes(20 << 20), np.float32)
  orbax_in_folders(place, {"a": array(4, 4), "b": noise}, use_ocdbt=True)
  spec = {"driver": "ocdbt", "base": f"file://{place}/checkpoint_5/state/"}
  store = ts.KvStore.open(spec).result()
  sizes = [60, 20 << 18]
  grown = {**json.loads(store["target.a/.zarray"]), "shape": sizes, "chunks": sizes}
  store["target.a/.zarray"] = json.dumps(grown).encode()


def a_zarr3_shard_of_300_million_parts(place: pathlib.Path) -> None:
  orbax_in_folders(place, {"a": array(200)}, use_zarr3=True)
  (folder,) = place.rglob("target.a")
  tree = json.loads((folder / "zarr.json").read_text()) | {"shape": [1 << 28]}
  tree["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 28]
  plain = [{"name": "bytes", "configuration": {"endian": "little"}}]
  shards = {"chunk_shape": [1], "codecs": plain, "index_codecs": plain}
  tree["codecs"] = [{"name": "sharding_indexed", "configuration": shards}]
  (folder / "zarr.json").write_text(json.dumps(tree))
  (folder / "c" / "0").write_bytes(bytes(30_000))


def packed(shape: list[int], dtype: str, content: bytes) -> msgpack.ExtType:
  return msgpack.ExtType(1, msgpack.packb([shape, dtype, content]))


def write_target(place: pathlib.Path, target: dict, **more: object) -> None:
  tree = {"optimizer": {"target": target}, **more}
  (place / "checkpoint").write_bytes(msgpack.packb(tree))


def parts_that_become_2_gb_of_text(place: pathlib.Path) -> None:
  chunks = {"0": packed([0], "S100000000", b""), "1": packed([20], "S1", b"a" * 20)}
  parts = {"__msgpack_chunked_array__": True, "shape": {"0": 20}, "chunks": chunks}
  write_target(place, {"a": parts})


def an_array_of_structures_as_version(place: pathlib.Path) -> None:
  write_target(place, {"a": 1.0}, version=packed([1], "i4,i4", bytes(8)))


def an_array_of_structures_as_driver(place: pathlib.Path) -> None:
  write_target(place, {"a": {"driver": packed([1], "i4,i4", bytes(8)), "metadata": {}}})


def an_array_of_structures(place: pathlib.Path) -> None:
  write_target(place, {"a": packed([1], "i4,i4", bytes(8))})


def three_thousand_stacks_of_4096_empty_layers(place: pathlib.Path) -> None:
  stack = packed([0, 4096], "float32", b"")
  write_target(place, {"encoder": {"encoder": {f"x{n}": stack for n in range(3000)}}})


def a_position_table_of_4096_layers_in_one_chunk(place: pathlib.Path) -> None:
  table = np.ones((32, 4096, 64), np.float32)
  spec = write_zarr(place, "target.a", table, compressor={"id": "gzip", "level": 1})
  write_index(place, {"encoder": {"encoder": {"relpos_bias": {"rel_embedding": spec}}}})


def a_shape_of_100_000_sizes(place: pathlib.Path) -> None:
  row = {"dtype": "F32", "shape": [(1 << 62) - 1] * 100_000, "data_offsets": [0, 0]}
  header = json.dumps({"prompt": row}).encode()
  size = len(header).to_bytes(8, "little")
  (place / "prompt.safetensors").write_bytes(size + header)


CRAFTED = {
  craft.__name__: craft
  for craft in [
    a_blosc_chunk_that_promises_2_gib,
    an_array_fifty_thousand_times_its_bytes,
    a_chunk_fifty_thousand_times_its_bytes,
    a_chunk_nine_hundred_times_its_bytes,
    an_array_sixty_times_the_bytes_of_all,
    a_zarr3_shard_of_300_million_parts,
    parts_that_become_2_gb_of_text,
    an_array_of_structures_as_version,
    an_array_of_structures_as_driver,
    an_array_of_structures,
    three_thousand_stacks_of_4096_empty_layers,
    a_position_table_of_4096_layers_in_one_chunk,
    a_shape_of_100_000_sizes,
  ]
}
