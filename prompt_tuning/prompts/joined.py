"""Inputs and targets as the one sequence that a decoder-only model reads.

Features stay T5X's. The last input moves to where it is asked for the first target, so that
hidden states at the places of the targets are those that say them:

  encoder_input_tokens    a b c .          tokens      a b . . | c X Y .
  decoder_target_tokens   X Y 1 .          positions   0 1 . . | 2 3 4 .
  decoder_input_tokens    0 X Y .          segments    1 1 0 0 | 1 1 1 0

In packed rows each segment does the same:

  encoder_input_tokens    a b d e .        tokens      a . d . . | b X e Y
  encoder_segment_ids     1 1 2 2 0        positions   0 . 0 . . | 1 2 1 2
  decoder_target_tokens   X 1 Y 1          segments    1 0 2 0 0 | 1 1 2 2
"""

import dataclasses

import jax
import jax.numpy as jnp

from prompt_tuning.models.masks import outer_mask, same_segment
from prompt_tuning.prompts.packed import Packed
from prompt_tuning.types import Array

_EOS = 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Part:
  """Tokens of rows, each [rows, length] int32.

  Attributes:
    tokens: Ids.
    positions: From 0 in each segment.
    segments: From 1; 0 at padding, which nobody sees.
  """

  tokens: Array
  positions: Array
  segments: Array

  def before(self, part: "Part") -> "Part":
    """Its tokens and, in the same rows, those of another part behind them."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), self, part)

  def mask(self, keys: "Part") -> Array:
    """Who sees whom of `keys`, [rows, 1, length, keys] bool: its own segment so far."""
    real = outer_mask(self.segments > 0, keys.segments > 0)
    so_far = keys.positions[:, None, None, :] <= self.positions[:, None, :, None]
    return real & so_far & same_segment(self.segments, keys.segments)


def of_inputs(inputs: Array) -> tuple[Part, Array, Array]:
  """Inputs in rows of one example each.

  Args:
    inputs: [batch, input_len] int32, 0 pads. The EOS in the end, if there is one, is not
      read: T5's tasks append it, and to a decoder-only model all would be said.

  Returns:
    All but their last token; that token [batch] int32, 0 where there is none; and its
    position [batch] int32.
  """
  length = inputs.shape[1]
  place = jnp.arange(length, dtype=jnp.int32)[None]
  count = jnp.sum((inputs > 0).astype(jnp.int32), axis=1)
  ended = jnp.any((inputs == _EOS) & (place == count[:, None] - 1), axis=1)
  count = count - ended.astype(jnp.int32)
  end = jnp.maximum(count - 1, 0)
  last = jnp.take_along_axis(inputs, end[:, None], axis=1)[:, 0]
  last = jnp.where(count > 0, last, 0)
  segments = (place < end[:, None]).astype(jnp.int32)
  tokens = inputs * segments
  return Part(tokens, jnp.broadcast_to(place, inputs.shape), segments), last, end


def of_targets(targets: Array, last: Array, end: Array) -> Part:
  """Targets behind inputs.

  Args:
    targets: [rows, target_len] int32, 0 pads.
    last: [rows] int32, the last input of each.
    end: [rows] int32, its position.
  """
  place = jnp.arange(targets.shape[1], dtype=jnp.int32)[None]
  tokens = jnp.concatenate([last[:, None], targets[:, :-1]], axis=1)
  return Part(tokens, place + end[:, None], (targets > 0).astype(jnp.int32))


def of_packed(inputs: Array, targets_in: Array, packed: Packed) -> tuple[Part, Part]:
  """Inputs without the last of each segment, and targets behind them.

  Args:
    inputs: [batch, input_len] int32, see `of_inputs`.
    targets_in: [batch, target_len] int32, `decoder_input_tokens`.
    packed: Which segment each token belongs to.
  """
  own, asked = packed.segment_ids, packed.decoder_segment_ids
  own = jnp.where(_is_last(own) & (inputs == _EOS), 0, own)
  is_last = _is_last(own)
  kept = jnp.where(is_last, 0, own)
  front = Part(inputs * (kept > 0).astype(jnp.int32), packed.positions(), kept)
  # Where the last input of each target's segment is, [batch, target_len]; 0 for none.
  place = jnp.arange(1, inputs.shape[1] + 1, dtype=jnp.int32)[None, None]
  found = same_segment(asked, own)[:, 0] & is_last[:, None]
  where = jnp.max(jnp.where(found, place, 0), axis=2)
  at = jnp.maximum(where - 1, 0)
  last = jnp.where(where > 0, jnp.take_along_axis(inputs, at, axis=1), 0)
  end = jnp.where(where > 0, jnp.take_along_axis(packed.positions(), at, axis=1), 0)
  nth = packed.decoder_positions()
  tokens = jnp.where(nth == 0, last, targets_in)
  return front, Part(tokens, end + nth, asked)


def _is_last(segments: Array) -> Array:
  """Where a segment ends: [batch, length] bool."""
  after = jnp.pad(segments, ((0, 0), (0, 1)))[:, 1:]
  return (segments > 0) & (segments != after)
