"""The loss against its formula (contract sections 3.1 and 3.2)."""

import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning import checks
from prompt_tuning.training.losses import Loss, normalized_weights, token_losses


def by_formula(logits, targets, z_loss, smoothing):
  vocab = logits.shape[-1]
  confidence, low = 1 - smoothing, smoothing / (vocab - 1)
  log_z = np.log(np.exp(logits).sum(-1, keepdims=True))
  soft = np.full(logits.shape, low)
  np.put_along_axis(soft, targets[..., None], confidence, -1)
  cross_entropy = -(soft * (logits - log_z)).sum(-1)
  constant = -(confidence * np.log(confidence) + (vocab - 1) * low * np.log(low + 1e-20))
  penalty = z_loss * log_z[..., 0] ** 2
  return cross_entropy + penalty - constant, penalty


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_token_losses_follow_the_formula(smoothing, z_loss):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4, 11)).astype(np.float32)
  targets = rng.integers(0, 11, (3, 4)).astype(np.int32)
  found = token_losses(jnp.asarray(logits), jnp.asarray(targets), z_loss, smoothing)
  for ours, theirs in zip(
    found, by_formula(logits, targets, z_loss, smoothing), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


WEIGHTS = jnp.asarray([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
SEGMENTS = jnp.asarray([[1, 1, 1, 2, 2, 0]])


def test_average_per_sequence_counts_packed_sequences():
  weights, factor = normalized_weights(WEIGHTS, "average_per_sequence", SEGMENTS)
  np.testing.assert_allclose(weights, [[1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 0]], rtol=1e-6)
  np.testing.assert_allclose(factor, 2.0, rtol=1e-6)


def test_other_factors_divide_by_tokens_or_a_number():
  assert normalized_weights(WEIGHTS, None)[1] == 1.0
  assert normalized_weights(WEIGHTS, 4.0)[1] == 4.0
  assert float(normalized_weights(WEIGHTS, "NUM_REAL_TARGET_TOKENS")[1]) == 5.0
  assert normalized_weights(WEIGHTS, "NUM_TOTAL_TARGET_TOKENS")[1] == 6.0


def test_an_unknown_factor_is_refused():
  with pytest.raises(checks.InputError, match="NUM_REAL_TARGET_TOKENS"):
    Loss(normalizing_factor="NUM_REAL_TOKENS")
