"""What commands compile is kept for the next one, in a folder of the user's cache."""

import hashlib
import os
import pathlib
import platform

_LEAST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_SECONDS = 0.5  # of compiling from which a program is kept


def keep() -> None:
  """Turns JAX's persistent cache on, unless JAX_COMPILATION_CACHE_DIR says where it is.

  `JAX_ENABLE_COMPILATION_CACHE=0` turns it off.
  """
  import jax

  if jax.config.values["jax_compilation_cache_dir"] is None:
    jax.config.update("jax_compilation_cache_dir", str(folder()))
    if _LEAST not in os.environ:
      jax.config.update(_LEAST.lower(), _SECONDS)


def folder() -> pathlib.Path:
  """The folder of this kind of processor: a home may be shared by several kinds."""
  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  digest = hashlib.sha256(_processor().encode()).hexdigest()[:12]
  return pathlib.Path(home) / "prompt-tuning" / "compiled" / digest


def _processor() -> str:
  """Its kind and what it can do, as far as the system says."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  can = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
  return f"{platform.machine()} {platform.processor()} {can}"
