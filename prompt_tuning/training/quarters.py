"""Losses at target positions, left out where nothing counts.

Rows are as long as their features say and answers are a few tokens, so most positions are
padding, while logits are the widest thing that a model makes. Positions that count go to
the front of their row, and quarters of the length (of 8 positions at least) in which no row
has any are left out. In small:

  weights            counted first       made
  1 1 . . . . . .    1 1|. .|. .|. .     yes yes no no
  . . 1 . 1 1 . .    1 1|1 .|. .|. .

Rows stay where they are, so that this is the same for a batch over several devices. A
quarter's gradient is made with its losses, so that no logits are kept for later.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from prompt_tuning.types import Array

_PARTS = 4
_LEAST = 8  # positions of a part: products of fewer rows wait for the matrix
_Args = tuple[Array, ...]
Losses = Callable[[Array, Array], tuple[Array, Any]]


def where_weighted(
  losses: Losses, weights: Array, hidden: Array, targets: Array
) -> tuple[Array, Any]:
  """The losses of the positions that have a weight.

  Args:
    losses: Of hidden [batch, part, d_model] float32 and targets [batch, part]: the loss
      of each position, [batch, part] float32, and more of that shape, without gradients.
    weights: [batch, length], 0 where nothing is asked for.
    hidden: [batch, length, d_model].
    targets: [batch, length] int32.

  Returns:
    What `losses` returns, each [batch, length]; of positions of weight 0 it has no meaning.
  """
  length = weights.shape[1]
  size = max(_LEAST, -(-length // _PARTS))
  parts = -(-length // size)
  order = jnp.argsort(weights == 0, axis=1, stable=True)
  counted = jnp.max(jnp.sum(weights != 0, axis=1))

  def in_front(x: Array) -> Array:
    fill = [(0, 0), (0, parts * size - length), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(_picked(x, order), fill)

  front = (in_front(hidden.astype(jnp.float32)), in_front(targets))
  closed, learned = jax.closure_convert(losses, *(_part(x, 0, size) for x in front))
  found = _looped(closed, size, -(-counted // size), *front, *learned)
  back = jnp.argsort(order, axis=1)
  return jax.tree.map(lambda x: _picked(x[:, :length], back), found)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _looped(
  losses: Callable[..., Any],
  size: int,
  parts: Array,
  hidden: Array,
  targets: Array,
  *learned: Array,
) -> tuple[Array, Any]:
  """The losses of the first `parts` parts, each of `size` positions."""
  closed = partial(_with, losses, learned)
  return _each_part(closed, size, parts, hidden, targets)


def _with(losses: Callable[..., Any], learned: Sequence[Array], *rows: Array) -> Any:
  return losses(*rows, *learned)


def _forward(losses: Callable[..., Any], size: int, *given: Any) -> tuple[Any, Any]:
  """The losses and, unless the logits' matrix learns, their gradients by `hidden`."""
  parts, hidden, targets, *learned = (x.value for x in given)
  if any(x.perturbed for x in given[3:]):  # it needs all logits, and once is enough

    def whole(hidden: Array, *learned: Array) -> tuple[Array, Any]:
      places = range(0, hidden.shape[1], size)
      rows = [(_part(hidden, i, size), _part(targets, i, size)) for i in places]
      found = [losses(*row, *learned) for row in rows]
      return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *found)

    loss, pull, rest = jax.vjp(whole, hidden, *learned, has_aux=True)
    return (loss, rest), (pull, None, None)

  def with_slopes(hidden: Array, targets: Array) -> Any:
    closed = partial(_with, losses, learned)
    loss, pull, rest = jax.vjp(lambda x: closed(x, targets), hidden, has_aux=True)
    return (loss, rest), pull(jnp.ones_like(loss))[0]

  found, slopes = _each_part(with_slopes, size, parts, hidden, targets)
  return found, (None, slopes, [None] * len(learned))


def _backward(
  losses: Callable[..., Any], size: int, kept: Any, cotangents: Any
) -> tuple[Any, ...]:
  del losses, size
  pull, slopes, frozen = kept
  by_loss, _ = cotangents  # nothing else is ever minimized
  if pull is not None:
    hidden, *learned = pull(by_loss)
    return None, hidden, None, *learned
  return None, by_loss[..., None] * slopes, None, *frozen


_looped.defvjp(_forward, _backward, symbolic_zeros=True)


def _each_part(
  function: Callable[..., Any], size: int, parts: Array, *arrays: Array
) -> Any:
  """What `function` makes of the first parts of arrays [batch, length, ...], then zeros."""
  length = arrays[0].shape[1]
  shapes = jax.eval_shape(function, *(_part(x, 0, size) for x in arrays))
  empty = jax.tree.map(
    lambda x: jnp.zeros((x.shape[0], length, *x.shape[2:]), x.dtype), shapes
  )

  def one(i: Array, found: Any) -> Any:
    made = function(*(_part(x, i * size, size) for x in arrays))
    write = partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * size, axis=1)
    return jax.tree.map(write, found, made)

  return jax.lax.fori_loop(0, parts, one, empty)


def _part(x: Array, start: Array | int, size: int) -> Array:
  """[batch, size, ...] from `start` on."""
  return jax.lax.dynamic_slice_in_dim(x, start, size, axis=1)


def _picked(x: Array, places: Array) -> Array:
  """[batch, length, ...] at `places` [batch, length] of each row."""
  return jnp.take_along_axis(x, places.reshape(*places.shape, *[1] * (x.ndim - 2)), axis=1)
