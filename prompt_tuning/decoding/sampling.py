"""Sampling with a temperature, from the k best tokens or from a nucleus.

The rules, the order of random draws and the scores are those of T5X's
`temperature_sample` (contract section 6.3).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import checks
from prompt_tuning.decoding.step import Step, log_probs, roll, taken
from prompt_tuning.types import Array, PyTree

_COLD = 1e-4  # at or below, sampling is greedy
_EXCLUDED = -1e7  # logit of a token that cannot be drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """Draws each token.

  Attributes:
    num_decodes: Answers per input.
    temperature: Divides the logits; one number, or one per input. 0 is greedy.
    topk: Draws from the k most probable tokens; 0 from all. T5X's default of 1 is greedy.
    topp: Draws from the smallest set of this probability (Holtzman et al. 2020); 0.0
      from all.
    rescale_log_probs: Whether scores are of the distribution drawn from, in which a
      greedy answer has score 0, rather than of the model's own.

  Raises:
    InputError: topk and topp are both given, or a number makes no sense.
  """

  num_decodes: int = 1
  temperature: float | Sequence[float] | Array = 1.0
  topk: int = 1
  topp: float = 0.0
  rescale_log_probs: bool = True

  def __post_init__(self):
    if self.topk and self.topp:
      raise checks.InputError(
        f"topk={self.topk} and topp={self.topp} are both given, expected one of them to "
        "be 0; for a nucleus set topk=0"
      )
    checks.whole("num_decodes", self.num_decodes, 1, "give the answers per input")
    checks.whole("topk", self.topk, 0, "give a number of tokens, or 0 for all")
    checks.number("topp", self.topp, 0, "give a probability, or 0 for all tokens")
    if self.topp > 1:
      raise checks.InputError(
        f"topp is {self.topp}, expected a probability; give 0.9 for 90 %"
      )
    if not isinstance(self.temperature, jax.core.Tracer):
      for value in np.atleast_1d(np.asarray(self.temperature)).tolist():
        checks.number("temperature", value, 0, "0 is greedy, 1 the model's own")

  def __call__(
    self,
    step: Step,
    cache: PyTree,
    batch: int,
    max_len: int,
    eos_id: int = 1,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """See `step.Algorithm`."""
    key = jax.random.key(0) if key is None else key
    rows = batch * self.num_decodes
    given = jnp.asarray(self.temperature, jnp.float32)
    temperature = jnp.repeat(jnp.broadcast_to(given, (batch,)), self.num_decodes)

    def choose(logits: Array, key: Array) -> tuple[Array, Array]:
      return self._draw(logits.astype(jnp.float32), temperature, key)

    tokens, scores = roll(step, choose, cache, rows, max_len, eos_id, key)
    tokens = tokens.reshape(batch, self.num_decodes, max_len)
    scores = scores.reshape(batch, self.num_decodes)
    order = jnp.argsort(scores, axis=1)
    return (
      jnp.take_along_axis(tokens, order[..., None], axis=1),
      jnp.take_along_axis(scores, order, axis=1),
    )

  def _draw(self, logits: Array, temperature: Array, key: Array) -> tuple[Array, Array]:
    """One token for each row, and its log-probability."""
    scaled = logits / jnp.maximum(temperature, _COLD)[:, None]
    scaled = _nucleus(_best(scaled, self.topk), self.topp)
    drawn = jax.random.categorical(key, scaled).astype(jnp.int32)
    cold = temperature <= _COLD
    tokens = jnp.where(cold, jnp.argmax(logits, axis=-1).astype(jnp.int32), drawn)
    if not self.rescale_log_probs:
      return tokens, taken(log_probs(logits), tokens)
    return tokens, jnp.where(cold, 0.0, taken(log_probs(scaled), tokens))


def _best(logits: Array, count: int) -> Array:
  """Excludes all but the `count` best of each row; those equal to the last one stay."""
  if not count:
    return logits
  last = jax.lax.top_k(logits, min(count, logits.shape[-1]))[0][:, -1:]
  return jnp.where(logits < last, _EXCLUDED, logits)


def _nucleus(logits: Array, mass: float) -> Array:
  """Excludes all but the smallest set of tokens whose probability reaches `mass`."""
  if not mass:
    return logits
  descending = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
  reached = jnp.cumsum(jax.nn.softmax(descending, axis=-1), axis=-1)
  last = jnp.sum((reached < mass).astype(jnp.int32), axis=-1, keepdims=True)
  last = jnp.minimum(last, logits.shape[-1] - 1)  # rounding may keep the sum below 1
  threshold = jnp.take_along_axis(descending, last, axis=-1)
  return jnp.where(logits < threshold, _EXCLUDED, logits)
