"""Runs as gin: the only module that imports gin.

Library code knows nothing of gin. The table below gives T5X's names to our objects, so
that a binding such as `utils.DatasetConfig.split = 'test'` means what it meant. Binding
`train.train` and the like collects a run's settings without starting it.
"""

import contextlib
import importlib
import pathlib
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import gin

from prompt_tuning import checks, file_order

_PACKAGE = pathlib.Path(__file__).parent
_PREFIX = "prompt_tuning/configs/"
_MACRO = re.compile(r"%([A-Z][A-Z0-9_]*)\b")
_BOUND_MACRO = re.compile(r"^\s*([A-Z][A-Z0-9_]*)\s*=")
_REQUIRED = "%gin.REQUIRED"

# What a gin file may bind or refer to: name there -> module:object.
CONFIGURABLES = {
  "models.T5Config": "prompt_tuning.models.config:T5Config",
  "models.LlamaConfig": "prompt_tuning.models.llama_config:LlamaConfig",
  "models.of_checkpoint": "prompt_tuning.model_configs:of_checkpoint",
  "seqio.SentencePieceVocabulary": "prompt_tuning.data.vocabularies:SentencePiece",
  "seqio.ByteVocabulary": "prompt_tuning.data.vocabularies:Bytes",
  "vocabularies.Tokenizer": "prompt_tuning.data.vocabularies:Tokenizer",
  "prompts.Prompt": "prompt_tuning.prompts.start:Prompt",
  "prompts.RandomUniform": "prompt_tuning.prompts.start:RandomUniform",
  "prompts.SampledVocab": "prompt_tuning.prompts.start:SampledVocab",
  "prompts.ClassLabels": "prompt_tuning.prompts.start:ClassLabels",
  "prompts.Text": "prompt_tuning.prompts.start:Text",
  "prompts.FromFile": "prompt_tuning.prompts.start:FromFile",
  "prompts.FromFiles": "prompt_tuning.prompts.start:FromFiles",
  "prompts.TaskPrompts": "prompt_tuning.prompts.start:TaskPrompts",
  "prompts.load_prompt": "prompt_tuning.formats:load_prompt",
  "methods.PromptTuning": "prompt_tuning.learned:PromptTuning",
  "methods.ModelTuning": "prompt_tuning.learned:ModelTuning",
  "methods.MethodTuning": "prompt_tuning.method_tuning:MethodTuning",
  "methods.PerLayer": "prompt_tuning.methods.per_layer:PerLayer",
  "methods.IA3": "prompt_tuning.methods.ia3:IA3",
  "methods.Residual": "prompt_tuning.methods.residual:Residual",
  "methods.LowRank": "prompt_tuning.methods.low_rank:LowRank",
  "methods.MultiTask": "prompt_tuning.methods.multi_task:MultiTask",
  "methods.Wayward": "prompt_tuning.methods.wayward:Wayward",
  "methods.PrefixTuning": "prompt_tuning.methods.prefix:PrefixTuning",
  "methods.LatePrompt": "prompt_tuning.methods.late:LatePrompt",
  "methods.DecomposedPrompt": "prompt_tuning.methods.decomposed:DecomposedPrompt",
  "methods.LoRA": "prompt_tuning.methods.lora:LoRA",
  "methods.MixtureOfPrompts": "prompt_tuning.methods.smop:MixtureOfPrompts",
  "methods.Attempt": "prompt_tuning.methods.attempt:Attempt",
  "calibration.learning_rate": "prompt_tuning.calibration:learning_rate",
  "calibration.start_scale": "prompt_tuning.calibration:start_scale",
  "adafactor.Adafactor": "prompt_tuning.training.adafactor:Adafactor",
  "losses.Loss": "prompt_tuning.training.losses:Loss",
  "losses.Hinge": "prompt_tuning.training.candidate_losses:Hinge",
  "losses.LabelCrossEntropy": "prompt_tuning.training.candidate_losses:LabelCrossEntropy",
  "utils.create_learning_rate_scheduler": "prompt_tuning.training.schedules:Schedule",
  "utils.DatasetConfig": "prompt_tuning.data.dataset_config:DatasetConfig",
  "utils.RestoreCheckpointConfig": (
    "prompt_tuning.checkpoints.restore:RestoreCheckpointConfig"
  ),
  "tables.Table": "prompt_tuning.data.table:Table",
  "trainer.Trainer": "prompt_tuning.training.trainer:Trainer",
  "partitioning.PjitPartitioner": "prompt_tuning.partitioning:Partitioner",
  "partitioning.standard_logical_axis_rules": (
    "prompt_tuning.axis_rules:standard_logical_axis_rules"
  ),
  "decoding.Prediction": "prompt_tuning.prediction:Prediction",
  "decoding.greedy": "prompt_tuning.decoding.greedy:Greedy",
  "decoding.temperature_sample": "prompt_tuning.decoding.sampling:Sampling",
  "decoding.beam_search": "prompt_tuning.decoding.beam:Beam",
  "objectives.Objective": "prompt_tuning.data.objective_config:Objective",
  "objectives.Noise": "prompt_tuning.data.spans:Noise",
}

# What a command runs: name in gin -> the dataclass that it binds.
RUNS = {
  "train.train": "prompt_tuning.train_config:TrainConfig",
  "sweep.sweep": "prompt_tuning.sweep_config:SweepConfig",
  "eval.evaluate": "prompt_tuning.eval:EvalConfig",
  "ensemble.ensemble": "prompt_tuning.ensemble:EnsembleConfig",
  "infer.infer": "prompt_tuning.infer:InferConfig",
  "tokens.tokens": "prompt_tuning.tokens:TokensConfig",
  "pretrain.pretrain": "prompt_tuning.pretrain_config:PretrainConfig",
  "predictor.predictor": "prompt_tuning.predictor_config:PredictorConfig",
}


def folder() -> pathlib.Path:
  """The folder of the configs that came with the package."""
  installed = _PACKAGE / "configs"
  return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def load(
  run: str,
  files: Sequence[str],
  bindings: Sequence[str] = (),
  search_paths: Sequence[str] = (),
  otherwise: Mapping[str, Any] | None = None,
) -> tuple[Any, str]:
  """Parses gin and builds the settings of a run, without starting it.

  Args:
    run: A key of `RUNS`.
    files: gin files in order; later ones win.
    bindings: "NAME = value" lines, which win over files.
    search_paths: Folders in which files and includes are looked up.
    otherwise: {macro: value} for required macros that nobody sets.

  Returns:
    The settings, and the operative config as gin text.

  Raises:
    InputError: A file, macro or binding is unknown, or required macros are missing.
  """
  _parse(files, bindings, search_paths, otherwise)
  with _understood(f"the settings of {run}"):
    settings = _collector(run)()
  return settings, gin.operative_config_str()


def query(macro: str, files: Sequence[str], bindings: Sequence[str] = ()) -> Any:
  """The value that a macro has after parsing `files`.

  Raises:
    InputError: As `load`.
  """
  _parse(files, [*bindings, f"query.value = %{macro}"], ())
  with _understood(f"the macro {macro}"):
    return _registered["query"]()


def _parse(
  files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[str],
  otherwise: Mapping[str, Any] | None = None,
) -> None:
  gin.clear_config(clear_constants=True)
  _register()
  _reader.search_paths = [pathlib.Path(path) for path in search_paths]
  parsed = []
  with gin.unlock_config():
    for name in files:
      _reader.check(name)
      with _understood(f"the gin file {name}"):
        parsed.append(gin.parse_config_file(name))
    for binding in bindings:
      with _understood(f"the binding {binding!r}"):
        gin.parse_config(binding)
    for macro, value in (otherwise or {}).items():
      if _is_missing(macro):
        gin.parse_config(f"{macro} = {value!r}")
  file_order.check(files, _reader.text)
  _check_macros([_reader.text(name) for name in _names(parsed)], bindings)


@contextlib.contextmanager
def _understood(what: str) -> Iterator[None]:
  """Turns whatever gin raises about `what` into an `InputError`."""
  try:
    yield
  except checks.InputError as error:
    sentence, _, _ = str(error).partition("\n  In call to configurable")  # gin's addition
    raise checks.InputError(sentence) from error
  except (
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
  ) as error:
    raise checks.InputError(_gin_error(what, error)) from error


def _names(parsed: Iterable[Any]) -> list[str]:
  """Names of parsed files and of all that they include."""
  names = []
  for one in parsed:
    names += [one.filename, *_names(one.includes)]
  return names


def _gin_error(what: str, error: Exception) -> str:
  text = str(error).strip()
  unknown = re.search(r"No configurable matching '([^']+)'", text)
  if unknown:
    name = unknown[1]
    close = checks.nearest(name, [*CONFIGURABLES, *RUNS])
    return f"{what} binds {name!r}, which is unknown; nearest: {', '.join(close)}"
  reason = " ".join(line.strip() for line in text.splitlines())
  return f"{what}: the config cannot be used ({reason}); correct the gin file or flag"


def _check_macros(texts: Iterable[str], bindings: Iterable[str]) -> None:
  """Every macro used has a value, and every macro set on the command line is used."""
  given = "\n".join(bindings)
  in_files = re.sub(r"#.*", "", "\n".join(texts))
  used = set(_MACRO.findall(f"{in_files}\n{given}"))
  bound = map(_BOUND_MACRO.match, in_files.splitlines())
  known = used | {match[1] for match in bound if match is not None}
  for line in given.splitlines():
    match = _BOUND_MACRO.match(line)
    if match and match[1] not in known:
      raise checks.unknown("gin macro", match[1], sorted(known))
  missing = sorted(name for name in used if _is_missing(name))
  if missing:
    example = f'--gin.{missing[0]}="..."'
    raise checks.InputError(
      f"required gin macros have no value: {', '.join(missing)}; set each, e.g. {example}"
    )


def _is_missing(macro: str) -> bool:
  try:
    value = gin.query_parameter(f"{macro}/gin.macro.value")
  except ValueError:
    return True
  return repr(value) == _REQUIRED or value is gin.REQUIRED


class _Reader:
  """Finds gin files in the search paths, the working folder and the package."""

  def __init__(self):
    self.search_paths: list[pathlib.Path] = []

  def find(self, name: str) -> pathlib.Path | None:
    """The file that a name means, or None."""
    folders = [*self.search_paths, pathlib.Path(".")]
    places = [*(path / name for path in folders), folder() / name.removeprefix(_PREFIX)]
    return next((path for path in places if path.is_file()), None)

  def check(self, name: str) -> bool:
    """Raises `InputError` when a name means no file."""
    if self.find(name) is None:
      known = [str(p.relative_to(folder())) for p in sorted(folder().rglob("*.gin"))]
      raise checks.unknown("gin file", name.removeprefix(_PREFIX), known)
    return True

  def text(self, name: str) -> str:
    """The content of a file that exists."""
    with self.open(name) as lines:
      return lines.read()

  def open(self, name: str) -> TextIO:
    """The file, opened for reading."""
    path = self.find(name)
    assert path is not None  # gin and we ask `check` first
    return path.open(encoding="utf-8")


_reader = _Reader()
_registered: dict[str, Any] = {}


def _collector(run: str) -> Any:
  checks.choice("run", run, list(RUNS))
  return _registered[run]


def _register() -> None:
  """Registers the table with gin, once."""
  if _registered:
    return
  # gin's own readers would take a folder of the same name on sys.path for ours.
  gin.config._FILE_READERS[:] = [(_reader.open, _reader.check)]
  for name, home in {**CONFIGURABLES, **RUNS}.items():
    module, _, attribute = home.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    scope, _, short = name.rpartition(".")
    _registered[name] = gin.external_configurable(target, name=short, module=scope)

  def value_of(value: Any = gin.REQUIRED) -> Any:
    return value

  _registered["query"] = gin.external_configurable(value_of, name="query", module="config")
