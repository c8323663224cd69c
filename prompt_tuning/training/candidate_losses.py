"""Losses that rank the candidates of an example, where others teach to generate one.

  candidate       log p of its tokens    score    right
  negative </s>   -1.2 -0.1              -0.65    .        scores are per token
  positive </s>   -0.3 -0.1              -0.20    1        where `length_normalize`
  (no token)      .    .                 .        .        neither right nor wrong

Examples of which no candidate is right teach nothing and are not counted.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.training.losses import token_losses
from prompt_tuning.training.quarters import where_weighted
from prompt_tuning.types import Array


def as_rows(batch: Mapping[str, Array]) -> dict[str, Array]:
  """Every pair of input and target as a row: [batch, candidates, ...] are folded.

  Args:
    batch: Arrays [batch, candidates, ...]; those of one axis, such as `prompt_ids`, are
      the same for all candidates of an example.
  """
  count = batch["decoder_target_tokens"].shape[1]
  return {
    name: jnp.repeat(x, count) if x.ndim == 1 else x.reshape(-1, *x.shape[2:])
    for name, x in batch.items()
  }


def scores(log_likelihoods: Array, weights: Array, length_normalize: bool) -> Array:
  """What candidates are ranked by.

  Args:
    log_likelihoods: [..., target_len] float32, of tokens.
    weights: [..., target_len] float32, 0 at padding.
    length_normalize: Whether to divide by the sum of the weights.

  Returns:
    [...] float32; 0 for a candidate without tokens.
  """
  found, length = jnp.sum(log_likelihoods * weights, -1), jnp.sum(weights, -1)
  return found / jnp.where(length > 0, length, 1.0) if length_normalize else found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking(abc.ABC):
  """A loss of the scores of candidates, summed over examples.

  Attributes:
    length_normalize: Whether a score is the mean over tokens instead of the sum.
  """

  length_normalize: bool = True
  features: ClassVar = ("inputs", "targets", "is_correct")

  @abc.abstractmethod
  def of_scores(self, scores: Array, right: Array, wrong: Array) -> Array:
    """The loss of each example, [batch] float32.

    Args:
      scores: [batch, candidates] float32.
      right: [batch, candidates] bool, one at least in each row.
      wrong: [batch, candidates] bool; what is neither does not count.
    """

  def rows(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    """See `Criterion`."""
    return as_rows(batch)

  def of_hidden(
    self, hidden: Array, logits_of: Callable[[Array], Array], batch: Mapping[str, Any]
  ) -> tuple[Array, dict[str, Array]]:
    """See `Criterion`; sums are "loss", "right" and "examples"."""
    weights = batch["decoder_loss_weights"].astype(jnp.float32)
    rows = as_rows(batch)

    def of_tokens(hidden: Array, targets: Array) -> tuple[Array, tuple[()]]:
      return token_losses(logits_of(hidden), targets)[0], ()

    losses, _ = where_weighted(
      of_tokens, rows["decoder_loss_weights"], hidden, rows["decoder_target_tokens"]
    )
    found = scores(-losses.reshape(weights.shape), weights, self.length_normalize)
    real, correct = jnp.any(weights > 0, axis=-1), batch["is_correct"]
    counted = jnp.any(real & correct, axis=-1)
    # Without a right candidate all take its place, so that no number is infinite.
    right = (real & correct) | ~counted[:, None]
    loss = self.of_scores(found, right, real & ~correct)
    total = jnp.sum(jnp.where(counted, loss, 0.0))
    best = jnp.argmax(jnp.where(real, found, -jnp.inf), axis=-1, keepdims=True)
    hits = jnp.take_along_axis(real & correct, best, axis=-1)
    return total, {
      "loss": total,
      "right": jnp.sum(hits.astype(jnp.float32)),
      "examples": jnp.sum(counted.astype(jnp.float32)),
    }

  @staticmethod
  def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The loss of a step and the share of examples whose best candidate is right."""
    total = {name: sum(float(row[name]) for row in rows) for name in rows[0]}
    return {
      "loss": total["loss"] / len(rows),
      "accuracy": total["right"] / max(total["examples"], 1.0),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hinge(Ranking):
  """max(0, margin + the best wrong score - the best right score), a perceptron's.

  google-research/prompt-tuning takes the maximum over all candidates, so that its loss is
  the constant margin, without a gradient, as soon as the right one is on top: the margin
  is never used. And it adds up the scores of several right ones, which is no score.

  Attributes:
    margin: By how much the right one has to lead, in nats.
  """

  margin: float = 0.2

  def __post_init__(self):
    checks.number("MARGIN", self.margin, 0, "write a number of nats without quotes")

  def of_scores(self, scores: Array, right: Array, wrong: Array) -> Array:
    """See `Ranking`."""
    best_right = jnp.max(scores, axis=-1, where=right, initial=-jnp.inf)
    best_wrong = jnp.max(scores, axis=-1, where=wrong, initial=-jnp.inf)
    return jax.nn.relu(self.margin + best_wrong - best_right)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelCrossEntropy(Ranking):
  """Cross entropy of the softmax over scores; a perfect prediction costs 0.

  Attributes:
    z_loss: Weight of log(Z)^2, Z being the sum of the exponentials of the scores.
    label_smoothing: Mass that the wrong candidates share, in [0, 1); the right ones share
      the rest.
  """

  z_loss: float = 1e-4
  label_smoothing: float = 0.0

  def __post_init__(self):
    checks.number("Z_LOSS", self.z_loss, 0, "write a number without quotes")
    checks.number("LABEL_SMOOTHING", self.label_smoothing, 0, "write e.g. 0.1")
    if self.label_smoothing >= 1:
      raise checks.InputError(
        f"LABEL_SMOOTHING is {self.label_smoothing}, expected less than 1, for it is what "
        "the wrong candidates get; write e.g. 0.1"
      )

  def of_scores(self, scores: Array, right: Array, wrong: Array) -> Array:
    """See `Ranking`."""
    log_z = jax.nn.logsumexp(scores, axis=-1, where=right | wrong)
    mass = self._mass(right, wrong)
    gap = jnp.where(right | wrong, log_z[:, None] - scores, 0.0)
    loss = jnp.sum(mass * gap + jax.scipy.special.xlogy(mass, mass), axis=-1)
    return loss + self.z_loss * jnp.square(log_z)

  def _mass(self, right: Array, wrong: Array) -> Array:
    """What a perfect prediction would be: [batch, candidates], each row adds up to 1."""
    num_right = jnp.sum(right, axis=-1, keepdims=True, dtype=jnp.float32)
    num_wrong = jnp.sum(wrong, axis=-1, keepdims=True, dtype=jnp.float32)
    low = jnp.where(num_wrong > 0, self.label_smoothing, 0.0)
    of_wrong = jnp.where(wrong, low / jnp.maximum(num_wrong, 1.0), 0.0)
    return jnp.where(right, (1.0 - low) / num_right, of_wrong)
