"""T5X's learning-rate language: factors joined by "*"."""

import dataclasses

import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.types import Array

FACTORS = (
  "constant",
  "linear_warmup",
  "linear_decay",
  "rsqrt_decay",
  "rsqrt_normalized_decay",
  "decay_every",
  "cosine_decay",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """Learning rate by step: the product of the named factors, floored.

  Attributes:
    factors: Names from `FACTORS` joined by "*", e.g. "constant * rsqrt_decay".
    base_learning_rate: Of `constant` and `linear_decay`.
    warmup_steps: Steps of warm-up, and where rsqrt and cosine decay begin.
    decay_factor: Of `decay_every` and `linear_decay`.
    steps_per_decay: Of `decay_every`.
    steps_per_cycle: Of `cosine_decay`.
    step_offset: Steps before the schedule begins.
    min_learning_rate: Lower bound of the result.
  """

  factors: str = "constant * linear_warmup * rsqrt_decay"
  base_learning_rate: float = 0.5
  warmup_steps: int = 1000
  decay_factor: float = 0.5
  steps_per_decay: int = 20000
  steps_per_cycle: int = 100000
  step_offset: int = 0
  min_learning_rate: float = 1e-8

  def __post_init__(self):
    rate = self.base_learning_rate
    checks.number("LEARNING_RATE", rate, 0.0, "the paper uses 0.3, without quotes")
    for name in self._names():
      checks.choice("learning-rate factor", name, FACTORS)

  def _names(self) -> list[str]:
    return [name.strip() for name in self.factors.split("*")]

  def __call__(self, step: Array | int) -> Array:
    """float32 learning rate at `step`, an integer scalar or array."""
    step = jnp.maximum(0, jnp.asarray(step) - self.step_offset).astype(jnp.float32)
    rate = jnp.ones_like(step)
    for name in self._names():
      rate = rate * getattr(self, f"_{name}")(step)
    return jnp.maximum(rate, self.min_learning_rate)

  def _constant(self, step: Array) -> Array:
    return jnp.full_like(step, self.base_learning_rate)

  def _linear_warmup(self, step: Array) -> Array:
    return jnp.minimum(1.0, step / self.warmup_steps)

  def _linear_decay(self, step: Array) -> Array:
    decayed = 1.0 + self.decay_factor * (self.warmup_steps - step)
    return self.base_learning_rate * jnp.minimum(step / self.warmup_steps, decayed)

  def _rsqrt_decay(self, step: Array) -> Array:
    return 1.0 / jnp.sqrt(jnp.maximum(step, float(self.warmup_steps)))

  def _rsqrt_normalized_decay(self, step: Array) -> Array:
    return self._rsqrt_decay(step) * jnp.sqrt(float(self.warmup_steps))

  def _decay_every(self, step: Array) -> Array:
    return self.decay_factor ** (step // self.steps_per_decay)

  def _cosine_decay(self, step: Array) -> Array:
    progress = jnp.maximum(0.0, (step - self.warmup_steps) / self.steps_per_cycle)
    return jnp.maximum(0.0, 0.5 * (1.0 + jnp.cos(jnp.pi * (progress % 1.0))))
