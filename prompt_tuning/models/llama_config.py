"""The numbers that make a model of the llama family: one frozen dataclass."""

import dataclasses
import math
from typing import ClassVar

from prompt_tuning import checks
from prompt_tuning.models import remat


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
  """Shape and arithmetic of a Llama, SmolLM2 or Qwen2.

  Attributes:
    vocab_size: Rows of the embedding table.
    d_model: Width of the residual stream.
    num_heads: Query heads. num_heads * d_kv need not equal d_model.
    num_kv_heads: Heads of keys and values, each for num_heads / num_kv_heads query heads.
    d_kv: Width of one head, even.
    d_ff: Hidden width of the MLP.
    num_layers: Layers.
    rope_base: Base of the rotary wavelengths.
    norm_epsilon: Of the RMS norms.
    tied_logits: Logits from the embedding table, or from their own matrix.
    attention_bias: Whether queries, keys and values have biases (Qwen2).
    dropout_rate: Probability in [0, 1), used only where a dropout key is given.
    dtype: Of activations. Logits are float32, weights what they were loaded as.
    remat: See `T5Config.remat`.
  """

  vocab_size: int
  d_model: int
  num_heads: int
  num_kv_heads: int
  d_kv: int = 64
  d_ff: int
  num_layers: int
  rope_base: float = 10000.0
  norm_epsilon: float = 1e-5
  tied_logits: bool = True
  attention_bias: bool = False
  dropout_rate: float = 0.0
  dtype: str = "float32"
  remat: str = "none"
  family: ClassVar[str] = "llama"
  mlp_activations: ClassVar[tuple[str, ...]] = ("silu", "linear")

  def __post_init__(self):
    remat.check(self.remat)
    if self.num_heads % self.num_kv_heads or self.d_kv % 2:
      raise checks.InputError(
        f"the model has {self.num_heads} heads, {self.num_kv_heads} of keys and values, "
        f"each {self.d_kv} wide, expected a divisor of the first and an even width; "
        "correct the config"
      )

  @property
  def depth(self) -> int:
    """Layers."""
    return self.num_layers

  def with_depth(self, depth: int) -> "LlamaConfig":
    """The same with another number of layers."""
    return dataclasses.replace(self, num_layers=depth)

  def share(self, parts: int) -> "LlamaConfig":
    """What one of `parts` devices sees of a model that is split over them."""
    heads = self.num_heads // parts
    return dataclasses.replace(
      self,
      num_heads=heads,
      num_kv_heads=math.gcd(self.num_kv_heads, heads),
      d_ff=self.d_ff // parts,
      vocab_size=self.vocab_size // parts,
    )
