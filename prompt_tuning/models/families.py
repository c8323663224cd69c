"""The families of models: which plain model a config makes."""

from prompt_tuning.models.config import T5Config
from prompt_tuning.models.llama import Llama
from prompt_tuning.models.llama_config import LlamaConfig
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.t5 import T5

ModelConfig = T5Config | LlamaConfig
Model = T5 | Llama


def model(config: ModelConfig, params: Parameters) -> Model:
  """The plain model of a config."""
  return T5(config, params) if isinstance(config, T5Config) else Llama(config, params)


def abstract(config: ModelConfig, dtype: str = "float32") -> Model:
  """The model with shapes in place of arrays; see `T5.abstract`."""
  return model(config, Parameters.abstract(dtype))
