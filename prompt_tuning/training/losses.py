"""Token cross entropy as T5X computes it: a sum, with z-loss and label smoothing."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.training.quarters import where_weighted
from prompt_tuning.types import Array

NORMALIZING_FACTORS = (
  "NUM_REAL_TARGET_TOKENS",
  "NUM_TOTAL_TARGET_TOKENS",
  "AVERAGE_PER_SEQUENCE",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
  """What is minimized.

  Attributes:
    z_loss: Weight of log(Z)^2, which keeps the logits from drifting.
    label_smoothing: Probability mass spread over the wrong tokens, in [0, 1).
    normalizing_factor: None for the plain sum over tokens, a number to divide it by,
      or one of `NORMALIZING_FACTORS` (any case).
  """

  z_loss: float = 1e-4
  label_smoothing: float = 0.0
  normalizing_factor: float | str | None = None
  features: ClassVar = ("inputs", "targets")

  def __post_init__(self):
    if isinstance(self.normalizing_factor, str):
      name = self.normalizing_factor.upper()
      checks.choice("LOSS_NORMALIZING_FACTOR", name, NORMALIZING_FACTORS)

  def __call__(
    self,
    logits: Array,
    targets: Array,
    loss_weights: Array,
    segment_ids: Array | None = None,
  ) -> tuple[Array, Array]:
    """The loss of every token, already weighted and normalized.

    Args:
      logits: [batch, target_len, vocab].
      targets: [batch, target_len] int32.
      loss_weights: [batch, target_len], 0 at padding.
      segment_ids: [batch, target_len] int32 where rows are packed.

    Returns:
      Two float32 arrays [batch, target_len]: loss with z-loss, and z-loss alone.
    """
    losses = self.of_tokens(logits, targets)
    return self.weighted(losses, loss_weights, segment_ids)

  def of_tokens(self, logits: Array, targets: Array) -> tuple[Array, Array]:
    """`token_losses` as set."""
    return token_losses(logits, targets, self.z_loss, self.label_smoothing)

  def weighted(
    self, losses: Sequence[Array], loss_weights: Array, segment_ids: Array | None = None
  ) -> tuple[Array, Array]:
    """Weighs and normalizes what `of_tokens` returned; arguments as in `__call__`."""
    weights, factor = normalized_weights(
      loss_weights.astype(jnp.float32), self.normalizing_factor, segment_ids
    )
    loss, z_loss = losses
    return loss * weights / factor, z_loss * weights / factor

  def rows(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `Criterion`: the batch as it is."""
    return batch

  def of_hidden(
    self, hidden: Array, logits_of: Callable[[Array], Array], batch: Mapping[str, Any]
  ) -> tuple[Array, dict[str, Array]]:
    """See `Criterion`; sums are "loss", "z_loss", "right" and "tokens"."""
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]

    def of_tokens(hidden: Array, targets: Array) -> tuple[Array, tuple[Array, Array]]:
      logits = logits_of(hidden)
      right = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
      token_loss, token_z_loss = self.of_tokens(logits, targets)
      return token_loss, (token_z_loss, right)

    found, (z_loss, right) = where_weighted(of_tokens, weights, hidden, targets)
    segment_ids = batch.get("decoder_segment_ids")
    token_loss, token_z_loss = self.weighted((found, z_loss), weights, segment_ids)
    weights = weights.astype(jnp.float32)
    total = jnp.sum(token_loss)
    return total, {
      "loss": total,
      "z_loss": jnp.sum(token_z_loss),
      "right": jnp.sum(right * weights),
      "tokens": jnp.sum(weights),
    }

  @staticmethod
  def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """T5X's training metrics from the sums of some steps, on the host."""
    total = {name: sum(float(row[name]) for row in rows) for name in rows[0]}
    tokens = max(total["tokens"], 1.0)
    return {
      "loss": total["loss"] / len(rows),
      "z_loss": total["z_loss"] / len(rows),
      "cross_ent_loss": (total["loss"] - total["z_loss"]) / len(rows),
      "loss_per_nonpadding_target_token": total["loss"] / tokens,
      "accuracy": total["right"] / tokens,
    }


def token_losses(
  logits: Array, targets: Array, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
  """Cross entropy plus z-loss, and z-loss alone, for each token.

  With smoothing s over V classes the target distribution is 1 - s at the target and
  s / (V - 1) elsewhere; its entropy is subtracted so that a perfect prediction costs 0.

  Args:
    logits: [..., vocab].
    targets: [...] int32.
    z_loss: Weight of log(Z)^2.
    label_smoothing: In [0, 1).

  Returns:
    Two float32 arrays of the shape of `targets`.
  """
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  at_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  loss = log_z - at_target
  if label_smoothing:
    vocab = logits.shape[-1]
    low = label_smoothing / (vocab - 1)
    confidence = 1.0 - label_smoothing
    total = vocab * log_z - jnp.sum(logits, axis=-1)
    entropy = -(
      confidence * math.log(confidence) + (vocab - 1) * low * math.log(low + 1e-20)
    )
    loss = (confidence - low) * loss + low * total - entropy
  penalty = z_loss * jnp.square(log_z)
  return loss + penalty, penalty


def normalized_weights(
  weights: Array, factor: float | str | None, segment_ids: Array | None = None
) -> tuple[Array, Array | float]:
  """Token weights and the number to divide by, for each normalizing factor.

  Args:
    weights: [batch, target_len] float32.
    factor: See `Loss.normalizing_factor`.
    segment_ids: [batch, target_len] int32 where rows are packed; without it a row is
      one sequence.
  """
  if factor is None:
    return weights, 1.0
  if not isinstance(factor, str):
    return weights, float(factor)
  name = factor.upper()
  if name == "NUM_REAL_TARGET_TOKENS":
    return weights, jnp.sum(weights)
  if name == "NUM_TOTAL_TARGET_TOKENS":
    return weights, float(weights.size)
  if segment_ids is None:
    segment_ids = jnp.ones(weights.shape, jnp.int32)
  together = (segment_ids[:, :, None] == segment_ids[:, None, :]).astype(jnp.float32)
  per_sequence = jnp.einsum("bqk,bk->bq", together, weights)
  weights = jnp.where(per_sequence > 0, weights / jnp.maximum(per_sequence, 1e-9), 0.0)
  return weights, jnp.sum(weights)
