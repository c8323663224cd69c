"""Packed = unpacked, by the package's own packer, for hundreds of random mixes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.data.packing import Packer, Packing
from prompt_tuning.prompts import combine, masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import steps
from prompt_tuning.training.losses import Loss

INPUTS, TARGETS, EXAMPLES, MIXES = 24, 16, 8, 24
BLIND = masks.FULL - {masks.PROMPT_TO_INPUT}
LOSSES = {
  "sum": Loss(z_loss=1e-3),
  "each sequence alike": Loss(normalizing_factor="AVERAGE_PER_SEQUENCE"),
}


def mix(rng):
  """A few examples with lengths from short to full, EOS at the end of both sides."""

  def tokens(most):
    length = int(rng.integers(1, rng.integers(2, most + 1) + 1))
    found = np.zeros(most, np.int32)
    found[: length - 1] = rng.integers(3, 64, length - 1)
    found[length - 1] = 1
    return found

  return {
    "inputs": np.stack([tokens(INPUTS) for _ in range(EXAMPLES)]),
    "targets": np.stack([tokens(TARGETS // 3) for _ in range(EXAMPLES)]),
  }


def unpacked(examples):
  targets = examples["targets"]
  return {
    "encoder_input_tokens": examples["inputs"],
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_target_tokens": targets,
    "decoder_loss_weights": (targets > 0).astype(np.int32),
  }


def packed(examples, prompt_len, how):
  """A mix in rows with room for about four, as one batch; empty rows at the end."""
  packing = Packing(prompt_len=prompt_len, combine=how)
  lengths = {"inputs": 3 * prompt_len + 2 * INPUTS, "targets": TARGETS}
  (found,) = Packer(iter([examples]), lengths, EXAMPLES, packing)
  assert found["encoder_segment_ids"].max() > 1
  return found


@pytest.mark.parametrize(
  ("how", "visibility", "prompt_len", "loss"),
  [
    ("prefix", masks.FULL, 1, "each sequence alike"),
    ("prefix", masks.FULL, 20, "sum"),
    ("prefix", masks.FULL, 150, "each sequence alike"),
    ("suffix", masks.FULL, 1, "sum"),
    ("suffix", masks.FULL, 33, "each sequence alike"),
    ("suffix_before_eos", masks.FULL, 2, "each sequence alike"),
    ("suffix_before_eos", masks.FULL, 100, "sum"),
    ("prefix", BLIND, 1, "sum"),
    ("prefix", BLIND, 50, "each sequence alike"),
    ("prefix", BLIND, 150, "sum"),
  ],
)
def test_loss_and_gradient_of_any_mix(tiny_t5, how, visibility, prompt_len, loss):
  prompt = jax.random.normal(jax.random.key(prompt_len), (prompt_len, 16))

  @jax.jit
  def of(prompt, batch):
    def total(prompt):
      place = getattr(combine, how)
      model = PromptedT5(tiny_t5, PromptBank(prompt), place, visibility)
      logits = model.logits(**steps.features(batch))
      segments = batch.get("decoder_segment_ids")
      targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
      tokens, _ = LOSSES[loss](logits, targets, weights, segments)
      return jnp.sum(tokens), tokens

    return jax.value_and_grad(total, has_aux=True)(prompt)

  rng = np.random.default_rng(prompt_len)
  for _ in range(MIXES):
    examples = mix(rng)
    rows = packed(examples, 0 if masks.is_input_blind(visibility) else prompt_len, how)
    (expected, alone), expected_gradient = of(prompt, unpacked(examples))
    (found, together), gradient = of(prompt, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    scale = float(jnp.abs(expected_gradient).max())
    np.testing.assert_allclose(gradient / scale, expected_gradient / scale, atol=1e-5)
    np.testing.assert_allclose(
      np.sort(per_example(together, rows["decoder_segment_ids"])),
      np.sort(np.asarray(alone).sum(axis=1)),
      rtol=1e-5,
      atol=1e-6,
    )


def per_example(tokens, segments):
  """The loss of each segment of each row, from that of each token."""
  tokens = np.asarray(tokens)
  return [
    float(row[ids == segment].sum())
    for row, ids in zip(tokens, segments, strict=True)
    for segment in range(1, ids.max() + 1)
  ]
