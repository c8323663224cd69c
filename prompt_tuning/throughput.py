"""How fast a run is, and how fast the machine could be at most."""

import dataclasses
import time

import jax
import jax.numpy as jnp

from prompt_tuning.models.families import ModelConfig
from prompt_tuning.models.llama_config import LlamaConfig

_SIDE = 2048  # of the square matrices
_REPEATS = 10


def matmul_peak(dtype: str) -> float:
  """Operations per second of one large matrix product on one device, best of ten."""
  x = jax.random.normal(jax.random.key(0), (_SIDE, _SIDE), jnp.dtype(dtype))
  product = jax.jit(jnp.matmul)
  jax.block_until_ready(product(x, x))
  best = float("inf")
  for _ in range(_REPEATS):
    began = time.perf_counter()
    jax.block_until_ready(product(x, x))
    best = min(best, time.perf_counter() - began)
  return 2 * _SIDE**3 / best


def training_flops(
  config: ModelConfig, rows: int, input_len: int, target_len: int
) -> float:
  """Matrix-product operations of one update of all weights, padding included.

  The backward pass costs twice the forward pass; softmax, norms and the optimizer are
  not counted.
  """
  joined = config.num_heads * config.d_kv
  projection = config.d_model * joined
  mlp = (len(config.mlp_activations) + 1) * config.d_model * config.d_ff
  logits = target_len * config.d_model * config.vocab_size
  if isinstance(config, LlamaConfig):
    shared = projection * config.num_kv_heads / config.num_heads
    length = input_len + target_len
    layer = length * (2 * projection + 2 * shared + mlp + 2 * length * joined)
    return 3 * 2 * rows * (config.num_layers * layer + logits)
  encoder = input_len * (4 * projection + mlp + 2 * input_len * joined)
  decoder = target_len * (6 * projection + mlp + 2 * (target_len + input_len) * joined)
  decoder += input_len * 2 * projection  # keys and values of the encoder's output
  total = config.num_encoder_layers * encoder + config.num_decoder_layers * decoder + logits
  return 3 * 2 * rows * total


@dataclasses.dataclass
class Meter:
  """Work and time of the updates, compilation included, without evaluation and saving.

  Attributes:
    steps: Updates.
    positions: Encoder and decoder positions, padding included.
    tokens: Those that are not padding.
    flops: See `training_flops`.
    seconds: Time.
  """

  steps: int = 0
  positions: int = 0
  tokens: int = 0
  flops: float = 0.0
  seconds: float = 0.0

  def report(self, peak: float) -> dict[str, float]:
    """Rates, and the share of the peak that was reached."""
    seconds = max(self.seconds, 1e-9)
    return {
      "tokens_per_second": self.tokens / seconds,
      "real_token_fraction": self.tokens / max(self.positions, 1),
      "gflops_per_second": self.flops / seconds / 1e9,
      "matmul_peak_gflops_per_second": peak / 1e9,
      "fraction_of_peak": self.flops / seconds / peak,
    }
