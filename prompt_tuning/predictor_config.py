"""The settings of a predictor, as gin gives them (`runs/predictor.gin`)."""

import dataclasses
from collections.abc import Mapping

from prompt_tuning import assembly
from prompt_tuning.checkpoints.restore import RestoreCheckpointConfig
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.step import Algorithm
from prompt_tuning.models.families import ModelConfig
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.predictor import Predictor, check_limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictorConfig:
  """One frozen model and the prompts that it starts with.

  Attributes:
    model: Shape of the frozen model.
    vocabulary: Its vocabulary.
    checkpoint: Its weights.
    prompts: {name: path of a prompt}.
    labels: {name: words that the prompt chooses from}.
    partitioner: Which devices.
    capacity: Most prompts at a time.
    max_prompt_len: Length of the longest prompt.
    max_input_len: Longest text in tokens, EOS included.
    max_output_len: Longest decoded answer in tokens, EOS included.
    batch_size: Most rows of one pass.
    decoding: How answers are decoded.
  """

  model: ModelConfig
  vocabulary: Vocabulary
  checkpoint: RestoreCheckpointConfig
  prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
  labels: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
  partitioner: Partitioner = Partitioner()
  capacity: int = 16
  max_prompt_len: int = 100
  max_input_len: int = 512
  max_output_len: int = 32
  batch_size: int = 32
  decoding: Algorithm = Greedy()

  def check(self) -> None:
    """Raises `InputError` for settings that contradict each other."""
    self.partitioner.check()
    check_limits(
      capacity=self.capacity,
      max_prompt_len=self.max_prompt_len,
      max_input_len=self.max_input_len,
      max_output_len=self.max_output_len,
      batch_size=self.batch_size,
    )

  def load(self) -> Predictor:
    """Loads the model and its prompts.

    Raises:
      InputError: Checkpoint or prompt cannot be used.
    """
    self.check()
    layout = self.partitioner.layout(self.batch_size)
    return Predictor(
      assembly.load_base(self.model, self.checkpoint, layout=layout),
      self.prompts,
      self.labels,
      self.vocabulary,
      self.capacity,
      self.max_prompt_len,
      self.max_input_len,
      self.max_output_len,
      self.batch_size,
      self.decoding,
      layout.mesh,
    )
