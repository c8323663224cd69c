"""What commands compile is kept, where the user's cache is."""

import subprocess
import sys

_COMPILE = """
import jax
from prompt_tuning.cli import compiled
compiled.keep()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x * 3 + 1)(2.0)
print(jax.config.jax_compilation_cache_dir)
"""


def compile_once(tmp_path, **environment):
  found = subprocess.run(
    [sys.executable, "-c", _COMPILE],
    env={"PATH": "", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", **environment},
    cwd=sys.path[0] or None,
    capture_output=True,
    text=True,
    check=True,
  )
  return found.stdout.strip()


def test_it_is_in_the_users_cache(tmp_path):
  where = compile_once(tmp_path)
  assert where.startswith(str(tmp_path / ".cache" / "prompt-tuning" / "compiled"))
  assert list((tmp_path / ".cache").rglob("*-cache"))


def test_the_environment_decides(tmp_path):
  elsewhere = tmp_path / "elsewhere"
  assert compile_once(tmp_path, XDG_CACHE_HOME=str(elsewhere)).startswith(str(elsewhere))
  given = str(tmp_path / "given")
  assert compile_once(tmp_path, JAX_COMPILATION_CACHE_DIR=given) == given
  compile_once(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0", HOME=str(tmp_path / "off"))
  assert not list((tmp_path / "off").rglob("*-cache"))
