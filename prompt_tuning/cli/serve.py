"""`prompt-tuning serve`: one model and its prompts over HTTP."""

import argparse
import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from prompt_tuning import checks, config, files
from prompt_tuning.cli import compiled, flags, prompt_flags, runs

_EXAMPLE = """prompt-tuning serve --gin_file=experiments/movie_reviews_predictor.gin \\
    --prompt movies=runs/movies/prompt.safetensors"""
_NEEDS = ("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn")
_LIMITS = (  # flag, field of `Limits`, type, what it is
  ("--max-queue", "queue", int, "most texts that wait"),
  ("--max-wait-ms", "wait_ms", float, "how long a text waits for others to share a pass"),
  ("--timeout-ms", "timeout_ms", int, "time for an answer where a request names none"),
  ("--max-timeout-ms", "max_timeout_ms", int, "most that a request may name"),
  ("--grace-s", "grace_s", float, "how long a stopping service answers what waits"),
  ("--max-body-bytes", "body_bytes", int, "largest body"),
  ("--max-texts", "texts", int, "most texts of a request"),
  ("--max-characters", "characters", int, "longest text, label or target"),
  ("--max-labels", "labels", int, "most labels of a text"),
)


def main(command: str, arguments: Sequence[str]) -> int:
  """Serves until SIGTERM or Ctrl-C."""
  given = _parsed(command, arguments)
  runs.quiet()
  if not given.gin_file:
    raise checks.InputError(
      "no --gin_file is given, expected at least one; "
      f"`prompt-tuning {command} --help` shows a line that works"
    )
  serving = _serving()
  from prompt_tuning.serving.limits import Limits

  asked = {field: getattr(given, f"most_{field}") for _, field, *_ in _LIMITS}
  limits = Limits(**{field: most for field, most in asked.items() if most is not None})
  limits.check()
  token = serving.security.token(given.token_file, os.environ)
  serving.security.check_address(given.host, token is not None)
  settings, text = _settings(given)
  if given.dry_run:
    print(runs.description(settings, text))
    return 0
  compiled.keep()
  for name, path in settings.prompts.items():
    _check_prompt(name, path)
  service = serving.service.Service(
    settings.load, settings.batch_size, limits, _folder(given.prompt_dir)
  )
  serving.server.run(service, serving.server.bound(given.host, given.port), token)
  return 0


def _parsed(command: str, arguments: Sequence[str]) -> argparse.Namespace:
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Answers over HTTP with one frozen model and any number of prompts. "
    "docs/serving.md lists the endpoints.",
    epilog=f"a line that works as pasted:\n  {_EXAMPLE}",
  )
  add = parser.add_argument
  flags.add_gin(parser)
  add(
    "--prompt",
    action="append",
    default=[],
    metavar="NAME=PATH",
    help="a prompt to begin with; repeatable",
  )
  add(
    "--labels",
    action="append",
    default=[],
    metavar="NAME=A,B",
    help="what a prompt chooses from, where its file does not say it; repeatable",
  )
  add("--host", default="127.0.0.1", help="address (default 127.0.0.1, this machine)")
  add("--port", type=int, default=8000, help="port (default 8000); 0 is any free one")
  add(
    "--token-file",
    metavar="FILE",
    help="file with the token that clients must send (default $PROMPT_TUNING_TOKEN, else "
    "none)",
  )
  add("--prompt-dir", metavar="DIR", help="folder from which clients may add prompts")
  for flag, field, kind, text in _LIMITS:
    add(flag, dest=f"most_{field}", type=kind, metavar="N", help=text)
  return parser.parse_args([flags.rewritten(argument) for argument in arguments])


def _serving() -> Any:
  """The package that serves.

  Raises:
    InputError: What it needs is not installed.
  """
  try:
    from prompt_tuning import serving
    from prompt_tuning.serving import security, server, service  # noqa: F401
  except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in _NEEDS:
      raise
    raise checks.InputError(
      f"{error.name} is not installed, expected it for serving; "
      "pip install 'prompt-tuning[serve]'"
    ) from error
  return serving


def _settings(given: argparse.Namespace) -> tuple[Any, str]:
  """The settings of gin with the prompts of the command line, and the operative config."""
  paths = runs.paths(given.gin_search_paths)
  settings, text = config.load(
    "predictor.predictor", given.gin_file, given.gin_bindings, paths
  )
  prompts = prompt_flags.prompts(given.prompt)
  labels = prompt_flags.labels(given.labels)
  if "" in labels:
    raise checks.InputError(
      f"--labels {','.join(labels[''])} name no prompt, expected NAME=A,B; e.g. --labels "
      "movies=negative,positive"
    )
  settings = dataclasses.replace(
    settings,
    prompts={**settings.prompts, **prompts},
    labels={**settings.labels, **labels},
  )
  settings.check()
  for name in settings.labels:
    checks.choice("prompt in --labels", name, list(settings.prompts))
  return settings, text


def _check_prompt(name: str, path: str) -> None:
  """Raises `InputError`, before anything is loaded, for what can be no prompt."""
  from prompt_tuning.serving.schemas import NAME

  if not re.fullmatch(NAME, name):
    raise checks.InputError(
      f"the prompt name {name!r} cannot stand in an address, expected at most 64 of "
      "A-Z a-z 0-9 . _ -, no dot first; choose another"
    )
  if not files.is_remote(path) and not files.path(path).exists():
    raise checks.InputError(
      f"the prompt {name!r} is to lie at {path}, where nothing is; name its file or the "
      "MODEL_DIR of its run"
    )


def _folder(name: str | None) -> pathlib.Path | None:
  if name is not None and not os.path.isdir(name):
    raise checks.InputError(f"--prompt-dir {name!r} is no folder; name one that exists")
  return None if name is None else pathlib.Path(name)
