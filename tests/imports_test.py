"""Who may import whom: the floor, the rooms, the runs, the command line, one way."""

import ast
import collections
import functools
import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).parent.parent
PACKAGE = REPO / "prompt_tuning"
FLOOR = {"types", "trees", "checks", "files", "progress", "metrics_log", "distributed"}
FLOOR |= {"gguf_header", "special_tokens", "token_order"}
ROOMS = {"models", "prompts", "checkpoints", "data", "training", "decoding"}
ABOVE_ROOMS = {"methods", "analysis"}
ALLOWED = {("prompts", "models"), ("prompts", "decoding")}
DATA_ONLY = {"tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio"}


def name_of(path: pathlib.Path) -> str:
  parts = path.relative_to(REPO).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


class Imports(ast.NodeVisitor):
  """Imported modules of a file, split by whether importing the file imports them."""

  def __init__(self):
    self.at_once, self.later, self._depth = set(), set(), 0

  def _add(self, name: str) -> None:
    (self.later if self._depth else self.at_once).add(name)

  def visit_Import(self, node):
    for alias in node.names:
      self._add(alias.name)

  def visit_ImportFrom(self, node):
    assert node.level == 0, "relative import"
    for alias in node.names:
      whole = f"{node.module}.{alias.name}"
      self._add(whole if whole in MODULES else node.module)

  def visit_FunctionDef(self, node):
    self._depth += 1
    self.generic_visit(node)
    self._depth -= 1

  visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

  def visit_If(self, node):
    if ast.unparse(node.test) != "__name__ == '__main__'":
      self.generic_visit(node)


@functools.cache
def imports(module: str) -> Imports:
  found = Imports()
  found.visit(ast.parse(MODULES[module].read_text()))
  return found


def everything(module: str) -> set[str]:
  return imports(module).at_once | imports(module).later


def home(module: str) -> str:
  """ "prompt_tuning.models.t5" -> "models", "prompt_tuning.train" -> "train"."""
  return [*module.split("."), ""][1]


def inside(names: set[str]) -> set[str]:
  return {name for name in names if name.split(".")[0] == "prompt_tuning"}


def outside(names: set[str]) -> set[str]:
  return {name.split(".")[0] for name in names} - {"prompt_tuning"}


def test_the_walk_sees_the_package():
  assert len(MODULES) > 50
  assert "gin" in imports("prompt_tuning.config").at_once
  assert "prompt_tuning.checks" in imports("prompt_tuning.files").at_once
  assert "prompt_tuning.data.registry" in imports("prompt_tuning.eval").later
  assert {home(name) for name in MODULES} >= FLOOR | ROOMS


def test_only_config_imports_gin():
  assert [name for name in MODULES if "gin" in outside(everything(name))] == [
    "prompt_tuning.config"
  ]


def test_only_the_data_room_imports_tensorflow_and_seqio():
  users = {name for name in MODULES if outside(everything(name)) & DATA_ONLY}
  assert users and {name for name in users if home(name) != "data"} == set()


def test_torch_is_imported_by_nothing_at_once():
  assert [name for name in MODULES if "torch" in outside(imports(name).at_once)] == []


@pytest.mark.parametrize("module", [name for name in MODULES if home(name) in ROOMS])
def test_rooms_do_not_import_each_other_nor_what_is_above(module):
  room = home(module)
  allowed = FLOOR | {room} | {other for one, other in ALLOWED if one == room}
  found = {home(name) for name in inside(imports(module).at_once)}
  assert found - allowed - {""} == set()
  # T5Config.from_gin asks config, which knows the rooms only by name, when it is called.
  later = {home(name) for name in inside(imports(module).later)}
  assert later - allowed - {"", "config"} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if home(name) in FLOOR])
def test_the_floor_imports_no_room(module):
  found = {home(name) for name in inside(everything(module))}
  assert found - FLOOR - {""} == set()


def test_methods_and_analysis_stand_on_rooms_and_not_on_each_other():
  for module in MODULES:
    if home(module) in ABOVE_ROOMS:
      found = {home(name) for name in inside(everything(module))}
      assert found <= FLOOR | ROOMS | {"", home(module)}, module


def test_nothing_imports_the_command_line():
  found = {
    module
    for module in MODULES
    if any(home(name) == "cli" for name in inside(everything(module)))
    and home(module) not in ("cli", "__main__")
  }
  assert found == set()


def test_there_are_no_cycles():
  edges = {
    module: inside(imports(module).at_once) - {module, "prompt_tuning"}
    for module in MODULES
  }
  waiting = {module: len(found & edges.keys()) for module, found in edges.items()}
  importers = collections.defaultdict(set)
  for module, found in edges.items():
    for name in found & edges.keys():
      importers[name].add(module)
  ready = [module for module, count in waiting.items() if count == 0]
  done = set()
  while ready:
    module = ready.pop()
    done.add(module)
    for importer in importers[module]:
      waiting[importer] -= 1
      if waiting[importer] == 0:
        ready.append(importer)
  assert sorted(edges.keys() - done) == []


def python(program: str) -> str:
  found = subprocess.run(
    [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=False
  )
  assert found.returncode == 0, found.stderr
  return found.stdout


@pytest.mark.slow
def test_the_public_names_bring_in_no_tensorflow_no_seqio_no_torch():
  heavy = {*DATA_ONLY, "torch", "transformers", "gin"}
  found = python(f"""
import sys
import prompt_tuning
print(sorted({heavy | {"jax", "numpy"}} & sys.modules.keys()))
for name in prompt_tuning.__all__:
  assert getattr(prompt_tuning, name) is not None, name
  assert name in dir(prompt_tuning)
print(sorted({heavy} & sys.modules.keys()), "jax" in sys.modules)
""")
  assert found.splitlines() == ["[]", "[] True"]


@pytest.mark.slow
def test_everything_but_the_data_room_imports_without_tensorflow_and_seqio():
  names = [
    name for name in MODULES if home(name) != "data" and not name.endswith("__main__")
  ]
  assert "prompt_tuning.train" in names and "prompt_tuning.cli.runs" in names
  found = python(f"""
import importlib, sys
for name in {sorted(DATA_ONLY | {"torch", "transformers"})}:
  sys.modules[name] = None
for name in {names}:
  importlib.import_module(name)
print("imported")
""")
  assert found == "imported\n"


@pytest.mark.parametrize("name", ["T6", "tensorflow", "load_prompts"])
def test_an_unknown_public_name_is_an_attribute_error(name):
  import prompt_tuning

  with pytest.raises(AttributeError, match=name):
    getattr(prompt_tuning, name)
