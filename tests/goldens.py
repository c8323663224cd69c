"""The original's stored outputs, and how ours are compared with them."""

import numpy as np

from prompt_tuning.decoding.beam import Beam
from prompt_tuning.decoding.greedy import Greedy
from prompt_tuning.decoding.sampling import Sampling
from prompt_tuning.models.config import T5Config

CONFIGS = {
  "tiny": T5Config(
    d_model=4,
    num_heads=2,
    d_kv=2,
    d_ff=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relative_buckets=4,
    relative_max_distance=8,
  ),
  "mid": T5Config(
    vocab_size=1024,
    d_model=256,
    num_heads=4,
    d_ff=512,
    num_encoder_layers=2,
    num_decoder_layers=2,
  ),
}
TOLERANCE = 1e-4  # relative to the largest value; float32 in another order

# Name of the original's algorithm -> ours. T5X's top-k 1 and temperature 0 score 0.
ALGORITHMS = {
  "greedy_beam1": [Greedy(), Beam(num_decodes=1)],
  "greedy_topk1": [Sampling(topk=1)],
  "temp0": [Sampling(temperature=0.0, topk=0)],
  "beam4_alpha0.6": [Beam(num_decodes=4, alpha=0.6)],
  "beam4_alpha0": [Beam(num_decodes=4, alpha=0.0)],
  "beam2_alpha1": [Beam(num_decodes=2, alpha=1.0)],
}
ENDLESS = ["greedy_beam1", "greedy_topk1", "temp0", "beam4_alpha0.6", "beam4_alpha0"]
ENDING = ["greedy_topk1", "beam4_alpha0.6", "beam4_alpha0", "beam2_alpha1"]


def batch_of(stored):
  return {k.removeprefix("batch/"): v for k, v in stored.items() if k.startswith("batch/")}


def assert_close(found, expected, tolerance=TOLERANCE):
  scale = np.max(np.abs(expected))
  np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def of_names(names):
  return [(name, decoding) for name in names for decoding in ALGORITHMS[name]]
