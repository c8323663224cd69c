"""Paths into packages: ours, and others that are installed."""

import sys
import types

import pytest

from prompt_tuning import checks, files


@pytest.fixture
def package(tmp_path, monkeypatch):
  """An installed package that must not be imported."""
  folder = tmp_path / "site" / "some_weights"
  folder.mkdir(parents=True)
  (folder / "__init__.py").write_text("raise RuntimeError('imported')")
  (folder / "model.gguf").write_bytes(b"GGUF")
  monkeypatch.syspath_prepend(str(tmp_path / "site"))
  return folder


def test_a_file_of_an_installed_package_is_found_without_importing_it(package):
  found = files.path("package://some_weights/model.gguf")
  assert found.read_bytes() == b"GGUF"
  assert "some_weights" not in sys.modules
  assert found.parent == files.path("package://some_weights") == package.resolve()


@pytest.mark.parametrize("rest", ["../x", "/etc/passwd", "a/../../../x"])
def test_a_path_stays_in_that_package(package, rest):
  with pytest.raises(checks.InputError, match="leaves the package"):
    files.path(f"package://some_weights/{rest}")


@pytest.mark.parametrize("name", ["llm_nothing_here", "made_here", "bisect"])
def test_a_package_that_is_missing_is_named(name, monkeypatch):
  monkeypatch.setitem(sys.modules, "made_here", types.ModuleType("made_here"))
  with pytest.raises(checks.InputError, match=f"package {name}, which is not installed"):
    files.path(f"package://{name}/model.gguf")


def test_our_own_folders_come_first(package, monkeypatch):
  package.rename(package.parent / "assets")
  assert files.path("package://assets").parent.name == "prompt_tuning"
