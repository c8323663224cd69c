"""The flags --prompt and --labels of the commands that answer for many prompts."""

from collections.abc import Sequence

from prompt_tuning import checks


def prompts(given: Sequence[str]) -> dict[str, str]:
  """{name: path} of the --prompt flags."""
  found: dict[str, str] = {}
  for text in given:
    name, _, path = (part.strip() for part in text.partition("="))
    if not name or not path or name in found:
      raise checks.InputError(
        f"--prompt is {text!r}, expected NAME=PATH and every name once; e.g. --prompt "
        "movies=runs/movies/prompt.safetensors"
      )
    found[name] = path
  return found


def labels(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """{prompt, or "" for all: labels} of the --labels flags."""
  from prompt_tuning import row_queries

  found: dict[str, tuple[str, ...]] = {}
  for text in given:
    name, equals, rest = text.partition("=")
    if not equals or text.lstrip().startswith("["):
      name, rest = "", text
    if name in found:
      raise checks.InputError(
        f"--labels {text!r} is the second for {name or 'all'}, expected one; join them"
      )
    found[name] = row_queries.words(rest, ",")
  return found
