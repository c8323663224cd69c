"""The shape of the tiny T5 that the tests of this folder share."""

from prompt_tuning.models.config import T5Config

CONFIG = T5Config(
  vocab_size=4096,
  d_model=16,
  num_heads=2,
  d_kv=8,
  d_ff=32,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
