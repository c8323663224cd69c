"""T5X's Adafactor as an optax transformation.

It differs from `optax.adafactor` in what prompt tuning depends on: the decay rate comes
from the step counter (which may start at the pretrained checkpoint's step), weight decay
is not scaled by the learning rate, and which matrices are factored follows T5X's rule.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prompt_tuning.types import Array, PyTree, Shape

_EMPTY = (1,)  # shape of a slot that a parameter does not use, as T5X stores it


class Slots(NamedTuple):
  """Second moments and momentum of one parameter, float32; unused ones have shape (1,)."""

  v_row: Array
  v_col: Array
  v: Array
  m: Array


class AdafactorState(NamedTuple):
  """The step counter (int32 scalar) and one `Slots` per parameter."""

  step: Array
  slots: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor:
  """Shazeer & Stern (2018), with the arithmetic and the defaults of T5X.

  Attributes:
    decay_rate: Exponent of the second-moment decay 1 - (step + 1) ** -decay_rate.
    step_offset: Steps subtracted from the counter before that.
    factored: Whether large matrices keep row and column moments only.
    min_dim_size_to_factor: A matrix is factored when both sides reach this.
    multiply_by_parameter_scale: Scale updates by the RMS of the parameter.
    beta1: Momentum of the scaled update, or None.
    clipping_threshold: Largest RMS of an update before scaling, or None.
    weight_decay_rate: Fraction removed per step, not scaled by the learning rate.
    epsilon1: Added to squared gradients.
    epsilon2: Smallest parameter scale.
  """

  decay_rate: float = 0.8
  step_offset: int = 0
  factored: bool = True
  min_dim_size_to_factor: int = 128
  multiply_by_parameter_scale: bool = True
  beta1: float | None = None
  clipping_threshold: float | None = 1.0
  weight_decay_rate: float | None = None
  epsilon1: float = 1e-30
  epsilon2: float = 1e-3

  def transformation(
    self, schedule: Callable[[Array], Array], first_step: int = 0
  ) -> optax.GradientTransformation:
    """The optax transformation.

    Args:
      schedule: Learning rate by step.
      first_step: Where the step counter starts. The original continues the counter of
        the pretrained checkpoint (1,100,000 for LM-adapted T5 1.1): decay is then
        0.999985 from the first update and clipping fires on every one of them. From 0
        the schedule is milder.
    """

    def init(params: PyTree) -> AdafactorState:
      slots = jax.tree.map(lambda p: self.zero_slots(p.shape), params)
      return AdafactorState(jnp.asarray(first_step, jnp.int32), slots)

    def update(
      grads: PyTree, state: AdafactorState, params: PyTree
    ) -> tuple[PyTree, AdafactorState]:
      rate = schedule(state.step)
      decay = self._decay(state.step)
      leaves, structure = jax.tree.flatten(params)
      slots = jax.tree.leaves(state.slots, is_leaf=lambda x: isinstance(x, Slots))
      results = [
        self._update_one(*each, rate, decay)
        for each in zip(jax.tree.leaves(grads), slots, leaves, strict=True)
      ]
      updates, new_slots = zip(*results, strict=True) if results else ((), ())
      return (
        jax.tree.unflatten(structure, updates),
        AdafactorState(state.step + 1, jax.tree.unflatten(structure, new_slots)),
      )

    return optax.GradientTransformation(init, update)

  def _decay(self, step: Array) -> Array:
    count = (step - self.step_offset + 1).astype(jnp.float32)
    return 1.0 - count ** (-self.decay_rate)

  def _factored_axes(self, shape: Shape) -> tuple[int, int] | None:
    """(row, column) axes of a factored matrix: the smaller and the larger one."""
    if not self.factored or len(shape) != 2:
      return None
    row, col = (int(axis) for axis in np.argsort(shape, kind="stable"))
    return (row, col) if shape[row] >= self.min_dim_size_to_factor else None

  def zero_slots(self, shape: Shape) -> Slots:
    """The slots of a parameter of `shape` before the first update."""
    zeros = jnp.zeros
    momentum = zeros(shape if self.beta1 is not None else _EMPTY)
    axes = self._factored_axes(shape)
    if axes is None:
      return Slots(zeros(_EMPTY), zeros(_EMPTY), zeros(shape), momentum)
    row, col = axes
    return Slots(zeros((shape[row],)), zeros((shape[col],)), zeros(_EMPTY), momentum)

  def _update_one(
    self, grad: Array, slots: Slots, param: Array, rate: Array, decay: Array
  ) -> tuple[Array, Slots]:
    grad, param = grad.astype(jnp.float32), param.astype(jnp.float32)
    direction, slots = self._precondition(grad, slots, decay)
    if self.clipping_threshold is not None:
      direction = direction / jnp.maximum(1.0, _rms(direction) / self.clipping_threshold)
    scale = rate
    if self.multiply_by_parameter_scale:
      scale = scale * jnp.maximum(_rms(param), self.epsilon2)
    move = scale * direction
    if self.beta1 is not None:
      move = self.beta1 * slots.m + (1.0 - self.beta1) * move
      slots = slots._replace(m=move)
    return -move - (self.weight_decay_rate or 0.0) * param, slots

  def _precondition(self, grad: Array, slots: Slots, decay: Array) -> tuple[Array, Slots]:
    """The gradient divided by the root of its running second moment."""
    square = jnp.square(grad) + self.epsilon1
    axes = self._factored_axes(grad.shape)
    if axes is None:
      v = decay * slots.v + (1.0 - decay) * square
      return grad * jax.lax.rsqrt(v), slots._replace(v=v)
    row, col = axes
    v_row = decay * slots.v_row + (1.0 - decay) * jnp.mean(square, axis=col)
    v_col = decay * slots.v_col + (1.0 - decay) * jnp.mean(square, axis=row)
    row_factor = jax.lax.rsqrt(v_row / jnp.mean(v_row))
    direction = (
      grad * jnp.expand_dims(row_factor, col) * jnp.expand_dims(jax.lax.rsqrt(v_col), row)
    )
    return direction, slots._replace(v_row=v_row, v_col=v_col)


def _rms(x: Array) -> Array:
  return jnp.sqrt(jnp.mean(jnp.square(x)))
