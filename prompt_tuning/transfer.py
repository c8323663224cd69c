"""Which trained prompts are alike, and which should start a new one (SPoT)."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning import checks, files, formats
from prompt_tuning.analysis import pictures
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.checkpoints.prompt_files import PromptFile
from prompt_tuning.methods import spot

TOP = 3  # sources of an average, where there are as many
_UNSAFE = set('"$`\\!')  # what a shell reads between double quotes


def transfer(
  sources: Sequence[str],
  target: str | None = None,
  top: int | None = None,
  measure: str = "average",
  step: int | None = None,
) -> dict[str, Any]:
  """Compares trained prompts; with a target, ranks them as starts for its task.

  Args:
    sources: Prompts of any format. The target may be among them and is left out.
    target: A prompt of the new task, trained for some steps.
    top: Sources to average; None is `TOP`, or all where they are fewer.
    measure: Of `spot.MEASURES`.
    step: Compares prompts as they were at this step, each of a MODEL_DIR; None is the best.
      A run starts from the best ones in any case.

  Returns:
    {"measure", "step", "sources": {name: path}, "tasks": {name: task or None},
    "similarity": [n, n], "order": names, similar ones together, "joints": of the tree}, and
    with a target {"target": path, "ranking": {name: similarity}, "starts": {names: flags}}.

  Raises:
    InputError: A path is no prompt, or prompts belong to different models.
  """
  paths = dict(zip(names(sources), map(_trimmed, sources), strict=True))
  found = {name: formats.read_prompt(path) for name, path in paths.items()}
  new = [] if target is None else [formats.read_prompt(target)]
  known = {_opened(file) for file in new}
  found = {name: file for name, file in found.items() if _opened(file) not in known}
  paths = {name: paths[name] for name in found}
  if len(paths) < (2 if target is None else 1):
    raise checks.InputError(
      f"{len(paths)} prompts are given, expected several, or one or more and a --target; "
      "name more"
    )
  _check_base([*found.values(), *new])
  compared = {name: _at(file, paths[name], step) for name, file in found.items()}
  matrix = spot.similarities(compared, measure)
  tree = spot.clustering(matrix)
  result: dict[str, Any] = {
    "measure": measure,
    "step": step,
    "sources": paths,
    "tasks": {name: file.metadata.get("task") for name, file in found.items()},
    "similarity": matrix.tolist(),
    "order": [list(paths)[place] for place in tree.order],
    "joints": tree.joints,
  }
  if target is None:
    return result
  array = _at(new[0], target, step)
  chosen = spot.retrieve(array, compared, top or min(TOP, len(paths)), measure)
  return {
    **result,
    "target": target,
    "ranking": spot.retrieve(array, compared, measure=measure),
    "starts": _starts(chosen, paths, found),
  }


def names(paths: Sequence[str]) -> list[str]:
  """A short name for each path, of the parts that tell them apart.

      runs/a/prompt.safetensors  runs/b/prompt.safetensors   ->   a         b
      runs/a/best.npy            runs/b/last.npy             ->   best.npy  last.npy

  Raises:
    InputError: A path is there twice.
  """
  parts = [_trimmed(path).split("/") for path in paths]
  if len(set(map(tuple, parts))) < len(parts):
    raise checks.InputError(
      f"a prompt is there twice among {', '.join(paths)}, expected each once; leave one out"
    )
  while len(parts) > 1 and all(len(p) > 1 and p[-1] == parts[0][-1] for p in parts):
    parts = [each[:-1] for each in parts]
  count = 1
  while len({tuple(each[-count:]) for each in parts}) < len(parts):
    count += 1
  return ["/".join(each[-count:]) for each in parts]


def report(result: Mapping[str, Any]) -> str:
  """What a person reads of a result of `transfer`."""
  if "target" not in result:
    return _table(result)
  width = max(map(len, result["ranking"]))
  lines = [
    f"{similar:7.3f}  {name:<{width}}  {result['tasks'][name] or ''}".rstrip()
    for name, similar in result["ranking"].items()
  ]
  for name, flags in result["starts"].items():
    lines += [f"\nto start from {name}:", "  " + " \\\n  ".join(flags)]
  return "\n".join(lines)


def write(result: Mapping[str, Any], folder: str) -> None:
  """Writes `similarity.json` and, with matplotlib, `similarity.svg`.

  Raises:
    InputError: The folder cannot be written.
  """
  place = files.output_folder(folder, "--out")
  text = json.dumps(result, indent=2) + "\n"
  files.write_atomically(place / "similarity.json", text.encode())
  pictures.where_possible(pictures.similarity, result, place / "similarity.svg")


def _trimmed(path: str) -> str:
  return path.rstrip("/") or path


def _opened(file: PromptFile) -> str:
  """What was opened, whichever path led there."""
  return str(file.path) if files.is_remote(file.path) else os.path.realpath(file.path)


def _at(file: PromptFile, path: str, step: int | None) -> np.ndarray:
  """The prompt of a file, or as it was at a step of its run: [prompt_len, d_model]."""
  if step is None:
    return prompt_files.single(file)
  saved = prompt_files.saved(files.path(path))
  if step not in saved:
    raise checks.InputError(
      f"{path} has no prompt of step {step}, expected {checks.one_of(list(saved))}; set "
      "--step to one that all have"
    )
  return prompt_files.single(formats.read_prompt(str(saved[step])))


def _check_base(found: Sequence[PromptFile]) -> None:
  """Raises `InputError` where the files name more than one base model."""
  bases = {base: f for f in found if (base := f.metadata.get("base_fingerprint"))}
  if len(bases) > 1:
    shown = ", ".join(f"{file.path}: {base}" for base, file in bases.items())
    raise checks.InputError(
      f"the prompts were trained on different models ({shown}), expected one, since only "
      "prompts of one model compare; leave the others out"
    )


def _starts(
  chosen: Mapping[str, float], paths: Mapping[str, str], found: Mapping[str, PromptFile]
) -> dict[str, list[str]]:
  """{what a run starts from: its flags}: the most similar source, and an average.

  An average takes those of `chosen` that have the length of the first and are like it.
  """
  first = next(iter(chosen))
  length = found[first].prompt.shape[-2]
  starts = {first: _flags("from_file", PROMPT_FILE=paths[first], PROMPT_LENGTH=length)}
  alike = {
    name: similar
    for name, similar in chosen.items()
    if similar > 0 and found[name].prompt.shape[-2] == length
  }
  if len(alike) > 1:
    starts[f"the average of {', '.join(alike)}"] = _flags(
      "from_files",
      SOURCE_PROMPTS=[paths[name] for name in alike],
      SOURCE_WEIGHTS=[round(share, 4) for share in spot.weights(alike).values()],
      PROMPT_LENGTH=length,
    )
  return starts


def _flags(file: str, **macros: Any) -> list[str]:
  """Flags of a run, each as a shell reads it."""
  return [f"--gin_file=prompts/{file}.gin", *map(_flag, macros.items())]


def _flag(macro: tuple[str, Any]) -> str:
  name, value = macro
  if isinstance(value, int):
    return f"--gin.{name}={value}"
  if _UNSAFE & set(repr(value)):
    return shlex.quote(f"--gin.{name}={value!r}")
  return f'--gin.{name}="{value!r}"'


def _table(result: Mapping[str, Any]) -> str:
  """The similarities, similar prompts together; columns are the numbers of rows."""
  known, order = list(result["sources"]), result["order"]
  places = [known.index(name) for name in order]
  width = max(map(len, order))
  lines = [" " * (width + 4) + "".join(f"{i + 1:8}" for i in range(len(order)))]
  for i, (name, row) in enumerate(zip(order, places, strict=True), start=1):
    cells = "".join(f"{result['similarity'][row][column]:8.3f}" for column in places)
    lines.append(f"{i:>3} {name:<{width}}{cells}")
  return "\n".join(lines)
