"""Whatever a checkpoint or a prompt consists of, it is read or refused: 25,000 of them.

Child processes read them in memory-backed folders, with little address space and little
time. An input is named before it is read, so that one which ends its process is known.
Every input is drawn from its number alone; to see one again:

  python tests/checkpoints/fuzz_test.py READER NUMBER [FOLDER]
"""

import concurrent.futures
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator

import mutations
import numpy as np
import pytest
import safetensors.numpy
import seeds

from prompt_tuning import checks, formats

ADDRESSES = 1 << 30  # bytes of address space beyond what a child has when it starts
RESIDENT = 128 << 20  # bytes in use that no input of a few kilobytes may add
SECONDS = 10
REPO = pathlib.Path(__file__).parents[2]
CHILDREN = 2
SECRET = 666.0  # lies outside of every checkpoint
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
UNREAD = ("commit_success.txt", "_CHECKPOINT_METADATA", "generation_config.json")
FORBIDDEN = ("open", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove")
FORBIDDEN += ("subprocess.Popen", "pickle.find_class", "socket.connect", "os.chmod")
FORBIDDEN += ("os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate")


class Defect(Exception):
  """An input was read, or refused, in a way that it must not be."""


class Watch:
  """Notes what Python does outside of a folder while inputs are read."""

  def __init__(self, folder: pathlib.Path):
    python = (sys.prefix, sys.base_prefix, str(REPO))  # modules that are imported late
    self.inside = (str(folder), *python, "/proc", "/dev/null")
    self.active, self.seen = False, []
    sys.addaudithook(self)

  def __call__(self, event: str, arguments: tuple) -> None:
    if not self.active:
      return
    harmless = event == "open" and self.is_harmless(*arguments)
    if event in FORBIDDEN and not harmless:
      self.seen.append(f"{event} {arguments}")

  def is_harmless(self, path: str | bytes | os.PathLike | int, mode, flags: int) -> bool:
    is_write = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if isinstance(path, int):
      return True
    return not is_write and os.path.abspath(os.fsdecode(path)).startswith(self.inside)


def attempt(path: pathlib.Path, linked: bool = False) -> str:
  """Opens a path as a model and as a prompt and reads all of it: "read" or "refused"."""
  found = set()
  for read in (read_model, read_prompt):
    try:
      read(path, linked)
      found.add("read")
    except checks.InputError as error:
      if str(path) not in str(error):
        raise Defect(f"no path is in {error}") from error
      if memory_was_short(error):
        raise Defect(f"refused only since memory was short: {error}") from error
  return "read" if "read" in found else "refused"


def read_model(path: pathlib.Path, linked: bool) -> None:
  opened = formats.load(str(path))
  for name, leaf in {**opened.leaves, **opened.others}.items():
    value = leaf.read()
    check(name, value, leaf.shape, leaf.dtype, linked)
    if value.size:
      box = tuple(slice(0, 1) for _ in value.shape)
      if np.asarray(leaf.read(box)).tobytes() != value[box].tobytes():
        raise Defect(f"{name}: a box of it has other values")


def read_prompt(path: pathlib.Path, linked: bool) -> None:
  prompt = formats.read_prompt(str(path)).prompt
  check("the prompt", prompt, prompt.shape, np.dtype(np.float32), linked)
  if prompt.ndim not in (2, 3):
    raise Defect(f"a prompt of shape {prompt.shape}")


def check(name: str, value, shape: tuple, dtype: np.dtype, linked: bool) -> None:
  """Raises `Defect` unless a value is an array of numbers of what was declared."""
  if type(value) is not np.ndarray:
    raise Defect(f"{name} is a {type(value).__name__}")
  if value.shape != tuple(shape) or value.dtype != dtype:
    raise Defect(f"{name} is {value.dtype} {value.shape}, declared {dtype} {shape}")
  if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
    raise Defect(f"{name} is {value.dtype}")
  if SECRET in value and not linked:  # links are followed: caches of hubs consist of them
    raise Defect(f"{name} was read outside of the checkpoint")


def memory_was_short(error: BaseException | None) -> bool:
  """Whether an array that could not be allocated is behind an error."""
  while error is not None:
    if isinstance(error, MemoryError) and str(error):  # Python's parser has one without
      return True
    error = error.__cause__ or error.__context__
  return False


def observed(path: pathlib.Path, watch: Watch, linked: bool = False) -> str:
  """How one input ends: "read", "refused", or a defect in words."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  watch.active = True
  watch.seen.clear()
  signal.alarm(SECONDS)
  try:
    outcome = attempt(path, linked)
  except BaseException as error:  # whatever it is, it is reported
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/prompt_tuning/" in f.filename] or frames
    at = f"{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}"
    outcome = f"{type(error).__name__} at {at}: {str(error)[:200]}"
  finally:
    signal.alarm(0)
    watch.active = False
  added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
  if added > RESIDENT:
    return f"{added >> 20} MiB of memory; {outcome}"
  return f"not within the checkpoint: {watch.seen}" if watch.seen else outcome


def limit_memory() -> None:
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
  most = pages * resource.getpagesize() + ADDRESSES
  resource.setrlimit(resource.RLIMIT_AS, (most, most))


def prepared(place: pathlib.Path, seed) -> pathlib.Path:
  """A folder with an intact checkpoint, and beside it what must stay unread."""
  folder = place / "in"
  folder.mkdir(parents=True)
  seed(folder)
  for name in UNREAD:
    for path in folder.rglob(name):
      path.unlink()
  secret = np.full((6, 4), SECRET, np.float32)
  seeds.write_zarr(place, "outside", secret, compressor=None)
  safetensors.numpy.save_file({"prompt": secret}, place / "outside" / "secret.safetensors")
  return folder


def contents(folder: pathlib.Path) -> mutations.Files:
  files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
  return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fuzz(reader: str, place: pathlib.Path, numbers: range) -> None:
  """Reads damaged inputs; prints the number of each, then how it ended."""
  make, inside, _ = seeds.READERS[reader]
  folder = prepared(place, make)
  seed, everything, watch = contents(folder), contents(place), Watch(place)
  assert attempt(folder / inside) == "read"
  limit_memory()
  for number in numbers:
    print(number, end=" ", flush=True)
    name = mutations.damage(random.Random(f"{reader} {number}"), folder, seed)
    print(json.dumps(observed(folder / inside, watch, mutations.is_linked(folder / name))))
    mutations.repair(folder, seed, name)
  assert contents(place) == everything, "files were written"


def craft(name: str, place: pathlib.Path) -> None:
  """Reads one crafted input and prints how it ended."""
  folder = prepared(place, seeds.CRAFTED[name])
  watch = Watch(place)
  limit_memory()
  inside = "prompt.safetensors" if (folder / "prompt.safetensors").exists() else ""
  print(0, json.dumps(observed(folder / inside, watch)))


def show(reader: str, number: int, folder: str | None) -> None:
  """Damages one input and shows how it is read, without limits."""
  place = pathlib.Path(folder or tempfile.mkdtemp())
  make, inside, _ = seeds.READERS[reader]
  where = prepared(place, make)
  name = mutations.damage(random.Random(f"{reader} {number}"), where, contents(where))
  print(f"damaged {where / name}")
  print(attempt(where / inside, mutations.is_linked(where / name)))


def ended(*arguments: object) -> list[tuple[int, str]]:
  """(number, outcome) of the inputs that a child read until it ended."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "1"}
  with tempfile.TemporaryDirectory(dir=MEMORY) as place:
    command = [sys.executable, __file__, "child", place, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
  rows = [line.partition(" ") for line in child.stdout.splitlines()]
  crash = f"the process ended with {child.returncode}: {child.stderr[-300:]}"
  found = [(int(number), json.loads(text) if text else crash) for number, _, text in rows]
  if child.returncode and not (rows and not rows[-1][2]):  # before the first, or at the end
    found.append((found[-1][0] if found else -1, crash))
  return found


def outcomes(reader: str, numbers: range) -> Iterator[tuple[int, str]]:
  """(number, outcome) of every input; a child that ended is followed by another."""
  while numbers:
    found = ended(reader, numbers.start, numbers.stop)
    yield from found
    if found[0][0] < 0:
      return
    numbers = range(found[-1][0] + 1, numbers.stop)


@pytest.mark.parametrize("reader", seeds.READERS)
def test_damage_is_read_or_refused(reader):
  count = seeds.READERS[reader][2]
  size = -(-count // CHILDREN)
  shares = [range(n, min(n + size, count)) for n in range(0, count, size)]
  with concurrent.futures.ThreadPoolExecutor(CHILDREN) as pool:
    parts = pool.map(lambda share: list(outcomes(reader, share)), shares)
  found = sorted(row for part in parts for row in part)
  first = {outcome.split(": ")[0]: row for row in reversed(found) for outcome in row[1:]}
  defects = [
    f"{reader} {n}: {o}" for n, o in first.values() if o not in ("read", "refused")
  ]
  assert not defects, "\n".join(defects)
  assert [number for number, _ in found] == list(range(count))
  endings = [outcome for _, outcome in found]
  assert min(endings.count("read"), endings.count("refused")) > count // 50


@pytest.mark.parametrize("name", seeds.CRAFTED)
def test_crafted_input_is_read_or_refused_without_effort(name):
  ((_, outcome),) = ended("craft", name)
  assert outcome in ("read", "refused"), outcome


def test_twenty_thousand_inputs_are_tried():
  assert sum(count for _, _, count in seeds.READERS.values()) >= 20_000


if __name__ == "__main__":
  match sys.argv[1:]:
    case "child", place, "craft", name:
      craft(name, pathlib.Path(place))
    case "child", place, reader, start, stop:
      fuzz(reader, pathlib.Path(place), range(int(start), int(stop)))
    case reader, number, *folder:
      show(reader, int(number), folder[0] if folder else None)
